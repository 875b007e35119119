"""Couplings: the inverse covariance that they are, what they tell apart, and annotations that leave much open."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from conftest import pairwise_targets

from zoo import couplings
from zoo.counts import count_labels
from zoo.couplings import coupling_edges
from zoo.graph import check_graph, label_graph
from zoo.label_spaces import label_space
from zoo.lookup import InputError


def names(targets: np.ndarray) -> list[str]:
    return [f"label {i}" for i in range(targets.shape[1])]


def matrix(targets: np.ndarray, **options: float) -> np.ndarray:
    """(L, L), the row's label hears the column's; the diagonal holds what the self-loops do."""
    source, target, weight = coupling_edges(count_labels(targets, names(targets)), **options)
    dense = np.zeros((targets.shape[1], targets.shape[1]))
    dense[target, source] = weight
    assert len(weight) == len({*zip(source, target, strict=True)}), "no edge twice"
    return dense


def off_diagonal(dense: np.ndarray) -> np.ndarray:
    return dense[~np.eye(len(dense), dtype=bool)]


def symmetric(num_labels: int, **pairs: float) -> np.ndarray:
    """``symmetric(3, _01=1.5)``: labels 0 and 1 are coupled with 1.5."""
    dense = np.zeros((num_labels, num_labels))
    for pair, value in pairs.items():
        i, j = map(int, pair[1:])
        dense[i, j] = dense[j, i] = value
    return dense


@pytest.fixture(scope="module")
def model() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds, couplings of both signs, and 20,000 images of ten labels of which these are true."""
    generator = np.random.default_rng(0)
    truth = np.triu(generator.normal(size=(10, 10)) * (generator.random((10, 10)) < 0.4), 1)
    truth, log_odds = truth + truth.T, generator.uniform(-2.5, -1, 10)
    return log_odds, truth, pairwise_targets(log_odds, truth, 20_000)


# --- what they are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pseudo_images", [5.0, 200.0])
def test_with_all_labels_as_neighbours_they_are_the_negative_inverse_of_the_covariance(model, pseudo_images):
    targets = model[2][:500].astype(float)
    covariance = np.cov(targets.T, ddof=0) + np.eye(10) * pseudo_images / 500
    expected = -np.linalg.inv(covariance)
    found = matrix(model[2][:500], pseudo_images=pseudo_images)
    np.testing.assert_allclose(off_diagonal(found), off_diagonal(expected), rtol=0, atol=1e-8)


def test_self_loops_hold_the_log_odds(model):
    targets = model[2]
    positives, negatives = targets.sum(0), (1 - targets).sum(0)
    np.testing.assert_allclose(matrix(targets).diagonal(), np.log((positives + 0.5) / (negatives + 0.5)))


def test_they_are_near_those_that_the_images_were_drawn_with(model):
    _, truth, targets = model
    found, expected = off_diagonal(matrix(targets)), off_diagonal(truth)
    assert np.corrcoef(found, expected)[0, 1] > 0.95
    assert 0.9 < (found @ expected) / (expected @ expected) < 1.3


def test_a_chain_has_no_shortcut():
    """A goes with C through B alone: they co-occur more than by chance, and are not coupled."""
    targets = pairwise_targets(np.full(3, -1.5), symmetric(3, _01=1.5, _12=1.5), 50_000)
    frequency, found = targets.mean(0), matrix(targets)
    assert (targets[:, 0] & targets[:, 2]).mean() > 1.2 * frequency[0] * frequency[2]
    assert abs(found[0, 2]) < 0.1
    assert 1.3 < found[0, 1] < 2
    assert 1.3 < found[1, 2] < 2


def test_labels_that_avoid_each_other_have_a_negative_coupling():
    targets = pairwise_targets(np.full(3, -1.0), symmetric(3, _01=-2.0, _12=1.0), 50_000)
    found = matrix(targets)
    assert found[0, 1] < -1
    assert found[1, 2] > 0.5


