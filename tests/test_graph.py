"""The label graph: the published formula, written out densely, golden numbers, and the contract."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric import transforms
from torch_geometric.data import Data
from torch_geometric.nn import SimpleConv
from torch_geometric.utils import coalesce, k_hop_subgraph, to_dense_adj

from zoo.asge import asge
from zoo.counts import LabelCounts, count_labels
from zoo.graph import NORMALIZATIONS, check_graph, label_graph, unlinked_labels
from zoo.label_spaces import label_counts
from zoo.lookup import InputError

# Sea 4, Sky 5, Sunset 6, Cloud 1; Sea-Sky 2, Sea-Sunset 3, Sky-Sunset 3, Sky-Cloud 1.
SEASIDE = [
    *[["Sea", "Sky", "Sunset"], ["Sea", "Sky"], ["Sea", "Sunset"], ["Sea", "Sunset"]],
    *[["Sky", "Sunset"], ["Sky", "Sunset"], ["Sky", "Cloud"], ["Sunset"]],
]
SEASIDE_NAMES = ["Sea", "Sky", "Sunset", "Cloud"]
SEA, SKY, SUNSET, CLOUD = range(4)


def random_counts(num_labels: int = 9, seed: int = 0) -> LabelCounts:
    generator = np.random.default_rng(seed)
    targets = generator.random((80, num_labels)) < generator.uniform(0.02, 0.5, num_labels)
    return count_labels(targets, [f"label {i}" for i in range(num_labels)])


def dense(graph: Data) -> np.ndarray:
    """(L, L) with the weight of the edge i -> j at [i, j]."""
    weights = to_dense_adj(
        graph.edge_index, edge_attr=graph.edge_weight.double(), max_num_nodes=graph.num_nodes
    )
    return weights[0].numpy()


def published(counts: LabelCounts, tau: float, code_p: float = 0.25, identity: float = 1.0) -> np.ndarray:
    """ML-GCN's final matrix, line by line in float64; row i is what label i receives."""
    occurrences = counts.counts.astype(np.float64)
    conditional = counts.cooccurrence.toarray() / np.maximum(occurrences, 1)[:, None]
    kept = ((conditional >= tau) & (conditional > 0)).astype(np.float64)
    a = kept * code_p / (kept.sum(0) + 1e-6) + identity * np.eye(len(kept))
    d = np.diag(a.sum(1) ** -0.5)
    return (a @ d).T @ d


def num_edges(graph: Data) -> int:
    return int((graph.edge_index[0] != graph.edge_index[1]).sum())


@pytest.mark.parametrize(
    ("name", "edges"),
    [("voc2007", [60, 38, 21, 13, 6, 4]), ("coco2014", [1011, 565, 311, 186, 111, 68])],
)
def test_golden_edge_counts(name: str, edges: list[int]) -> None:
    counts = label_counts(name)
    taus = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert [num_edges(label_graph(counts, threshold=tau, embeddings="onehot")) for tau in taus] == edges


@pytest.mark.parametrize(
    ("name", "tau", "total", "trace", "frobenius"),
    [
        ("coco2014", 0.4, 80.247119, 75.464715, 8.509427),
        ("voc2007", 0.4, 20.037052, 19.578755, 4.390827),
        ("coco2014", 0.1, 80.229374, 68.811538, 7.788803),
        ("voc2007", 0.1, 20.037803, 18.215583, 4.117809),
    ],
)
def test_golden_final_matrix(name: str, tau: float, total: float, trace: float, frobenius: float) -> None:
    final = dense(label_graph(label_counts(name), threshold=tau, embeddings="onehot"))
    # The weights are float32: one part in ten million of each.
    assert final.sum() == pytest.approx(total, abs=2e-6)
    assert np.trace(final) == pytest.approx(trace, abs=2e-6)
    assert np.linalg.norm(final) == pytest.approx(frobenius, abs=1e-6)


