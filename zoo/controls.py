"""Controls: label graphs with one thing taken away, so that a comparison shows what that thing was worth.

If a head does as well with its neighbours at random, the neighbours taught it nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.utils import coalesce

from zoo.graph import check_graph, unlinked_labels
from zoo.lookup import InputError, lookup


def identity(graph: Data, seed: int = 0) -> Data:
    """The same label vectors without neighbours: each label sees itself alone, with weight 1."""
    return _noted(unlinked_labels(graph.label_names, graph.x), graph, "identity")


def shuffled(graph: Data, seed: int = 0) -> Data:
    """Neighbours at random, degrees as they were.

    Pairs of edges a -> b, c -> d become c -> b, a -> d (Maslov & Sneppen, Science 2002,
    https://doi.org/10.1126/science.1065103), ten tries an edge. Then each label deals the weights that it receives
    to its neighbours anew, or nothing would be random where all labels are neighbours. So it keeps the number of
    its neighbours in both directions, the weights that it receives, and their sum.
    """
    generator = np.random.default_rng(seed)
    source, target = graph.edge_index.numpy(force=True)
    between = np.flatnonzero(source != target)
    source = source.copy()
    taken = set(zip(source.tolist(), target.tolist(), strict=True))
    if len(between) > 1:
        for e, f in generator.choice(between, size=(10 * len(between), 2)):
            a, b, c, d = int(source[e]), int(target[e]), int(source[f]), int(target[f])
            if a == d or c == b or (c, b) in taken or (a, d) in taken:
                continue
            taken -= {(a, b), (c, d)}
            taken |= {(c, b), (a, d)}
            source[e], source[f] = c, a
    weight = graph.edge_weight.numpy(force=True).copy()
    dealt = between[np.lexsort((generator.random(len(between)), target[between]))]
    weight[between[np.argsort(target[between], kind="stable")]] = weight[dealt]
    edge_index, edge_weight = coalesce(
        torch.from_numpy(np.stack([source, target])),
        torch.from_numpy(weight),
        num_nodes=len(graph.label_names),
    )
    return _noted(
        Data(**{**graph.to_dict(), "edge_index": edge_index, "edge_weight": edge_weight}), graph, "shuffled"
    )


def random_vectors(graph: Data, seed: int = 0) -> Data:
    """The same neighbours under label vectors without meaning: Gaussian, of the same mean length.

    Raises:
        InputError: the graph has no label vectors.
    """
    if graph.x is None:
        raise InputError("the control random_vectors needs a graph with label vectors x; this one has none")
    vectors = torch.randn(graph.x.shape, generator=torch.Generator().manual_seed(seed)).to(graph.x)
    vectors *= graph.x.norm(dim=1).mean() / vectors.norm(dim=1, keepdim=True)
    return _noted(Data(**{**graph.to_dict(), "x": vectors}), graph, "random_vectors")


CONTROLS: dict[str, Callable[[Data, int], Data]] = {
    "identity": identity,
    "shuffled": shuffled,
    "random_vectors": random_vectors,
}


def control(graph: Data, name: str, seed: int = 0) -> Data:
    """The graph with the control of that name applied to it.

    Raises:
        InputError: no control has that name, or the graph is none that it can be applied to.
    """
    return lookup("control", name, CONTROLS)(check_graph(graph), seed)


def _noted(graph: Data, origin: Data, name: str) -> Data:
    graph.recipe = {**origin.recipe, "control": name}
    return check_graph(graph)
