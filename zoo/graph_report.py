"""What there is to know of a label space before any training: the report of ``zoo graph``.

counts (L,), co-occurrence (L,L) --+--> labels, edges at several thresholds, strongest and removed ones
annotations (N,L), hierarchy ------+--> groups that exclude each other, labels that imply each other, warnings
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch_geometric.data import Data

from zoo.annotations import POSITIVE, Annotations
from zoo.counts import LabelCounts, label_pairs
from zoo.label_groups import exclusive_groups
from zoo.label_hierarchy import always_together, check_hierarchy, hierarchy_tree, implications
from zoo.progress import watched
from zoo.thresholds import THRESHOLDS, connectivity, threshold_for

WIDTH = 100  # columns
FEW = 10  # positives below which a label is hardly learned, and images below which "always" says little
MOST = 0.95  # share of images from which on a label is on nearly every one


def warnings(counts: LabelCounts, threshold: float | None = None) -> list[str]:
    """What is likely to go wrong with these labels, and which they are.

    Args:
        counts: of the training images.
        threshold: of the label graph; ``None`` if it has none.
    """
    names, positives = counts.label_names, counts.counts
    known = np.full(len(names), counts.num_images) if counts.known is None else counts.known

    def named(which: np.ndarray, numbers: np.ndarray | None = None, show: int = 8) -> str:
        order = np.flatnonzero(which)
        if numbers is not None:
            order = order[np.argsort(numbers[order], kind="stable")]
        return _some([names[i] + (f" {numbers[i]:,}" if numbers is not None else "") for i in order], show)

    found = []
    never = positives == 0
    if never.any():
        found.append(f"{_many(never.sum(), 'label')} never positive: {named(never)}")
    few = ~never & (positives < FEW)
    if few.any():
        found.append(
            f"{_many(few.sum(), 'label')} with fewer than {FEW} positive images: {named(few, positives)}"
        )
    most = positives >= np.maximum(MOST * known, 1)
    if most.any():
        found.append(f"{_many(most.sum(), 'label')} on {100 * MOST:.0f} % of images or more: {named(most)}")
    if (known < counts.num_images / 2).any():
        seldom = known < counts.num_images / 2
        found.append(
            f"{_many(seldom.sum(), 'label')} known in fewer than half of the {counts.num_images:,} images: "
            f"{named(seldom, known)}"
        )
    for group in always_together(counts, FEW)[:5]:
        found.append(f"always on the same images, one label under several names? {_some(group)}")
    if threshold is not None:
        alone = len(connectivity(counts, [threshold])[0].isolated)
        if 2 * alone > len(names):
            best = threshold_for(counts)
            advice = (
                "; any of 0.01 or more leaves most of them alone"
                if best is None
                else f"; {best:g} is the largest that leaves at least half of the labels an edge"
            )
            found.append(f"threshold {threshold:g} isolates {alone:,} of {len(names):,} labels{advice}")
    return found


def graph_report(
    counts: LabelCounts,
    threshold: float | None,
    annotations: Annotations | None = None,
    hierarchy: Sequence[tuple[str, str]] = (),
) -> str:
    """All of it as text of at most 100 columns, long names apart.

    Args:
        counts: of the training images.
        threshold: of the label graph; ``None`` if its kind of edges has none, and that of 0.1 is described.
        annotations: what was counted, for what counts alone do not tell; ``None`` where there are none.
        hierarchy: (parent, child) pairs of labels.

    Raises:
        InputError: the hierarchy names a label that does not exist.
    """
    marked = 0.1 if threshold is None else threshold
    sections: list[Callable[[], list[str]]] = [
        lambda: _sizes(counts, annotations),
        lambda: _edges(counts, marked, threshold is not None),
        lambda: _groups(counts, annotations),
        lambda: _implied(counts),
        lambda: _hierarchy(counts, annotations, hierarchy),
        lambda: [f"  {line}" for line in warnings(counts, threshold)],
    ]
    texts = [section() for section in watched(sections, "looking at labels")]
    if texts[-1]:
        texts[-1].insert(0, "warnings:")
    return "\n".join(line for text in texts for line in _wrapped(text))


_NOT_OF_EDGES = ("embeddings", "words", "num_images")  # of a recipe


def describe_graph(graph: Data) -> str:
    """What kind of label graph it is, its edges, and the labels without any; at most 100 columns wide."""
    source, target = graph.edge_index.numpy()
    apart = source != target
    linked = np.unique(np.concatenate([source[apart], target[apart]]))
    negative = int((graph.edge_weight.numpy()[apart] < 0).sum())
    recipe = {key: value for key, value in graph.recipe.items() if key not in _NOT_OF_EDGES}
    kind = recipe.pop("edges", "edges of a file")
    options = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in recipe.items()
    )
    line = (
        f"label graph: {kind}{f' ({options})' if options else ''}, {int(apart.sum()):,} edges beside self-loops"
        + (f", {negative:,} of them negative" if negative else "")
        + f", {_many(len(graph.label_names) - len(linked), 'label')} without any"
    )
    return "\n".join(_wrapped([line]))


def describe_vectors(graph: Data) -> str:
    """Where the label vectors come from, and which labels were read as other words than their names."""
    read_as = [f"{label} as {', '.join(words)}" for label, words in graph.recipe.get("words", {}).items()]
    line = f"label vectors: {graph.recipe['embeddings']}"
    return "\n".join(_wrapped([f"{line}; read {_some(read_as, 20)}" if read_as else line]))


def _sizes(counts: LabelCounts, annotations: Annotations | None) -> list[str]:
    names, images = counts.label_names, max(counts.num_images, 1)
    rarest = sorted(zip(counts.counts.tolist(), names, strict=True))[:5]
    lines = [
        f"{_many(len(names), 'label')} on {_many(counts.num_images, 'image')}; "
        f"rarest: {', '.join(f'{name} {count:,}' for count, name in rarest)}"
    ]
    per_image = f"{counts.counts.sum() / images:.2f} labels per image"
    if annotations is not None and len(annotations):
        each = annotations.where(POSITIVE).sum(axis=1)
        per_image += (
            f", from {each.min():,} to {each.max():,}; {_many((each == 0).sum(), 'image')} without any"
        )
    if counts.known is not None:
        unknown = 1 - counts.known.sum() / (images * len(names))
        least = int(np.argmin(counts.known))
        per_image += (
            f"; {unknown:.1%} unknown, most of {names[least]}: known in {_many(counts.known[least], 'image')}"
        )
    return [*lines, per_image]


def _edges(counts: LabelCounts, threshold: float, is_marked: bool) -> list[str]:
    rows = {row.threshold: row for row in connectivity(counts, sorted({*THRESHOLDS, threshold}))}
    lines = [
        f"{row}  <- threshold" if is_marked and tau == threshold else str(row) for tau, row in rows.items()
    ]
    kept = label_pairs(counts, at_least=threshold, limit=8)
    removed = label_pairs(counts, below=threshold, limit=8)
    for title, pairs in (
        ("strongest edges:", kept),
        (f"strongest that the threshold{'' if is_marked else f' {threshold:g}'} removes:", removed),
    ):
        lines += [title, *(f"  {pair}" for pair in pairs)] if pairs else [f"{title} none"]
    if alone := rows[threshold].isolated:
        lines.append(f"labels without any edge at {threshold:g}: {_some(alone, 30)}")
    return lines


def _groups(counts: LabelCounts, annotations: Annotations | None, show: int = 5) -> list[str]:
    found = exclusive_groups(counts, annotations)
    lines = []
    for title, exactly in (
        ("groups with exactly one label on every image:", True),
        ("groups with at most one label on any image, which chance does not explain:", False),
    ):
        groups = [group for group in found.groups if group.exactly_one == exactly]
        if groups or exactly:
            lines += [title, *(f"  {group}" for group in groups[:show])]
        if not groups and exactly:
            lines[-1] += " none" if found.complete else " none found; the search was stopped"
        if len(groups) > show:
            lines.append(f"  and {_many(len(groups) - show, 'smaller group')}")
    if not found.complete:
        lines.append("  (the search was stopped before its end: there may be more groups with exactly one)")
    return lines


def _implied(counts: LabelCounts, show: int = 8) -> list[str]:
    found = implications(counts, FEW)
    if not found:
        return []
    lines = [f"implied on every image, {_many(len(found), 'pair')} that chance does not explain:"]
    lines += [f"  {pair.given} -> {pair.label}, {pair.images:,} images" for pair in found[:show]]
    return lines + ([f"  and {len(found) - show:,} more"] if len(found) > show else [])


def _hierarchy(
    counts: LabelCounts, annotations: Annotations | None, hierarchy: Sequence[tuple[str, str]], show: int = 30
) -> list[str]:
    if annotations is None or not hierarchy:
        return []
    positives = dict(zip(counts.label_names, counts.counts.tolist(), strict=True))
    links = check_hierarchy(hierarchy, annotations, counts.label_names)
    tree = hierarchy_tree(hierarchy)
    lines = [f"hierarchy of {_many(len(links), 'pair')}, positive images:"]
    lines += [f"  {'  ' * depth}{name} {positives[name]:,}" for depth, name in tree[:show]]
    if len(tree) > show:
        lines.append(f"  and {len(tree) - show:,} more lines")
    wrong = sorted((link for link in links if link.contradicted), key=lambda link: -link.contradicted)
    unsure = sum(link.unknown for link in links)
    if not wrong and not unsure:
        return [*lines, "  the annotations agree with it: no image has a child without its parent"]
    for title, number in (("negative", sum(link.contradicted for link in wrong)), ("unknown", unsure)):
        if number:
            lines.append(f"  a child is positive and its parent {title} {_many(number, 'time')}")
    return lines + [
        f"    {link.child} without {link.parent}: {link.contradicted:,} of {link.images:,} images"
        for link in wrong[:5]
    ]


def _many(number: int | np.integer, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _some(names: Iterable[str], show: int = 8) -> str:
    names = list(names)
    return ", ".join(names[:show]) + (f", ... ({len(names):,} in all)" if len(names) > show else "")


def _wrapped(lines: list[str]) -> Iterable[str]:
    """Lines of at most 100 columns; what is continued is indented, and names are never broken."""
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        yield from textwrap.wrap(
            line,
            WIDTH,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
