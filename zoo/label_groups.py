"""Labels that exclude each other: the outputs of a multi-output task (gender, season ...) in one table of labels.

    counts (L,), co-occurrence (L,L) --exact cover--> exactly one of (female, male) on every image
                                     --cliques of pairs that never occur--> at most one of (bear, toilet)

That every image has exactly one label of a group can be read off the counts, without the images: no two of its
labels occur together, and their counts sum to the number of images. More: of any label's images each has exactly
one label of the group, so that with the counts on the diagonal the group's columns of the co-occurrence matrix sum
to the counts, row by row. Groups are therefore exact covers, and they are searched for as Knuth does
(Dancing links, 2000, https://arxiv.org/abs/cs/0011047): take what is hardest to cover, try what could cover it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from zoo.annotations import NEGATIVE, POSITIVE, UNKNOWN, Annotations
from zoo.counts import LabelCounts

# Groups of "at most one" are looked for among the most frequent labels: of rare ones nothing can be told anyway.
FREQUENT = 2048
# Labels that the search for exact covers tries, where it has a choice, before it gives up. Real outputs take dozens;
# thousands of labels strewn at random could take for ever.
CHOICES = 2000


@dataclass(frozen=True)
class LabelGroup:
    """Labels of which no image has two.

    Attributes:
        labels: at least two, the most frequent first.
        images: the images in which all of them are known.
        with_one: how many of these have one of them.
    """

    labels: tuple[str, ...]
    images: int
    with_one: int

    @property
    def exactly_one(self) -> bool:
        """Whether every image has one."""
        return self.with_one == self.images > 0

    def __str__(self) -> str:
        names = ", ".join(self.labels[:8]) + (
            f", ... ({len(self.labels):,} labels)" if self.labels[8:] else ""
        )
        if self.exactly_one:
            return f"exactly one of {names}: on all of {self.images:,} images"
        share = min(self.with_one / max(self.images, 1), 0.999)  # 100.0 % would say that it is all
        return f"at most one of {names}: one on {100 * share:.1f} % of {self.images:,} images"


@dataclass(frozen=True)
class LabelGroups:
    """The groups of a label space, those with most images first.

    Attributes:
        groups: no label is in two of them.
        complete: false where the search for "exactly one" was stopped, so that there may be more.
    """

    groups: list[LabelGroup]
    complete: bool = True


def exclusive_groups(counts: LabelCounts, annotations: Annotations | None = None) -> LabelGroups:
    """Groups of labels that exclude each other.

    *Exactly one* is exact: one wrong annotation in a million, and a group has *at most one*, or none. It is found
    among labels that are known in the same images. *At most one* are labels that never occur together although
    by chance every pair of them would have to: with fewer than one pair of labels in a hundred label spaces by
    accident, if labels were independent. Of groups that overlap the one with the most frequent labels is found;
    labels that are never positive, or always, are in none.

    Args:
        counts: of the annotations.
        annotations: what was counted. Only needed where something is unknown: without them, labels that are not
            known in every image are left out.
    """
    known = np.full(len(counts.label_names), counts.num_images) if counts.known is None else counts.known
    alike = _known_alike(known, counts.num_images, annotations)
    free = (counts.counts > 0) & (counts.counts < known) & (alike >= 0)
    groups, complete = [], True
    for kind in np.flatnonzero(np.bincount(alike[free]) > 1):
        (labels,) = np.nonzero(alike == kind)
        matrix = counts.cooccurrence if len(labels) == len(known) else counts.cooccurrence[labels][:, labels]
        search = _Search(counts.counts[labels], sp.csr_array(matrix), int(known[labels[0]]))
        while (cover := search.cover(free[labels])) is not None:
            free[labels[cover]] = False
            groups.append(_group(counts, labels[cover], None))
        complete &= search.choices >= 0
    for clique in _never_together(counts, annotations, known, np.flatnonzero(free), alike):
        one_kind = len(np.unique(alike[clique])) == 1
        groups.append(_group(counts, clique, None if one_kind else annotations))
    return LabelGroups(sorted(groups, key=lambda group: (not group.exactly_one, -group.with_one)), complete)


def _group(counts: LabelCounts, labels: np.ndarray, annotations: Annotations | None) -> LabelGroup:
    labels = labels[np.argsort(-counts.counts[labels], kind="stable")]
    names = tuple(counts.label_names[label] for label in labels)
    if annotations is None:  # known in the same images
        images = counts.num_images if counts.known is None else int(counts.known[labels[0]])
        return LabelGroup(names, images, int(counts.counts[labels].sum()))
    those = annotations.treated("ignored").columns(labels)
    told = those.where(POSITIVE, NEGATIVE) if annotations.absent else those.where(UNKNOWN)
    all_known = told.sum(axis=1) == (len(labels) if annotations.absent else 0)
    with_one = those.where(POSITIVE).sum(axis=1) == 1
    return LabelGroup(names, int(all_known.sum()), int((all_known & with_one).sum()))


def _known_alike(known: np.ndarray, num_images: int, annotations: Annotations | None) -> np.ndarray:
    """(L,) a number for each label, equal for labels that are known in the same images; -1: it cannot be told."""
    if annotations is None:
        return np.where(known == num_images, 0, -1)
    stored = annotations.treated("ignored")
    told = (stored.where(POSITIVE, NEGATIVE) if stored.absent else stored.where(UNKNOWN)).tocsc()
    told.sort_indices()
    numbers: dict[bytes, int] = {}
    return np.array(
        [
            numbers.setdefault(told.indices[start:end].tobytes(), len(numbers))
            for start, end in itertools.pairwise(told.indptr)
        ]
    )


class _Search:
    """Exact covers of ``num_images`` images by labels of which no two occur together."""

    def __init__(self, counts: np.ndarray, cooccurrence: sp.csr_array, num_images: int) -> None:
        self.counts, self.num_images, self.choices = counts, num_images, float(CHOICES)
        # On how many images of the row's label the column's is: its own are on all.
        self.together = sp.csr_array(cooccurrence + sp.diags_array(counts, dtype=np.int64))
        # The fewer labels occur with one, the fewer could cover its images.
        self.hardest_first = np.argsort(np.diff(self.together.indptr), kind="stable")

    def cover(self, free: np.ndarray) -> np.ndarray | None:
        """A cover by labels that are free, the most frequent first; ``None``: there is none, or it gave up."""
        stack = [_Node(-1, free.copy(), self.counts.copy(), self.num_images, int(self.counts[free].sum()), 0)]
        self._prepare(stack[0])
        while stack:
            node = stack[-1]
            if not node.options or node.reach < node.images:
                stack.pop()
                continue
            label = node.options.pop()
            self.choices -= 1 if node.options else 0.02  # a forced choice costs little time
            if self.choices < 0:
                return None
            others, together = self._beside(label)
            node.free[label] = False  # what follows in this node is without it
            node.reach -= int(self.counts[label])
            # The last option takes over its node's arrays: a chain of forced choices costs no memory.
            free, left = (array.copy() if node.options else array for array in (node.free, node.left))
            lost = others[free[others]]
            free[lost] = False
            left[others] -= together
            images, reach = node.images - int(self.counts[label]), node.reach - int(self.counts[lost].sum())
            stack.append(_Node(label, free, left, images, reach, node.place))
            if images == 0:
                return np.array([node.label for node in stack[1:]])
            self._prepare(stack[-1])
        return None

    def _prepare(self, node: _Node) -> None:
        """The labels that could cover images of the label that is hardest to cover, the best last."""
        while node.place < len(self.hardest_first) and not node.left[self.hardest_first[node.place]]:
            node.place += 1
        if node.place == len(self.hardest_first):  # the images that are left have no label
            return
        hardest = int(self.hardest_first[node.place])
        options, together = self._beside(hardest)
        free = node.free[options]
        if together[free].sum() >= node.left[hardest]:
            options = options[free]
            node.options = options[np.argsort(self.counts[options], kind="stable")].tolist()

    def _beside(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """The labels that occur with one, itself among them, and on how many images."""
        start, end = self.together.indptr[label : label + 2]
        return self.together.indices[start:end], self.together.data[start:end]


@dataclass
class _Node:
    """A label that was chosen, and what there is after it.

    Attributes:
        label: the chosen one.
        free: (L,) labels that may still be chosen.
        left: (L,) images of each label that are not covered.
        images: that are not covered.
        reach: images that all free labels would cover at most.
        place: in the order of the labels that are hard to cover, before which all are covered.
        options: free labels of which one must be chosen, the best last.
    """

    label: int
    free: np.ndarray
    left: np.ndarray
    images: int
    reach: int
    place: int
    options: list[int] = field(default_factory=list)


def _never_together(
    counts: LabelCounts,
    annotations: Annotations | None,
    known: np.ndarray,
    free: np.ndarray,
    alike: np.ndarray,
) -> list[np.ndarray]:
    """Cliques of labels no two of which occur together, though by chance they would have to."""
    frequent = free[np.argsort(-counts.counts[free], kind="stable")][:FREQUENT]
    if len(frequent) < 2:
        return []
    positives, share = counts.counts[frequent], counts.counts[frequent] / known[frequent]
    # Images that have the row's label and in which the column's is known.
    seen = np.repeat(positives[:, None], len(frequent), axis=1)
    if annotations is not None and len(np.unique(alike[frequent])) > 1:
        those = annotations.treated("ignored").columns(frequent)
        apart = those.where(POSITIVE, NEGATIVE) if those.absent else those.where(UNKNOWN)
        beside = (those.where(POSITIVE).astype(np.int64).T @ apart.astype(np.int64)).toarray()
        seen = beside if those.absent else seen - beside
    by_chance = seen * share[None]
    by_chance = np.minimum(by_chance, by_chance.T)
    # The chance of none is at most exp(-by_chance); below 1 % for any of the pairs together.
    enough = math.log(100 * math.comb(len(known), 2))
    together = counts.cooccurrence[frequent][:, frequent].toarray() > 0
    apart = (by_chance >= enough) & ~together & ~np.eye(len(frequent), dtype=bool)
    rows, columns = np.nonzero(np.triu(apart))
    cliques, taken = [], np.zeros(len(frequent), dtype=bool)
    for pair in np.argsort(-by_chance[rows, columns], kind="stable"):
        clique = [rows[pair], columns[pair]]
        if taken[clique].any():
            continue
        open_ = apart[clique].all(0) & ~taken
        while open_.any():  # the most frequent first
            clique.append(np.argmax(open_))
            open_ &= apart[clique[-1]]
        taken[clique] = True
        cliques.append(frequent[clique])
    return cliques
