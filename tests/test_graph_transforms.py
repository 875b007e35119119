"""Transforms of PyTorch Geometric on label graphs: diffusion against its formula, and what they may not do."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
from torch_geometric.data import Data
from torch_geometric.utils import to_dense_adj

import zoo
from zoo.convs import build_conv
from zoo.graph import check_graph, unlinked_labels
from zoo.graph_files import load_graph, save_graph
from zoo.graph_transforms import transform_graph
from zoo.label_spaces import label_space
from zoo.larger_graphs import extended_graph
from zoo.lookup import InputError


@pytest.fixture
def voc() -> Data:
    """Raw weights, for transforms that normalise by themselves."""
    return label_space("voc2007", normalization="none", embeddings="onehot")


def dense(graph: Data) -> np.ndarray:
    """(L, L) with the weight of the edge i -> j at [i, j]."""
    weights = to_dense_adj(
        graph.edge_index, edge_attr=graph.edge_weight.double(), max_num_nodes=graph.num_nodes
    )
    return weights[0].numpy()


def pagerank(graph: Data, alpha: float) -> np.ndarray:
    """alpha (I - (1 - alpha) T)^-1, with T what a label hears in shares (Klicpera et al., 2019, Eq. 1 and 3)."""
    adjacency = dense(graph)
    transition = adjacency / adjacency.sum(0)
    return alpha * np.linalg.inv(np.eye(len(adjacency)) - (1 - alpha) * transition)


def ppr(sparsification: dict, out: str | None = None) -> T.GDC:
    return T.GDC(
        self_loop_weight=None,
        normalization_in="col",
        normalization_out=out,
        diffusion_kwargs={"method": "ppr", "alpha": 0.15},
        sparsification_kwargs=sparsification,
    )


def test_diffusion_with_a_threshold(voc):
    graph = transform_graph(voc, ppr({"method": "threshold", "eps": 0.01}))
    expected = pagerank(voc, 0.15)
    expected[expected < 0.01] = 0
    np.testing.assert_allclose(dense(graph), expected, atol=1e-6)
    assert graph.num_edges not in (voc.num_edges, 400)


def test_diffusion_with_the_largest_of_each_label(voc):
    graph = transform_graph(voc, ppr({"method": "topk", "k": 3, "dim": 0}, out="col"))
    full = pagerank(voc, 0.15)
    expected = np.where(full >= np.sort(full, axis=0)[-3], full, 0)
    expected /= expected.sum(0)
    np.testing.assert_allclose(dense(graph), expected, atol=1e-6)


def test_to_undirected(voc):
    graph = transform_graph(voc, T.ToUndirected())
    np.testing.assert_allclose(dense(graph), dense(voc) + dense(voc).T, atol=1e-6)
    mean = transform_graph(voc, T.ToUndirected(reduce="max"))
    np.testing.assert_allclose(dense(mean), np.maximum(dense(voc), dense(voc).T), atol=1e-6)


def test_self_loops_are_added_to_those_that_are_there(voc):
    graph = transform_graph(voc, T.AddSelfLoops(fill_value=0.5))
    np.testing.assert_allclose(dense(graph), dense(voc) + 0.5 * np.eye(20), atol=1e-6)
    other = transform_graph(voc, T.AddSelfLoops("edge_attr", fill_value=0.5))
    assert torch.equal(other.edge_weight, graph.edge_weight)
    assert torch.equal(transform_graph(voc, T.AddRemainingSelfLoops()).edge_weight, voc.edge_weight)


def test_gcn_norm(voc):
    a = dense(voc)
    degree = a.sum(0)
    graph = transform_graph(voc, T.GCNNorm(add_self_loops=False))
    np.testing.assert_allclose(dense(graph), a / np.sqrt(np.outer(degree, degree)), atol=1e-6)


def test_one_after_the_other(voc):
    """GDC leaves edge_attr, AddSelfLoops reads edge_weight: what the one wrote reaches the other."""
    diffusion, loops = ppr({"method": "threshold", "eps": 0.01}), T.AddSelfLoops()
    together = transform_graph(voc, T.Compose([diffusion, T.ToUndirected(), loops]))
    apart = transform_graph(transform_graph(transform_graph(voc, diffusion), T.ToUndirected()), loops)
    assert torch.equal(together.edge_index, apart.edge_index)
    assert torch.equal(together.edge_weight, apart.edge_weight)
    assert together.recipe["transform"].endswith(
        " then ToUndirected(reduce='add', merge=True) then AddSelfLoops(attr='edge_weight', fill_value=1.0)"
    )


def without_loops(data: Data) -> Data:
    keep = data.edge_index[0] != data.edge_index[1]
    return Data(x=data.x, edge_index=data.edge_index[:, keep], edge_weight=data.edge_weight[keep])


def test_self_loops_that_were_removed_come_back(voc):
    assert 0 < (dense(voc).sum(0) == 1).sum() < 20, "some labels hear themselves alone"
    graph = transform_graph(voc, without_loops)
    expected = dense(voc) * (1 - np.eye(20))
    np.fill_diagonal(expected, expected.sum(0) == 0)
    assert graph.num_edges == voc.num_edges
    np.testing.assert_array_equal(dense(graph), expected)
    # With weight 0 there is nothing to hear: as if it had no self-loop.
    conv = build_conv("GCNConv", 20, 4)
    off = graph.edge_weight != 0
    torch.testing.assert_close(
        conv(graph.x, graph.edge_index, graph.edge_weight),
        conv(graph.x, graph.edge_index[:, off], graph.edge_weight[off]),
    )


def test_the_graph_itself_stays_as_it_is(voc):
    before = copy.deepcopy(voc)

    def in_place(data: Data) -> Data:
        data.edge_weight *= 2
        data.x += 1
        return data

    graph = transform_graph(voc, in_place)
    np.testing.assert_allclose(dense(graph), 2 * dense(before), atol=1e-6)
    assert torch.equal(graph.x, before.x + 1)
    for key in ("x", "edge_index", "edge_weight"):
        assert torch.equal(voc[key], before[key])
    assert voc.recipe == before.recipe
    assert set(voc.keys()) == set(before.keys())


def test_vectors_may_change(voc):
    graph = transform_graph(voc, T.AddLaplacianEigenvectorPE(3, attr_name=None))
    assert graph.x.shape == (20, 23)
    assert torch.equal(graph.edge_weight, voc.edge_weight)


def test_what_a_transformed_graph_is_good_for(voc, tmp_path):
    transform = ppr({"method": "threshold", "eps": 0.01})
    graph = zoo.transform_graph(voc, transform)
    assert check_graph(graph) is graph
    assert graph.label_names == voc.label_names
    assert graph.recipe == {
        "transform": "GDC(self_loop_weight=None, normalization_in='col', normalization_out=None, "
        "diffusion_kwargs={'method': 'ppr', 'alpha': 0.15}, "
        "sparsification_kwargs={'method': 'threshold', 'eps': 0.01}, exact=True)",
        "transformed": voc.recipe,
        "embeddings": "one-hot",
        "num_images": 5_011,
    }
    again = load_graph(save_graph(graph, tmp_path / "graph.json"))
    assert again.recipe == graph.recipe
    assert torch.equal(again.edge_weight, graph.edge_weight)
    model = zoo.build("mlgcn-test_efficientnet", labels=graph, widths=(8,), pretrained=False)
    assert model.recipe["transform"].startswith("GDC(")


def test_a_new_label_of_a_transformed_graph_hears_what_it_is_given(voc):
    """The normalization that the graph had says nothing of the weights that it has."""
    graph = transform_graph(
        label_space("voc2007", embeddings="random"), ppr({"method": "threshold", "eps": 0.01})
    )
    grown = extended_graph(graph, ["zebra"], [("horse", "zebra", 0.3)], embeddings=torch.zeros(1, 300))
    assert dense(grown)[graph.label_names.index("horse"), 20] == pytest.approx(0.3)
    np.testing.assert_array_equal(dense(grown)[:20, :20], dense(graph))


def test_added_labels_are_not_forgotten():
    graph = label_space("voc2007", embeddings="random")
    grown = extended_graph(graph, ["zebra"], [("horse", "zebra", 1.0)], embeddings=torch.zeros(1, 300))
    assert transform_graph(grown, T.ToUndirected()).recipe["added_labels"] == ["zebra"]


def test_labels_without_edges_or_vectors():
    graph = transform_graph(unlinked_labels(["a", "b", "c"]), T.ToUndirected())
    np.testing.assert_array_equal(dense(graph), 2 * np.eye(3))
    assert graph.x is None
    assert graph.num_nodes == 3


def turned(data: Data) -> Data:
    order = torch.arange(data.num_nodes).flip(0)
    return Data(x=data.x[order], edge_index=order[data.edge_index], label=data.label[order])


def wide(data: Data) -> Data:
    data.edge_weight = data.edge_weight[:, None].repeat(1, 2)
    return data


def two(data: Data) -> Data:
    data.edge_weight, data.edge_attr = data.edge_weight * 2, data.edge_attr * 3
    return data


def infinite(data: Data) -> Data:
    data.edge_weight = data.edge_weight / 0
    return data


# name -> the transform, and the words of the error
REFUSED = {
    "components": (
        T.LargestConnectedComponents(),
        r"LargestConnectedComponents\(num_components=1, connection='weak'\) removes 'bird', 'cat': a label graph keeps",
    ),
    "fewer": (
        T.Compose([T.ToUndirected(), lambda data: data.subgraph(torch.arange(7))]),
        "<lambda> removes 'cat', 'chair', 'cow', 'diningtable', 'dog', ...: a label graph keeps its 20 labels",
    ),
    "another order": (turned, "turned changes the labels or their order"),
    "more labels": (T.VirtualNode(), r"VirtualNode\(\) (adds|changes)"),
    "more attributes": (
        T.AddLaplacianEigenvectorPE(3),
        "adds laplacian_eigenvector_pe, for which a label graph has no place",
    ),
    "edges without weights": (
        T.AddSelfLoops(attr="length"),
        r"AddSelfLoops\(attr='length', fill_value=1.0\) leaves 78 edges with weights \(58,\), not one each",
    ),
    "weights of two numbers": (wide, r"wide leaves \d+ edges with weights \(\d+, 2\), not one each"),
    "two kinds of weights": (two, "writes edge_weight and edge_attr, and not the same"),
    "not finite": (infinite, "edge_weight holds values that are not finite"),
    "no graph": (lambda data: data.edge_index, "makes no Data of a label graph, but Tensor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_label_graph_is_refused_by_its_words(voc, case):
    transform, words = REFUSED[case]
    with pytest.raises(InputError, match=words):
        transform_graph(voc, transform)