@pytest.mark.parametrize("name", ["voc2007", "coco2014"])
@pytest.mark.parametrize("tau", [0.05, 0.1, 0.25, 0.4, 1.0])
@pytest.mark.parametrize("p", [0.05, 0.2, 0.5, 0.9])
def test_final_matrix_equals_the_published_formula(name: str, tau: float, p: float) -> None:
    counts = label_counts(name)
    graph = label_graph(counts, threshold=tau, p=p, embeddings="onehot")
    np.testing.assert_allclose(dense(graph).T, published(counts, tau, p / (1 - p)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["voc2007", "coco2014"])
def test_the_code_s_quarter_is_the_paper_s_fifth(name: str) -> None:
    """``0.25 B + I``, the code, and ``0.2 B + 0.8 I``, the paper: one final matrix, that of p = 0.2."""
    counts = label_counts(name)
    code, paper = published(counts, 0.4), published(counts, 0.4, code_p=0.2, identity=0.8)
    np.testing.assert_allclose(code, paper, atol=1e-15, rtol=0)
    graph = label_graph(counts, threshold=0.4, p=0.2, embeddings="onehot")
    np.testing.assert_allclose(dense(graph).T, paper, atol=1e-6, rtol=0)


def test_label_i_receives_from_the_labels_j_with_p_i_given_j() -> None:
    graph = label_graph(SEASIDE, SEASIDE_NAMES, threshold=0.5, embeddings="onehot")
    received = SimpleConv(aggr="sum")(graph.x, graph.edge_index, graph.edge_weight)
    # P(i|j) >= 1/2: Sky|Sea, Sunset|Sea, Sunset|Sky, Sea|Sunset, Sky|Sunset, Sky|Cloud.
    sources = {SEA: {SEA, SUNSET}, SKY: {SKY, SEA, SUNSET, CLOUD}, SUNSET: {SUNSET, SEA, SKY}, CLOUD: {CLOUD}}
    assert {i: set(received[i].nonzero().ravel().tolist()) for i in range(4)} == sources
    final = published(count_labels(SEASIDE, SEASIDE_NAMES), 0.5)
    np.testing.assert_allclose(received.numpy(), final, atol=1e-7)  # x is the identity: final @ x


@pytest.mark.parametrize(("tau", "edges"), [(0.0, 8), (0.2, 8), (0.21, 7), (0.5, 6), (0.51, 3), (1.0, 1)])
def test_threshold_from_0_to_1(tau: float, edges: int) -> None:
    graph = label_graph(SEASIDE, SEASIDE_NAMES, threshold=tau, embeddings="onehot")
    assert num_edges(graph) == edges
    if tau == 1:  # where there is a cloud there is always sky
        assert dense(graph)[CLOUD, SKY] > 0


def test_without_neighbours() -> None:
    graph = label_graph(SEASIDE, SEASIDE_NAMES, threshold=0.0, p=0.0, embeddings="onehot")
    assert torch.equal(graph.edge_index, torch.arange(4).repeat(2, 1))
    assert torch.equal(graph.edge_weight, torch.ones(4))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_labels_that_never_occur_keep_to_themselves(normalization: str) -> None:
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0]])
    graph = label_graph(
        targets, ["a", "b", "never"], threshold=0.0, normalization=normalization, embeddings="onehot"
    )
    matrix = dense(graph)
    assert np.isfinite(matrix).all()
    assert matrix[2].tolist() == matrix[:, 2].tolist() == [0, 0, 1]
    assert matrix[0, 1] > 0


def _gcn(a: np.ndarray) -> np.ndarray:
    received = np.diag(a.sum(0) ** -0.5)
    return received @ a @ received


def _mlgcn(a: np.ndarray) -> np.ndarray:
    d = np.diag(a.sum(1) ** -0.5)
    return ((a @ d).T @ d).T


# On A, with what i sends to j at [i, j].
DENSE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mlgcn": _mlgcn,
    "sym": _gcn,
    "row": lambda a: a / a.sum(0, keepdims=True),
    "none": lambda a: a,
}


def test_every_normalization_has_a_dense_formula_here() -> None:
    assert NORMALIZATIONS.keys() == DENSE.keys()


