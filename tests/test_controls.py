"""Controls: each takes one thing away from a label graph, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_dense_adj

from zoo.controls import CONTROLS, control, identity, random_vectors, shuffled
from zoo.graph import check_graph, label_graph, unlinked_labels
from zoo.label_spaces import label_counts
from zoo.lookup import InputError


@pytest.fixture(scope="module")
def graph() -> Data:
    return label_graph(label_counts("coco2014"), threshold=0.1)


def edges(graph: Data) -> set[tuple[int, int]]:
    return {(i, j) for i, j in graph.edge_index.T.tolist() if i != j}


def dense(graph: Data) -> np.ndarray:
    weights = to_dense_adj(graph.edge_index, edge_attr=graph.edge_weight, max_num_nodes=graph.num_nodes)
    return weights[0].numpy()


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_gives_a_label_graph_and_leaves_the_original_alone(name: str, graph: Data) -> None:
    before = {key: graph[key].clone() for key in ("x", "edge_index", "edge_weight")}
    result = control(graph, name, seed=3)
    assert check_graph(result).label_names == graph.label_names
    assert result.recipe == {**graph.recipe, "control": name}
    assert "control" not in graph.recipe
    assert all(torch.equal(graph[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", CONTROLS)
def test_a_seed_gives_one_graph(name: str, graph: Data) -> None:
    torch.manual_seed(0)
    first = control(graph, name, seed=5)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  the global generators must not matter
    second = control(graph, name, seed=5)
    for key in ("x", "edge_index", "edge_weight"):
        assert torch.equal(first[key], second[key])


@pytest.mark.parametrize(("name", "key"), [("shuffled", "edge_index"), ("random_vectors", "x")])
def test_another_seed_gives_another_graph(name: str, key: str, graph: Data) -> None:
    assert not torch.equal(control(graph, name, seed=1)[key], control(graph, name, seed=2)[key])


def test_unknown_control(graph: Data) -> None:
    with pytest.raises(InputError, match=r"unknown control 'shuffeld'. Did you mean shuffled\?"):
        control(graph, "shuffeld")


def test_what_is_no_label_graph_has_no_control() -> None:
    with pytest.raises(InputError, match="not a label graph: it has no 'edge_weight'"):
        control(Data(edge_index=torch.eye(2).long(), label_names=["a", "b"]), "shuffled")


def test_identity_leaves_every_label_alone(graph: Data) -> None:
    alone = identity(graph)
    assert edges(alone) == set()
    assert np.array_equal(dense(alone), np.eye(80))
    assert torch.equal(alone.x, graph.x)


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_keeps_degrees_and_what_each_label_receives(seed: int, graph: Data) -> None:
    mixed = shuffled(graph, seed)
    was, now = dense(graph), dense(mixed)
    np.testing.assert_array_equal((now > 0).sum(0), (was > 0).sum(0))
    np.testing.assert_array_equal((now > 0).sum(1), (was > 0).sum(1))
    np.testing.assert_allclose(now.sum(0), was.sum(0), atol=1e-6)
    np.testing.assert_array_equal(now.diagonal(), was.diagonal())
    for label in range(80):  # one by one, not just in sum
        np.testing.assert_array_equal(np.sort(now[:, label]), np.sort(was[:, label]))
    assert torch.equal(mixed.x, graph.x)


def test_shuffled_changes_most_edges(graph: Data) -> None:
    was = edges(graph)
    for seed in range(3):
        now = edges(shuffled(graph, seed))
        assert len(now) == len(was) == 565
        # Hubs such as "person" are linked with most labels, whatever is shuffled.
        assert len(now & was) < len(was) / 2


def test_shuffled_deals_the_weights_anew_where_all_labels_are_neighbours() -> None:
    """There are no other neighbours to be had: only which of them weighs how much can be random."""
    complete = label_graph(label_counts("voc2007"), edges="couplings", embeddings="onehot")
    was = dense(complete)
    assert len(edges(complete)) == 20 * 19
    assert (was < 0).any()
    for seed in range(3):
        mixed = shuffled(complete, seed)
        now = dense(mixed)
        assert torch.equal(mixed.edge_index, complete.edge_index)
        np.testing.assert_array_equal(np.sort(now, axis=0), np.sort(was, axis=0))  # what each label receives
        np.testing.assert_array_equal(now.diagonal(), was.diagonal())
        assert (now != was).sum() > 0.9 * 380
        between = ~np.eye(20, dtype=bool)
        alike = [np.corrcoef(now[between[:, i], i], was[between[:, i], i])[0, 1] for i in range(20)]
        assert abs(np.mean(alike)) < 0.15


def test_shuffled_reaches_every_arrangement_alike() -> None:
    """Four labels with one neighbour each way: the nine derangements, equally likely."""
    ring = Data(
        edge_index=torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 1, 2, 2, 3, 0, 3]]),
        edge_weight=torch.ones(8),
        label_names=list("abcd"),
        num_nodes=4,
    )
    seen: dict[frozenset, int] = {}
    for seed in range(450):
        arrangement = frozenset(edges(control(ring, "shuffled", seed)))
        seen[arrangement] = seen.get(arrangement, 0) + 1
    assert len(seen) == 9
    assert min(seen.values()) > 25  # of 50 expected, 3.7 standard deviations below
    assert max(seen.values()) < 75


def test_nothing_to_shuffle() -> None:
    alone = unlinked_labels(["a", "b"], torch.eye(2))
    assert torch.equal(shuffled(alone).edge_index, alone.edge_index)
    one = label_graph([["a", "b"], *[["b"]] * 9], threshold=0.5, embeddings="onehot")
    assert edges(shuffled(one)) == edges(one) == {(0, 1)}


def test_shuffled_needs_no_vectors() -> None:
    bare = unlinked_labels(["a", "b"])
    assert shuffled(bare).x is None
    assert identity(bare).x is None


def test_random_vectors_keep_their_mean_length_and_nothing_else(graph: Data) -> None:
    blind = random_vectors(graph, seed=2)
    assert torch.equal(blind.edge_index, graph.edge_index)
    assert torch.equal(blind.edge_weight, graph.edge_weight)
    assert blind.x.shape == graph.x.shape
    assert blind.x.dtype == graph.x.dtype
    torch.testing.assert_close(blind.x.norm(dim=1).mean(), graph.x.norm(dim=1).mean())
    cosines = torch.corrcoef(torch.cat([blind.x, graph.x]))[:80, 80:]
    assert cosines.diagonal().abs().mean() < 0.1  # of 300 numbers without relation: 0.046


def test_random_vectors_keep_the_type() -> None:
    double = unlinked_labels(["a", "b"], torch.eye(2, dtype=torch.float64))
    assert random_vectors(double).x.dtype == torch.float64


def test_random_vectors_need_vectors() -> None:
    with pytest.raises(
        InputError, match="random_vectors needs a graph with label vectors x; this one has none"
    ):
        random_vectors(unlinked_labels(["a", "b"]))
