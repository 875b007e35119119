"""How alike labels become, against cosines written out, and against what propagation must do."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from zoo.graph import label_graph
from zoo.heads import build_head
from zoo.over_smoothing import label_similarities, mean_similarity


def test_mean_similarity_is_the_mean_cosine_of_pairs():
    vectors = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    cosines = F.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    pairs = cosines[~torch.eye(7, dtype=torch.bool)]
    assert mean_similarity(vectors) == pytest.approx(float(pairs.mean()), abs=1e-6)
    assert mean_similarity(torch.ones(4, 3)) == pytest.approx(1.0)


def test_each_layer_over_a_dense_graph_makes_labels_more_alike():
    targets = (torch.rand(60, 6, generator=torch.Generator().manual_seed(0)) < 0.6).int().numpy()
    graph = label_graph(targets, [f"label {i}" for i in range(6)], embeddings="random", threshold=0.0, p=0.8)
    torch.manual_seed(0)
    head = build_head("mlgcn", 16, graph, widths=[32, 32])
    found = label_similarities(head)
    assert len(found) == 1 + 3
    assert found[0] < found[1] < found[-1]
    assert found[-1] > 0.9