@pytest.mark.parametrize("normalization", DENSE)
@pytest.mark.parametrize("p", [0.2, 0.7])
def test_normalizations_equal_their_dense_formula(normalization: str, p: float) -> None:
    counts = random_counts()
    graph = label_graph(counts, threshold=0.15, p=p, normalization=normalization, embeddings="onehot")
    kept = (counts.p_column_given_row().toarray() >= 0.15).astype(float)
    a = kept * p / (1 - p) / (kept.sum(0) + 1e-6) + np.eye(len(kept))
    np.testing.assert_allclose(dense(graph), DENSE[normalization](a), atol=1e-6, rtol=0)


def test_neighbours_have_the_share_p_of_what_a_label_receives() -> None:
    graph = label_graph(random_counts(), threshold=0.1, p=0.3, normalization="row", embeddings="onehot")
    weights = dense(graph)
    connected = (weights - np.diag(weights.diagonal())).any(0)
    assert connected.sum() > 4
    np.testing.assert_allclose(1 - weights.diagonal()[connected], 0.3, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_permuting_labels_permutes_the_graph(seed: int, normalization: str) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.choice([-1, 0, 1], size=(60, 8), p=[0.1, 0.5, 0.4])
    names, vectors = [f"label {i}" for i in range(8)], generator.standard_normal((8, 3))
    order = generator.permutation(8)
    options: dict = {"threshold": 0.4, "normalization": normalization}
    graph = label_graph(targets, names, embeddings=vectors, **options)
    permuted = label_graph(targets[:, order], [names[i] for i in order], embeddings=vectors[order], **options)
    assert 0 < num_edges(graph) < 56
    assert permuted.label_names == [names[i] for i in order]
    assert torch.equal(permuted.x, graph.x[order])
    np.testing.assert_allclose(dense(permuted), dense(graph)[np.ix_(order, order)], atol=1e-7)


def test_targets_counts_and_label_lists_give_one_graph() -> None:
    targets = np.array([[name in labels for name in SEASIDE_NAMES] for labels in SEASIDE])
    options: dict = {"threshold": 0.3, "embeddings": "onehot"}
    graphs = [
        label_graph(source, SEASIDE_NAMES, **options)
        for source in (SEASIDE, iter(SEASIDE), targets, torch.from_numpy(targets), sp.csr_array(targets))
    ]
    graphs.append(label_graph(count_labels(SEASIDE, SEASIDE_NAMES), **options))
    for graph in graphs[1:]:
        assert torch.equal(graph.edge_index, graphs[0].edge_index)
        assert torch.equal(graph.edge_weight, graphs[0].edge_weight)
        assert graph.recipe == graphs[0].recipe
    assert label_graph(SEASIDE, **options).label_names == sorted(SEASIDE_NAMES)


def test_vectors_can_come_from_the_edges_of_the_graph() -> None:
    plain, fitted = (label_graph(SEASIDE, threshold=0.3, embeddings=name) for name in ("onehot", "asge"))
    assert torch.equal(fitted.edge_index, plain.edge_index)
    assert torch.equal(fitted.edge_weight, plain.edge_weight)
    expected = asge(plain.edge_index, plain.edge_weight, len(plain.label_names))
    torch.testing.assert_close(torch.nn.functional.normalize(fitted.x, dim=1), expected)
    assert fitted.recipe["embeddings"] == "ASGE 300-d, seed 0"


def test_the_recipe_says_how_the_graph_was_made() -> None:
    graph = label_graph(SEASIDE, threshold=0.3, p=0.1, normalization="row", embeddings="onehot")
    assert graph.recipe == {
        "edges": "conditional",
        "threshold": 0.3,
        "p": 0.1,
        "normalization": "row",
        "embeddings": "one-hot",
        "num_images": 8,
    }


def test_chance_pairs_are_no_edges() -> None:
    photos = [["birds", "sky"]] * 39 + [["nighttime", "moon"]] * 24 + [["birds", "nighttime"]]
    graph = label_graph(photos, threshold=0.1, embeddings="onehot")
    edges = {(graph.label_names[i], graph.label_names[j]) for i, j in graph.edge_index.T.tolist() if i != j}
    assert edges == {("birds", "sky"), ("sky", "birds"), ("moon", "nighttime"), ("nighttime", "moon")}


def test_large_label_spaces_are_never_dense() -> None:
    """100,000 labels in a ring: one dense (L, L) of float32 would take 40 GB."""
    num_labels = 100_000
    rows = np.repeat(np.arange(num_labels), 2)
    columns = np.stack([np.arange(num_labels), np.roll(np.arange(num_labels), 1)], 1).ravel()
    targets = sp.csr_array((np.ones(2 * num_labels, dtype=np.int8), (rows, columns)))
    graph = label_graph(targets, [str(i) for i in range(num_labels)], embeddings=np.ones((num_labels, 1)))
    assert num_edges(graph) == 2 * num_labels


OPTIONS: dict[str, tuple[dict, str]] = {
    "threshold above 1": ({"threshold": 40.0}, r"threshold must lie in \[0, 1\], not 40.0: .* P\(j\|i\)"),
    "threshold below 0": ({"threshold": -0.1}, r"threshold must lie in \[0, 1\], not -0.1"),
    "threshold NaN": ({"threshold": float("nan")}, r"threshold must lie in \[0, 1\], not nan"),
    "p = 1": ({"p": 1.0}, r"p must lie in \[0, 1\), not 1.0: .* divides by zero"),
    "p above 1": ({"p": 1.5}, r"p must lie in \[0, 1\), not 1.5"),
    "p below 0": ({"p": -0.2}, r"p must lie in \[0, 1\), not -0.2"),
    "p NaN": ({"p": float("nan")}, r"p must lie in \[0, 1\), not nan"),
    "normalization": (
        {"normalization": "symm"},
        "unknown normalization 'symm'. Did you mean sym.*Known: mlgcn",
    ),
    "embeddings": ({"embeddings": "onehto"}, "unknown label embeddings 'onehto'. Did you mean onehot"),
    "vectors": ({"embeddings": np.ones((3, 2))}, r"must be \(4, E\), one row a label"),
    "unknown words": ({"unknown_words": "skip"}, "unknown unknown_words 'skip'"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_out_of_range_are_refused_by_their_words(case: str) -> None:
    options, words = OPTIONS[case]
    with pytest.raises(InputError, match=words):
        label_graph(SEASIDE, **{"embeddings": "onehot", **options})


def test_bad_targets_are_refused() -> None:
    with pytest.raises(InputError, match=r"-1 \(unknown\), not \[7\]"):
        label_graph(np.array([[7, 1]]), ["a", "b"])


# The contract.


def example() -> Data:
    return label_graph(SEASIDE, SEASIDE_NAMES, threshold=0.3, embeddings="onehot")


def test_a_label_graph_keeps_its_contract() -> None:
    graph = example()
    assert check_graph(graph) is graph
    assert type(graph) is Data
    assert graph.validate()
    assert graph.is_coalesced()
    assert graph.has_self_loops()
    assert graph.edge_index.dtype == torch.long
    assert graph.edge_weight.dtype == graph.x.dtype == torch.float32
    assert graph.num_nodes == 4


def test_labels_without_edges() -> None:
    vectors = torch.randn(3, 2)
    graph = unlinked_labels(("a", "b", "c"), vectors)
    assert graph.label_names == ["a", "b", "c"]
    assert graph.x is vectors
    assert torch.equal(graph.edge_index, torch.tensor([[0, 1, 2], [0, 1, 2]]))
    assert torch.equal(graph.edge_weight, torch.ones(3))
    assert graph.num_nodes == 3
    assert unlinked_labels(["a"]).x is None
    with pytest.raises(InputError, match="more than once: a"):
        unlinked_labels(["a", "a"])


def test_a_graph_without_recipe_gets_an_empty_one() -> None:
    graph = example()
    del graph.recipe
    assert check_graph(graph).recipe == {}


def _reversed(graph: Data) -> dict:
    return {"edge_index": graph.edge_index.flip(1), "edge_weight": graph.edge_weight.flip(0)}


def _twice(graph: Data) -> dict:
    order = torch.arange(graph.num_edges).repeat_interleave(2)
    return {"edge_index": graph.edge_index[:, order], "edge_weight": graph.edge_weight[order]}


def _without_loop(graph: Data) -> dict:
    keep = torch.ones(graph.num_edges, dtype=torch.bool)
    keep[0] = False  # Sea -> Sea
    return {"edge_index": graph.edge_index[:, keep], "edge_weight": graph.edge_weight[keep]}


def _out_of_range(graph: Data) -> dict:
    edge_index = graph.edge_index.clone()
    edge_index[1, -1] = 4
    return {"edge_index": edge_index}


def _negative(graph: Data) -> dict:
    return {"edge_index": graph.edge_index - 1}


def _not_finite(key: str, value: float) -> Callable[[Data], dict]:
    def change(graph: Data) -> dict:
        tensor = graph[key].clone()
        tensor.view(-1)[1] = value
        return {key: tensor}

    return change


VIOLATIONS: dict[str, tuple[Callable[[Data], dict], str]] = {
    "no names": (lambda g: {"label_names": None}, "it has no 'label_names'"),
    "no edges": (lambda g: {"edge_index": None}, "it has no 'edge_index'"),
    "no weights": (lambda g: {"edge_weight": None}, "it has no 'edge_weight'"),
    "list of edges": (
        lambda g: {"edge_index": g.edge_index.tolist()},
        "edge_index must be a tensor, not .*list",
    ),
    "array of weights": (lambda g: {"edge_weight": g.edge_weight.numpy()}, "edge_weight must be a tensor"),
    "array x": (lambda g: {"x": g.x.numpy()}, "x must be a tensor, not .*ndarray"),
    "transposed edges": (
        lambda g: {"edge_index": g.edge_index.T},
        r"edge_index must be an int64 tensor \(2, M\), not torch.int64 \(11, 2\)",
    ),
    "int32 edges": (
        lambda g: {"edge_index": g.edge_index.int()},
        r"an int64 tensor .*not torch.int32 \(2, 11\)",
    ),
    "weights too few": (
        lambda g: {"edge_weight": g.edge_weight[:-1]},
        r"edge_weight must be a float tensor \(M,\) with M = 11, not \(10,\)",
    ),
    "weights two-dimensional": (lambda g: {"edge_weight": g.edge_weight[:, None]}, r"M = 11, not \(11, 1\)"),
    "integer weights": (
        lambda g: {"edge_weight": g.edge_weight.long()},
        "edge_weight must be a float tensor",
    ),
    "NaN weight": (_not_finite("edge_weight", float("nan")), "edge_weight holds values that are not finite"),
    "endless weight": (_not_finite("edge_weight", float("inf")), "edge_weight holds values .* not finite"),
    "out of range": (_out_of_range, r"edge_index must lie in 0..3"),
    "negative": (_negative, r"edge_index must lie in 0..3"),
    "not sorted": (_reversed, "edges must be sorted and without duplicates .*coalesce"),
    "duplicates": (_twice, "edges must be sorted and without duplicates"),
    "loop missing": (_without_loop, "every label needs its self-loop; 1 are missing"),
    "x too short": (lambda g: {"x": g.x[:3]}, r"x must be a finite float tensor \(4, E\), not \(3, 4\)"),
    "x one-dimensional": (lambda g: {"x": g.x[:, 0]}, r"x must be .* not \(4,\)"),
    "integer x": (lambda g: {"x": g.x.long()}, "x must be a finite float tensor"),
    "NaN in x": (_not_finite("x", float("nan")), "x must be a finite float tensor"),
    "names twice": (lambda g: {"label_names": ["Sea", "Sky", "Sea", "Cloud"]}, "more than once: Sea"),
    "empty name": (lambda g: {"label_names": ["Sea", "", "Sunset", "Cloud"]}, "strings that are not empty"),
    "numbers for names": (lambda g: {"label_names": [0, 1, 2, 3]}, "strings that are not empty, not 0"),
    "one name": (lambda g: {"label_names": "dogs"}, "a list of names, not the one name 'dogs'"),
    "no label": (lambda g: {"label_names": []}, "there is no label"),
    "names too few": (lambda g: {"label_names": ["Sea", "Sky", "Sunset"]}, r"edge_index must lie in 0..2"),
    "names too many": (
        lambda g: {"label_names": [*SEASIDE_NAMES, "Beach"]},
        "every label needs its self-loop; 1 are missing",
    ),
    "recipe": (lambda g: {"recipe": "threshold 0.3"}, "recipe must be a dict, not 'threshold 0.3'"),
}


@pytest.mark.parametrize("case", VIOLATIONS)
def test_the_contract_refuses_each_violation_by_its_words(case: str) -> None:
    change, words = VIOLATIONS[case]
    graph = example()
    assert graph.num_edges == 11
    broken = Data(**{**graph.to_dict(), **change(graph)})
    with pytest.raises(InputError, match=words):
        check_graph(broken)


# What PyG and networkx do with it.


def test_to_moves_every_tensor_and_keeps_the_rest() -> None:
    graph = example().to("meta")
    assert graph.x.is_meta
    assert graph.edge_index.is_meta
    assert graph.edge_weight.is_meta
    assert graph.label_names == SEASIDE_NAMES
    assert graph.recipe == example().recipe
    assert check_graph(example().cpu()).label_names == SEASIDE_NAMES


def test_diffusion_gives_a_label_graph_again() -> None:
    """GDC reads and writes ``edge_attr`` and normalises by itself: raw weights go in, final ones come out."""
    graph = label_graph(SEASIDE, SEASIDE_NAMES, threshold=0.3, normalization="none", embeddings="onehot")
    diffused = transforms.GDC(
        self_loop_weight=None,
        normalization_in="col",
        normalization_out=None,
        diffusion_kwargs={"method": "ppr", "alpha": 0.15},
        sparsification_kwargs={"method": "threshold", "eps": 1e-4},
    )(Data(edge_index=graph.edge_index, edge_attr=graph.edge_weight, num_nodes=4))
    edge_index, edge_weight = coalesce(diffused.edge_index, diffused.edge_attr)
    result = check_graph(
        Data(x=graph.x, edge_index=edge_index, edge_weight=edge_weight, label_names=graph.label_names)
    )
    transition = dense(graph) / dense(graph).sum(0, keepdims=True)
    expected = 0.15 * np.linalg.inv(np.eye(4) - 0.85 * transition)
    expected[expected < 1e-4] = 0
    np.testing.assert_allclose(dense(result), expected, atol=1e-5)


def test_to_networkx() -> None:
    networkx = pytest.importorskip("networkx")
    from torch_geometric.utils import to_networkx

    graph = example()
    converted = to_networkx(graph, node_attrs=["label_names", "x"], edge_attrs=["edge_weight"])
    named = networkx.relabel_nodes(converted, dict(enumerate(graph.label_names)))
    assert set(named) == set(SEASIDE_NAMES)
    assert named.nodes["Sky"]["label_names"] == "Sky"
    assert named["Cloud"]["Sky"]["edge_weight"] == pytest.approx(dense(graph)[CLOUD, SKY])
    assert not named.has_edge("Sky", "Cloud")


def test_a_label_s_neighbourhood() -> None:
    graph = label_graph(SEASIDE, SEASIDE_NAMES, threshold=0.5, embeddings="onehot")
    labels, edge_index, place, kept = k_hop_subgraph(SEA, 1, graph.edge_index, relabel_nodes=True)
    assert [SEASIDE_NAMES[i] for i in labels.tolist()] == ["Sea", "Sunset"]  # Sea receives from Sunset
    assert place.tolist() == [0]
    around = check_graph(
        Data(
            x=graph.x[labels],
            edge_index=edge_index,
            edge_weight=graph.edge_weight[kept],
            label_names=["Sea", "Sunset"],
        )
    )
    np.testing.assert_allclose(dense(around), dense(graph)[np.ix_(labels, labels)])


def test_subgraph_keeps_names_beside_their_labels() -> None:
    some = example().subgraph(torch.tensor([SKY, CLOUD]))
    assert check_graph(some).label_names == ["Sky", "Cloud"]
