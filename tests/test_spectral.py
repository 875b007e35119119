from __future__ import annotations

import numpy as np
import pytest
import torch

import zoo
import zoo.spectral
from zoo.embeddings import GLOVE_STD, label_embeddings
from zoo.spectral import spectral


def random_graph(num_labels: int, seed: int = 0):
    dense = np.random.default_rng(seed).random((num_labels, num_labels))
    dense[dense < 0.8] = 0
    np.fill_diagonal(dense, 1.0)
    source, target = np.nonzero(dense)
    weight = torch.from_numpy(dense[source, target]).float()
    return torch.from_numpy(np.stack([source, target])), weight, dense


def test_directions_equal_the_formula():
    edge_index, weight, dense = random_graph(30)
    adjacency = (dense + dense.T) / 2
    degrees = adjacency.sum(1)
    normalised = adjacency / np.sqrt(degrees[:, None] * degrees[None, :])
    vectors = spectral(edge_index, weight, 30, dim=30).double().numpy()
    # With every eigenvector of positive eigenvalue, inner products are those of S^2's positive part.
    values, basis = np.linalg.eigh(normalised)
    rows = basis * values.clip(min=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors @ vectors.T, rows @ rows.T, atol=1e-5)


def test_lanczos_and_dense_agree(monkeypatch):
    edge_index, weight, _ = random_graph(60)
    dense = spectral(edge_index, weight, 60, dim=8)
    monkeypatch.setattr(zoo.spectral, "DENSE", 10)
    torch.testing.assert_close(spectral(edge_index, weight, 60, dim=8), dense, atol=1e-4, rtol=1e-4)


def test_communities_lie_together():
    blocks = torch.block_diag(*[torch.ones(5, 5) for _ in range(4)]) + 0.02
    edge_index = blocks.nonzero().T
    vectors = spectral(edge_index, blocks[*edge_index], 20, dim=4)
    cosines = vectors @ vectors.T
    same = torch.block_diag(*[torch.ones(5, 5) for _ in range(4)]).bool()
    assert cosines[same].min() > 0.95
    assert cosines[~same].max() < 0.6


def test_labels_without_neighbours_and_negative_weights():
    loops = torch.arange(4)
    vectors = spectral(torch.stack([loops, loops]), torch.tensor([1.0, 0.0, -2.0, 3.0]), 4)
    assert vectors.shape == (4, 4)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(4))
    edge_index, weight, _ = random_graph(12)
    signed = weight * torch.where(torch.arange(len(weight)) % 2 == 0, 1.0, -1.0)
    torch.testing.assert_close(spectral(edge_index, signed, 12), spectral(edge_index, weight, 12))


def test_as_label_vectors():
    edge_index, weight, _ = random_graph(12)
    names = [f"label {i}" for i in range(12)]
    result = label_embeddings(names, "spectral", dim=5, edges=(edge_index, weight))
    assert result.source == "spectral 5-d"
    torch.testing.assert_close(result.vectors.norm(dim=1), torch.full((12,), GLOVE_STD * 5**0.5))
    again = label_embeddings(names, "spectral", dim=5, edges=(edge_index, weight))
    assert torch.equal(again.vectors, result.vectors)


def test_neighbours_in_coco_are_near():
    graph = zoo.label_space("coco2014", embeddings="spectral")
    vectors = torch.nn.functional.normalize(graph.x, dim=1)
    place = {name: i for i, name in enumerate(graph.label_names)}
    cosine = vectors @ vectors.T
    assert cosine[place["fork"], place["knife"]] > 5 * abs(cosine[place["fork"], place["zebra"]])
    assert graph.recipe["embeddings"] == "spectral 80-d"


@pytest.mark.parametrize("num_labels", [1, 2, 3])
def test_few_labels(num_labels):
    edge_index, weight, _ = random_graph(num_labels)
    assert spectral(edge_index, weight, num_labels).isfinite().all()