def test_the_ridge_holds_back_what_few_images_say():
    targets = np.zeros((1000, 3), np.int8)
    targets[:500, 0] = targets[:2, 1] = 1  # label 1 is always with 0: on two images
    free, held = matrix(targets, pseudo_images=1e-3), matrix(targets)
    assert 0 < held[1, 0] < 0.4 * free[1, 0]


# --- which neighbours ----------------------------------------------------------------------------------------


def test_neighbours_are_those_farthest_from_chance():
    """Label 0 goes with 1, avoids 2, and has little to do with the others."""
    weak = {f"_0{i}": 0.3 for i in range(3, 8)}
    targets = pairwise_targets(np.full(8, -1.0), symmetric(8, _01=1.5, _02=-2.0, **weak), 20_000)
    counts = count_labels(targets, names(targets))
    for neighbors, expected in ((1, {1}), (2, {1, 2}), (64, set(range(1, 8)))):
        source, target, _ = coupling_edges(counts, neighbors=neighbors)
        assert {*source[(target == 0) & (source != 0)]} == expected
        assert np.bincount(target).max() <= neighbors + 1
    source, target, _ = coupling_edges(counts, neighbors=0)
    assert (source == target).all()


def test_a_few_neighbours_are_a_regression_on_them_alone(model):
    targets = model[2][:500].astype(float)
    source, target, weight = coupling_edges(count_labels(model[2][:500], names(targets)), neighbors=3)
    covariance = np.cov(targets.T, ddof=0) + np.eye(10) * 5 / 500
    for label in range(10):
        heard = source[(target == label) & (source != label)]
        assert len(heard) == 3
        around = [label, *heard]
        expected = -np.linalg.inv(covariance[np.ix_(around, around)])[0, 1:]
        np.testing.assert_allclose(weight[(target == label) & (source != label)], expected, atol=1e-8)


def test_only_frequent_labels_are_candidates_without_an_image_in_common(monkeypatch):
    monkeypatch.setattr(couplings, "FREQUENT", 2)
    targets = np.zeros((100, 4), np.int8)
    for label, images in enumerate((range(40), range(40, 70), range(70, 80), range(75, 85))):
        targets[images, label] = 1  # 2 and 3 are on five images together, no others are
    source, target, weight = coupling_edges(count_labels(targets, names(targets)))
    found = {(i, j): w for i, j, w in zip(source, target, weight, strict=True) if i != j}
    assert found.keys() == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert found[0, 1] < 0 < found[2, 3]


def test_many_labels_stay_sparse():
    """1,500 labels in pairs: everybody finds the partner, and nobody has more neighbours than it may have."""
    generator = np.random.default_rng(0)
    half = generator.random((4000, 750)) < 0.02
    targets = np.concatenate([half, half ^ (generator.random(half.shape) < 0.005)], axis=1).astype(np.int8)
    assert targets.shape[1] > couplings.FREQUENT
    source, target, weight = coupling_edges(count_labels(targets, names(targets)), neighbors=8)
    assert np.bincount(target, minlength=1500).max() <= 9
    between = source != target
    order = np.lexsort((-weight[between], target[between]))
    first = np.unique(target[between][order], return_index=True)[1]
    np.testing.assert_array_equal(source[between][order][first], (np.arange(1500) + 750) % 1500)


