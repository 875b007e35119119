"""Labels that keep together: the label graph as an undirected network, and its communities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch_geometric.data import Data

from zoo.plots.page import load

Network = Any  # networkx's Graph, which cannot be named at run time without importing it

UNLINKED, SMALL = "no neighbours", "small communities"  # Names of groups of labels.
NAMED = 30  # Communities with a name of their own.
EDGES_PER_LABEL = 40
TRIES, EDGES_IN_TRIES = 10, 100_000  # Of Louvain's method: fewer tries on graphs with more edges.


def strongest_labels(
    graph: Data, max_labels: int
) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, "M 2"], Float[np.ndarray, " M"]]:
    """The labels with the most edges, of equal ones those with the largest weights, and all edges between them.

    A normalised graph gives a hub such as "person" no larger sum of weights than any other label: hence the number.

    Returns:
        The K labels in the order of the graph; source and target of every edge but self-loops, as numbers among the
        K; the weights, none of them 0, strongest first.
    """
    total = len(graph.label_names)
    ends, weights = np.asarray(graph.edge_index).T, np.asarray(graph.edge_weight, dtype=float)
    carries = (ends[:, 0] != ends[:, 1]) & (weights != 0)
    ends, weights = ends[carries], weights[carries]
    degree = np.bincount(ends.ravel(), minlength=total)
    labels = np.sort(np.lexsort((-link_strength(total, ends, weights), -degree))[:max_labels])
    among = np.full(total, -1)
    among[labels] = np.arange(len(labels))
    inside = (among[ends] >= 0).all(1)
    ends, weights = among[ends[inside]], weights[inside]
    order = np.argsort(-np.abs(weights), kind="stable")
    return labels, ends[order], weights[order]


def link_strength(
    num_labels: int, ends: Int[np.ndarray, "M 2"], weights: Float[np.ndarray, " M"]
) -> Float[np.ndarray, " L"]:
    """The sum of absolute weights of every label, of what it receives and what it sends."""
    return np.bincount(ends.ravel(), np.abs(weights).repeat(2), minlength=num_labels).astype(float)


def strongest_edges(num_labels: int, ends: Int[np.ndarray, "M 2"], per_label: int) -> Int[np.ndarray, " D"]:
    """Of edges that come strongest first, those among the first ``per_label`` of one of their ends, in order.

    A plain cut at the strongest would leave the labels with weak edges without any.
    """
    kept = np.zeros(len(ends), dtype=bool)
    for own in ends.T:  # Edges that share their source, then those that share their target.
        order = np.argsort(own, kind="stable")
        starts = np.searchsorted(own[order], np.arange(num_labels))
        rank = np.arange(len(own)) - starts[own[order]]
        kept[order[rank < per_label]] = True
    return np.flatnonzero(kept)


def network_of(num_labels: int, ends: Int[np.ndarray, "M 2"], weights: Float[np.ndarray, " M"]) -> Network:
    """An undirected networkx graph, of edges that come strongest first, with a ``share`` and a ``length`` to each.

    Of a dense graph it takes the 40 strongest edges that each label sends or receives.
    """
    kept = strongest_edges(num_labels, ends, EDGES_PER_LABEL)
    ends, weights = ends[kept], weights[kept]
    network = load("networkx").Graph()
    network.add_nodes_from(range(num_labels))
    strength = link_strength(num_labels, ends, weights)
    # A share of all that both ends have: by their plain weights, the edges of a hub such as "person" would pull
    # everything into one ball.
    shares = np.abs(weights) / np.sqrt(strength[ends].prod(1))
    for (j, i), share in zip(ends.tolist(), shares.tolist(), strict=True):
        share += network.get_edge_data(j, i, {"share": 0.0})["share"]
        network.add_edge(j, i, share=share, length=share**-0.5)
    return network


def find_communities(network: Network) -> Int[np.ndarray, " L"]:
    """The number of every label's community, the largest being 0; -1 for labels without a neighbour.

    Louvain's method (Blondel et al. 2008, https://arxiv.org/abs/0803.0476) on the shares.
    """
    community = np.full(len(network), -1)
    if not network.size():
        return community
    algorithms = load("networkx").community
    # Louvain's method stops at a local optimum, which depends on its order.
    seeds = range(int(np.clip(EDGES_IN_TRIES // network.size(), 1, TRIES)))
    tries = [algorithms.louvain_communities(network, weight="share", seed=seed) for seed in seeds]
    best = max(tries, key=lambda found: algorithms.modularity(network, found, weight="share"))
    found = [members for members in best if any(network.degree(label) for label in members)]
    for k, members in enumerate(sorted(found, key=lambda members: (-len(members), min(members)))):
        community[list(members)] = k
    return community


def label_communities(graph: Data) -> Int[np.ndarray, " L"]:
    """The number of the community of every label of a label graph (see :func:`find_communities`)."""
    num_labels = len(graph.label_names)
    _, ends, weights = strongest_labels(graph, num_labels)
    return find_communities(network_of(num_labels, ends, weights))


def name_communities(
    label_names: Sequence[str],
    community: Int[np.ndarray, " L"],
    strength: Float[np.ndarray, " L"],
) -> list[str]:
    """For every label the name of its community, which is that of its strongest label.

    Those beyond the first 30 communities, the smallest, have one name: more could not be told apart by colour.
    """
    names = {-1: UNLINKED} | dict.fromkeys(range(NAMED, int(community.max(initial=0)) + 1), SMALL)
    for label in np.argsort(-strength, kind="stable"):
        names.setdefault(int(community[label]), f"{label_names[label]} ...")
    return [names[k] for k in community.tolist()]
