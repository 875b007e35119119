"""Labels that imply each other: hierarchies that data bring along, and those that their annotations show.

(parent, child) pairs --annotations--> images with the child and without its parent
counts, co-occurrence ---------------> dog -> animal on every image, boat = ship on every image
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from zoo.annotations import NEGATIVE, POSITIVE, UNKNOWN, Annotations
from zoo.counts import LabelCounts, LabelPair
from zoo.lookup import unknown


def always_together(counts: LabelCounts, min_images: int = 10) -> list[tuple[str, ...]]:
    """Labels that are on the same images: each implies the others, on at least so many images."""
    from scipy.sparse.csgraph import connected_components  # it takes a fifth of a second to import

    num_labels, (source, target, _) = len(counts.label_names), _certain(counts, min_images)
    both = np.isin(source * num_labels + target, target * num_labels + source)
    matrix = sp.coo_array((both[both], (source[both], target[both])), shape=(num_labels, num_labels))
    _, number = connected_components(matrix, directed=False)
    members: dict[int, list[str]] = {}
    for label in np.unique(source[both]):
        members.setdefault(int(number[label]), []).append(counts.label_names[label])
    return [tuple(names) for names in members.values()]


def implications(counts: LabelCounts, min_images: int = 10) -> list[LabelPair]:
    """Pairs in which every image with ``given`` has ``label``, and not the other way round.

    Of a chain only its links: with dog -> mammal and mammal -> animal there is no dog -> animal. Left out is what
    chance explains: a label on nearly every image, or too few images for the number of pairs that were looked at.

    Args:
        counts: of the annotations.
        min_images: how many images it must have held on, at least.

    Returns:
        Those that held on most images first.
    """
    num_labels, (source, target, images) = len(counts.label_names), _certain(counts, min_images)
    known = np.full(num_labels, counts.num_images) if counts.known is None else counts.known
    # By chance all of n images would have a label of share s in s^n of cases; below 1 % for any of all pairs.
    surprise = -images * np.log(counts.counts[target] / known[target])
    one_way = ~np.isin(source * num_labels + target, target * num_labels + source)
    keep = one_way & (surprise >= math.log(100 * max(num_labels * (num_labels - 1), 1)))
    source, target, images = source[keep], target[keep], images[keep]

    links = sp.csr_array((np.ones(len(source)), (source, target)), shape=(num_labels, num_labels))
    chains = (links @ links).tocoo()
    direct = ~np.isin(source * num_labels + target, chains.row.astype(np.int64) * num_labels + chains.col)
    name = counts.label_names
    found = [
        LabelPair(name[i], name[j], 1.0, int(n))
        for i, j, n in zip(source[direct], target[direct], images[direct], strict=True)
    ]
    return sorted(found, key=lambda pair: (-pair.images, pair.given, pair.label))


def _certain(counts: LabelCounts, min_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs with P(target | source) = 1: source, target, and the number of images."""
    probability = counts.p_column_given_row().tocoo()
    certain = probability.data == 1.0  # n / n is one to the last bit
    source, target = (axis[certain].astype(np.int64) for axis in (probability.row, probability.col))
    images = np.asarray(counts.cooccurrence[source, target]).ravel() if len(source) else np.empty(0, np.int64)
    enough = images >= min_images
    return source[enough], target[enough], images[enough]


@dataclass(frozen=True)
class Link:
    """One pair of a hierarchy, and what the annotations make of it.

    Attributes:
        parent: the label that the other implies.
        child: the label that implies it.
        images: with the child.
        contradicted: of these, those in which the parent is negative.
        unknown: those in which the parent is unknown.
    """

    parent: str
    child: str
    images: int
    contradicted: int
    unknown: int


def check_hierarchy(
    hierarchy: Sequence[tuple[str, str]], annotations: Annotations, label_names: Sequence[str]
) -> list[Link]:
    """Counts the images in which a child is positive and its parent is not.

    Args:
        hierarchy: (parent, child) pairs.
        annotations: difficult entries count as unknown.
        label_names: of their columns.

    Raises:
        InputError: a name that is no label.
    """
    index = {name: i for i, name in enumerate(label_names)}
    for name in (name for pair in hierarchy for name in pair):
        if name not in index:
            raise unknown("label of the hierarchy", name, index)
    columns = {
        code: annotations.treated("ignored").where(code).tocsc() for code in (POSITIVE, NEGATIVE, UNKNOWN)
    }

    def images(code: int, label: str) -> np.ndarray:
        start, end = columns[code].indptr[index[label] : index[label] + 2]
        return columns[code].indices[start:end]

    links = []
    for parent, child in hierarchy:
        those = images(POSITIVE, child)
        said = {code: int(np.isin(those, images(code, parent)).sum()) for code in columns}
        unsaid = len(those) - sum(said.values())
        said[UNKNOWN if annotations.absent else NEGATIVE] += unsaid
        links.append(Link(parent, child, len(those), said[NEGATIVE], said[UNKNOWN]))
    return links


def hierarchy_tree(hierarchy: Sequence[tuple[str, str]]) -> list[tuple[int, str]]:
    """The hierarchy as lines of an indented tree: depth and name, top down.

    A label with several parents stands below each, its own children below the first only; so does one of a cycle,
    which has no top and begins at its first label.
    """
    children: dict[str, list[str]] = {}
    for parent, child in hierarchy:
        children.setdefault(parent, []).append(child)
    below = {child for _, child in hierarchy}
    lines: list[tuple[int, str]] = []
    expanded: set[str] = set()
    for top in [*(parent for parent in children if parent not in below), *children]:
        stack = [(0, top)] if top not in expanded else []
        while stack:
            depth, name = stack.pop()
            lines.append((depth, name))
            if name not in expanded:
                expanded.add(name)
                stack += [(depth + 1, child) for child in reversed(children.get(name, []))]
    return lines