def slow_couplings(targets: np.ndarray, neighbors: int, pseudo_images: float) -> dict[tuple[int, int], float]:
    """(source, target) -> weight, a label at a time, from dense matrices."""
    num_images, num_labels = targets.shape
    positive, known = (targets == 1).astype(float), (targets != -1).astype(float)
    counts, images = positive.sum(0), known.sum(0)
    checked = positive.T @ known
    given = np.divide(positive.T @ positive, checked, out=np.zeros_like(checked), where=checked > 0)
    joint = given * (counts / images)[:, None]
    joint = (joint + joint.T) / 2
    smoothed, together = (counts + 0.5) / (images + 1), positive.T @ positive
    often = sorted(range(num_labels), key=lambda i: (-smoothed[i], i))[: couplings.FREQUENT]
    found = {}
    for i in range(num_labels):
        distance = {}
        for j in range(num_labels):
            if j != i and (together[i, j] or (i in often and j in often)):
                chance = smoothed[i] * smoothed[j]
                spread = chance * (1 - smoothed[i]) * (1 - smoothed[j]) / (images[i] * images[j] / num_images)
                distance[j] = abs(joint[i, j] - chance) / spread**0.5
        heard = sorted(sorted(distance, key=lambda j: (-distance[j], j))[:neighbors])
        around = [i, *heard]
        frequency = (counts / images)[around]
        covariance = joint[np.ix_(around, around)] - np.outer(frequency, frequency)
        np.fill_diagonal(covariance, frequency * (1 - frequency))
        if (targets == -1).any():
            values, vectors = np.linalg.eigh(covariance)
            covariance = vectors @ np.diag(values.clip(min=0)) @ vectors.T
        inverse = np.linalg.inv(covariance + np.diag(pseudo_images * num_images / images[around] ** 2))
        found |= {(j, i): -weight for j, weight in zip(heard, inverse[0, 1:], strict=True)}
        found[i, i] = np.log((counts[i] + 0.5) / (images[i] - counts[i] + 0.5))
    return found


@pytest.mark.parametrize("dense", [0, 2048])
@pytest.mark.parametrize("unknown", [0.0, 0.3])
@pytest.mark.parametrize(("frequent", "neighbors", "block"), [(1024, 64, 2**20), (6, 4, 50), (0, 5, 2**20)])
def test_couplings_equal_a_slow_loop(frequent, neighbors, block, unknown, dense, monkeypatch):
    """In blocks of every size, with rare labels of few neighbours, one that never occurs, and unsorted counts."""
    monkeypatch.setattr(couplings, "FREQUENT", frequent)
    monkeypatch.setattr(couplings, "BLOCK", block)
    monkeypatch.setattr(couplings, "DENSE", dense)
    generator = np.random.default_rng(0)
    targets = (generator.random((300, 25)) < np.linspace(0.01, 0.4, 25)).astype(np.int8)
    targets[generator.random(targets.shape) < unknown] = -1
    targets[:, 3] = np.minimum(targets[:, 3], 0)
    targets[:, 18:] = targets[:, 11:18]  # equally far from chance: the first counts
    counts = count_labels(targets, names(targets))
    for array in (counts.cooccurrence.indices, counts.cooccurrence.data):  # each row backwards
        for start, end in itertools.pairwise(counts.cooccurrence.indptr):
            array[start:end] = array[start:end][::-1].copy()
    counts.cooccurrence.has_sorted_indices = False
    source, target, weight = coupling_edges(counts, neighbors=neighbors)
    found = dict(zip(zip(source.tolist(), target.tolist(), strict=True), weight, strict=True))
    expected = slow_couplings(targets, neighbors, 5.0)
    assert found.keys() == expected.keys()
    assert len(found) == len(weight)
    assert found == pytest.approx(expected, abs=1e-7)


# --- annotations that leave much open ------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [0.3, 0.7, [0.1, 0.9]])
def test_unknown_targets_change_little(model, shares):
    """Also where some labels are known nearly always, and others seldom."""
    targets = model[2]
    hidden = np.random.default_rng(1).random(targets.shape) < np.resize(shares, targets.shape[1])
    found, whole = matrix(np.where(hidden, -1, targets).astype(np.int8)), matrix(targets)
    np.testing.assert_allclose(found.diagonal(), whole.diagonal(), atol=0.25)
    assert np.corrcoef(off_diagonal(found), off_diagonal(whole))[0, 1] > 0.85
    assert abs(off_diagonal(found).mean() - off_diagonal(whole).mean()) < 0.1


