"""The kinds of edges: what makes pairs of labels neighbours, and how much each counts.

counts (L,), co-occurrence (L,L) --"topk:k=10"--> source (M,), target (M,), weight (M,): target hears source

Add yours: ``EDGES["mine"] = function``. It takes counts and options by keyword, each with its default, and also
``threshold`` if it has a parameter of that name. Only the weights' proportions matter: :func:`zoo.graph.label_graph`
gives what a label hears the share p of its features, adds self-loops and normalises. A kind that gives self-loops of
its own has final weights, which are taken as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from zoo.arguments import parse_options, split_options
from zoo.chance import (
    Pairs,
    correlation,
    joint_probability,
    occurring_pairs,
    pairs_beyond_chance,
    probability,
)
from zoo.counts import LabelCounts
from zoo.couplings import coupling_edges
from zoo.lookup import InputError, lookup, unknown

Edges: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]  # source, target, weight


def conditional(counts: LabelCounts, *, threshold: float) -> Edges:
    """A label hears those given which it is probable: P(target | source) >= threshold, all alike (ML-GCN)."""
    pairs = counts.p_column_given_row().tocoo()
    kept = pairs.data >= threshold
    return pairs.row[kept], pairs.col[kept], np.ones(int(kept.sum()))


def topk(counts: LabelCounts, *, k: int = 10) -> Edges:
    """A label hears the k labels given which it is most probable, all alike.

    In place of a threshold, which leaves rare labels without neighbours and frequent ones with hundreds.

    Args:
        counts: of the annotations.
        k: neighbours that a label hears, or fewer if it occurs with fewer. Of equally probable ones those with more
            images come first, then the alphabet decides.
    """
    if k < 1:
        raise InputError(f"k must be 1 or more, not {k}")
    by_target = counts.p_column_given_row().tocsc()
    starts = by_target.indptr
    # Only those that tie with the k-th, or come before it, have to be sorted: of millions, few.
    hopeful = np.ones(by_target.nnz, dtype=bool)
    for label in np.flatnonzero(np.diff(starts) > k):
        heard = slice(starts[label], starts[label + 1])
        hopeful[heard] = by_target.data[heard] >= np.partition(by_target.data[heard], -k)[-k]
    source, probable = by_target.indices[hopeful], by_target.data[hopeful]
    target = np.repeat(np.arange(len(starts) - 1), np.diff(starts))[hopeful]
    images = counts.cooccurrence[source, target] if len(source) else source
    name_rank = np.argsort(np.argsort(np.array(counts.label_names)))
    order = np.lexsort((name_rank[source], -images, -probable, target))
    source, target = source[order], target[order]
    place = np.arange(len(target)) - np.searchsorted(target, target)
    return source[place < k], target[place < k], np.ones(int((place < k).sum()))


def ppmi(counts: LabelCounts, *, min_images: int = 6) -> Edges:
    """Positive pointwise mutual information: max(0, log P(i, j) / (P(i) P(j))).

    Church & Hanks 1990 (https://aclanthology.org/J90-1003), Levy & Goldberg 2014
    (https://papers.nips.cc/paper/5477-neural-word-embedding-as-implicit-matrix-factorization).

    Args:
        counts: of the annotations.
        min_images: images that a pair must be on. The measure favours rare pairs, most of all those that met once by
            chance; Church & Hanks leave out what was seen five times or less.
    """
    if min_images < 1:
        raise InputError(f"min_images must be 1 or more, not {min_images}")
    single, pairs = probability(counts), occurring_pairs(counts)
    pairs = pairs.at(pairs.together >= min_images)
    information = np.log(joint_probability(counts, pairs) / (single[pairs.row] * single[pairs.column]))
    return _both_ways(pairs.at(information > 0), information[information > 0])


def significant(counts: LabelCounts, *, alpha: float = 0.05, correction: str = "bh") -> Edges:
    """Labels that occur together more often than chance allows hear each other, all alike.

    Args:
        counts: of the annotations.
        alpha: the share of chance pairs among those kept (``bh``), or the probability of any (``bonferroni``).
        correction: for the number of pairs that are tested; see :data:`zoo.chance.CORRECTIONS`.
    """
    pairs, _ = pairs_beyond_chance(counts, alpha=alpha, correction=correction)
    return _both_ways(pairs, np.ones(len(pairs.row)))


def signed(
    counts: LabelCounts, *, alpha: float = 0.05, correction: str = "bh", frequent: int = 1024
) -> Edges:
    """Labels that keep together hear each other with positive weights, labels that keep apart with negative ones.

    Those are pairs significantly above and below chance; the weight is their correlation over the images, the phi
    coefficient.

    Args:
        counts: of the annotations.
        alpha: as for :func:`significant`; the tests are two-sided.
        correction: as there.
        frequent: pairs that never occur are looked at between this many of the most frequent labels; where labels are
            unknown, only pairs of which ``checked`` says on how many images both were looked for.
    """
    if frequent < 0:
        raise InputError(f"frequent must be 0 or more, not {frequent}")
    pairs, _ = pairs_beyond_chance(counts, alpha=alpha, correction=correction, below=True, frequent=frequent)
    return _both_ways(pairs, correlation(counts, pairs))


def couplings(counts: LabelCounts, *, neighbors: int = 64, pseudo_images: float = 5.0) -> Edges:
    """What a label adds to another's log-odds with all others held fixed; a self-loop holds its own log-odds.

    Args:
        counts: of the annotations.
        neighbors: as for :func:`zoo.couplings.coupling_edges`.
        pseudo_images: as there.
    """
    if neighbors < 1 or not pseudo_images > 0:
        raise InputError(
            f"neighbors must be 1 or more and pseudo_images above 0, not {neighbors} and {pseudo_images}"
        )
    return coupling_edges(counts, neighbors=neighbors, pseudo_images=pseudo_images)


EDGES: dict[str, Callable[..., Edges]] = {
    "conditional": conditional,
    "couplings": couplings,
    "ppmi": ppmi,
    "signed": signed,
    "significant": significant,
    "topk": topk,
}


def make_edges(counts: LabelCounts, spec: str, *, threshold: float) -> tuple[Edges, dict[str, Any]]:
    """Edges of a kind, written as in ``significant:alpha=0.01``.

    Args:
        counts: of the annotations.
        spec: a key of :data:`EDGES`, with options after colons or without.
        threshold: for kinds that take one.

    Returns:
        The edges, and what a recipe says of them: the kind and all its options.

    Raises:
        InputError: the kind or one of its options is unknown, or an option's value is wrong.
    """
    name, given = parse_edges(spec)
    make, parameters = EDGES[name], inspect.signature(EDGES[name]).parameters
    options = {key: p.default for key, p in parameters.items() if p.default is not p.empty} | given
    if "threshold" in parameters:
        options["threshold"] = threshold
    return make(counts, **options), {"edges": name, **options}


def parse_edges(spec: str) -> tuple[str, dict[str, Any]]:
    """Reads ``significant:alpha=0.01``: a key of :data:`EDGES` and the options that follow it, typed.

    Raises:
        InputError: the kind or one of its options is unknown, or a value has another type than its option.
    """
    name, given = split_options(spec)
    make = lookup("edges", name, EDGES)
    known = [key for key in list(inspect.signature(make).parameters)[1:] if key != "threshold"]
    for option in given:
        if option in ("threshold", "p", "normalization"):
            raise InputError(f"{spec!r}: {option} is an argument beside the edges, not an option of a kind")
        if not known:
            raise InputError(f"{name} edges have no options, got {option!r}")
        if option not in known:
            raise unknown(f"option of {name} edges", option, known)
    return name, parse_options(f"{name} edges", make, given, skip={1, "threshold"})


def _both_ways(pairs: Pairs, weight: np.ndarray) -> Edges:
    """Pairs as edges there and back."""
    source, target = (np.concatenate(ends) for ends in ((pairs.row, pairs.column), (pairs.column, pairs.row)))
    return source, target, np.tile(weight, 2)