def test_pairs_that_were_counted_on_different_images_need_not_fit_together():
    """Sixty labels that four things behind them explain, and four in five targets unknown."""
    generator = np.random.default_rng(0)
    causes = generator.normal(size=(2000, 4)) @ generator.normal(size=(4, 60))
    targets = (causes + generator.normal(size=causes.shape) > 2.5).astype(np.int8)
    hidden = generator.random(targets.shape) < 0.8
    found, whole = matrix(np.where(hidden, -1, targets).astype(np.int8)), matrix(targets)
    assert np.abs(off_diagonal(found)).max() < 2 * np.abs(off_diagonal(whole)).max()
    assert np.corrcoef(off_diagonal(found), off_diagonal(whole))[0, 1] > 0.3


def test_a_share_of_images_between_the_labels():
    """Exactly ten of forty labels an image, so that the covariance has no inverse: all avoid each other."""
    generator = np.random.default_rng(0)
    targets = (generator.random((2000, 40)).argsort(1) < 10).astype(np.int8)
    found = off_diagonal(matrix(targets))
    assert found.max() < 0
    assert found.min() > -20


def edge_cases() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    targets = (generator.random((30, 5)) < 0.3).astype(np.int8)
    never, always, twice = (targets.copy() for _ in range(3))
    never[:, 1], always[:, 1], twice[:, 1] = 0, 1, targets[:, 0]
    positive = targets.copy()
    positive[targets == 0] = -1
    alone = np.eye(5, dtype=np.int8) * 2 - 1
    never_known = targets.copy()
    never_known[:, 1] = -1
    return {
        "a label that never occurs": never,
        "a label on every image": always,
        "two labels that are one": twice,
        "every label on every image": np.ones_like(targets),
        "no label on any image": np.zeros_like(targets),
        "one label": targets[:, :1],
        "one image": targets[:1],
        "no image": targets[:0],
        "nothing known": np.full_like(targets, -1),
        "only positives known": positive,
        "one positive an image known": alone,
        "a label that is never known": never_known,
        "much unknown": np.where(generator.random(targets.shape) < 0.8, -1, targets).astype(np.int8),
    }


@pytest.mark.parametrize("case", edge_cases())
def test_whatever_the_annotations_it_is_a_label_graph(case):
    targets = edge_cases()[case]
    graph = check_graph(label_graph(targets, names(targets), edges="couplings", embeddings="onehot"))
    weights = graph.edge_weight.numpy()
    assert np.abs(weights).max() < 30, "no ridge, no bound"
    if case in ("a label that never occurs", "a label that is never known"):
        between = graph.edge_index[0] != graph.edge_index[1]
        touching = between & (graph.edge_index == 1).any(0)
        assert np.abs(weights[touching.numpy()]).max() < 1e-9, "nothing is known of it"


# --- as a label graph ----------------------------------------------------------------------------------------


def test_as_a_label_graph(model):
    targets = model[2]
    graph = label_graph(targets, names(targets), edges="couplings", embeddings="onehot")
    dense = torch.zeros(10, 10, dtype=torch.float64)
    dense[graph.edge_index[1], graph.edge_index[0]] = graph.edge_weight.double()
    np.testing.assert_allclose(dense, matrix(targets), rtol=1e-6)
    options = {"neighbors": 64, "pseudo_images": 5.0}
    assert graph.recipe == {"edges": "couplings", **options, "embeddings": "one-hot", "num_images": 20_000}
    other = label_graph(targets, names(targets), edges="couplings", embeddings="onehot", threshold=0.9, p=0.5)
    assert torch.equal(other.edge_weight, graph.edge_weight), "threshold and p play no part"


def test_of_a_shipped_label_space():
    graph = label_space("coco2014", edges="couplings")
    assert graph.num_edges == 80 * 65
    place = {name: i for i, name in enumerate(graph.label_names)}
    coupling = {
        (i, j): w for (i, j), w in zip(graph.edge_index.T.tolist(), graph.edge_weight.tolist(), strict=True)
    }
    assert coupling[place["fork"], place["knife"]] > 1
    assert coupling[place["cat"], place["dog"]] < 0


def test_unknown_edges():
    with pytest.raises(InputError, match=r"unknown edges 'coupling'\. Did you mean couplings\?"):
        label_graph([["a", "b"]], edges="coupling", embeddings="onehot")
