"""Cross-modality attention against a loop over images, labels and positions, on one level and on several."""

from __future__ import annotations

import pytest
import torch
from small_heads import EMBEDDING, NUM_FEATURES, NUM_LABELS, perturb, small_head
from torch import Tensor
from torch_geometric.data import Data

from zoo.asge import asge
from zoo.graph import unlinked_labels
from zoo.heads import build_head, head_options
from zoo.heads.cma import CMAHead
from zoo.heads.head import Head
from zoo.label_spaces import label_space
from zoo.lookup import InputError

CHANNELS = [4, 6, NUM_FEATURES]


def maps_of(channels: list[int]) -> list[Tensor]:
    """Two images, the maps half as large from one level to the next."""
    return [torch.randn(2, c, 12 >> i, 16 >> i) for i, c in enumerate(channels)]


def level_logits(p: dict[str, Tensor], level: int, x: Tensor, feature_map: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, L) and attention (B, L, h, w) of one level, with one hidden layer in its projection.

    A last layer without a bias is that of a centered projection.
    """
    q = {key.removeprefix(f"levels.{level}."): value for key, value in p.items()}
    batch, _, height, width = feature_map.shape
    positions = [(i, j) for i in range(height) for j in range(width)]
    logits, attention = torch.zeros(batch, len(x)), torch.zeros(batch, len(x), height, width)
    for b in range(batch):
        projected = {}
        for i, j in positions:
            hidden = q["projection.0.weight"][:, :, 0, 0] @ feature_map[b, :, i, j] + q["projection.0.bias"]
            projected[i, j] = q["projection.2.weight"][:, :, 0, 0] @ hidden.clamp(min=0)
        mean = sum(projected.values()) / len(positions)
        for label, vector in enumerate(x):
            for i, j in positions:
                moved = projected[i, j] + q.get("projection.2.bias", -mean)
                attention[b, label, i, j] = max(
                    moved @ vector / (moved.norm() * vector.norm()), torch.zeros(())
                )
            total = attention[b, label].sum()
            attention[b, label] = attention[b, label] / total if total > 0 else 1 / len(positions)
            average = (feature_map[b] * attention[b, label]).sum((1, 2))
            logits[b, label] = (
                q["classifiers.weight"][label, :, 0, 0] @ average + q["classifiers.bias"][label]
            )
    return logits, attention


def cma_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    return level_logits(dict(head.named_parameters()), 0, graph.x, feature_map)[0]


FORMULAS = {"cma": cma_logits}


@torch.no_grad()
@pytest.mark.parametrize("centered", [True, False])
def test_logits_equal_the_formula(centered, graph, weights, feature_map):
    head = small_head("cma", NUM_FEATURES, graph, centered=centered)
    perturb(head)
    expected = cma_logits(head, graph, weights, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_several_levels_are_averaged(graph):
    head = small_head("cma", CHANNELS, graph, levels=3)
    perturb(head)
    maps, p = maps_of(CHANNELS), dict(head.named_parameters())
    expected = sum(level_logits(p, level, graph.x, m)[0] for level, m in enumerate(maps)) / 3
    torch.testing.assert_close(head(maps), expected, atol=1e-5, rtol=1e-4)
    assert head.num_features == NUM_FEATURES


@torch.no_grad()
def test_attention_maps_are_those_of_the_formula(graph, feature_map):
    head = small_head("cma", NUM_FEATURES, graph)
    perturb(head)
    expected = level_logits(dict(head.named_parameters()), 0, graph.x, feature_map)[1]
    torch.testing.assert_close(head.attention_maps(feature_map), expected, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_attention_maps_of_several_levels_have_the_size_of_the_finest(graph):
    head, maps = small_head("cma", CHANNELS, graph, levels=3), maps_of(CHANNELS)
    attention = head.attention_maps(maps)
    assert attention.shape == (2, NUM_LABELS, 12, 16)
    assert attention.min() >= 0
    torch.testing.assert_close(attention.sum((2, 3)), torch.ones(2, NUM_LABELS))
    # Without the finest level's attention, what is left comes from coarser maps: equal neighbours, or nearly.
    single = small_head("cma", CHANNELS[:1], graph)
    single.levels[0].load_state_dict(head.levels[0].state_dict())
    coarse = 3 * attention - single.attention_maps(maps[0])
    assert (coarse[..., 1:] - coarse[..., :-1]).abs().mean() < 0.5 * coarse.std()


@torch.no_grad()
def test_a_label_near_no_position_gets_the_plain_average(graph, feature_map):
    head = small_head("cma", NUM_FEATURES, graph, centered=False)
    projection = head.levels[0].projection[-1]
    projection.weight.zero_()
    projection.bias.copy_(-graph.x[2])  # every position lies opposite to label 2
    attention = head.attention_maps(feature_map)
    torch.testing.assert_close(attention[:, 2], torch.full_like(attention[:, 2], 1 / 20))
    classifiers = head.levels[0].classifiers
    expected = feature_map.mean((2, 3)) @ classifiers.weight[2, :, 0, 0] + classifiers.bias[2]
    torch.testing.assert_close(head(feature_map)[:, 2], expected)


@torch.no_grad()
def test_every_label_lies_near_a_position_of_a_centered_projection(graph, feature_map):
    for centered in (True, False):
        head = small_head("cma", NUM_FEATURES, graph, centered=centered)
        # However far all features of all images have moved, and the projections with them.
        attention = head.attention_maps(feature_map + 50)
        everywhere = (attention - 1 / 20).abs().amax((2, 3)) < 1e-6
        assert bool(everywhere.any()) != centered


@pytest.mark.parametrize("centered", [True, False])
def test_it_stays_finite_where_attention_vanishes(centered, graph, feature_map):
    """Projections, and a label vector, of length zero."""
    graph.x[3] = 0
    head = small_head("cma", NUM_FEATURES, graph, centered=centered)
    with torch.no_grad():
        for parameter in head.levels[0].projection[-1].parameters():
            parameter.zero_()
    torch.testing.assert_close(head.attention_maps(feature_map), torch.full((3, NUM_LABELS, 4, 5), 1 / 20))
    logits = head(feature_map)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("widths", [(), (12,), (12, 10)])
def test_widths_are_the_layers_between(widths, graph):
    head = small_head("cma", NUM_FEATURES, graph, widths=widths)
    kernels = [p for name, p in head.levels[0].projection.named_parameters() if name.endswith("weight")]
    assert [tuple(k.shape) for k in kernels] == [
        (out, size, 1, 1) for size, out in zip([NUM_FEATURES, *widths], [*widths, EMBEDDING], strict=True)
    ]


def test_the_paper_s_vectors_come_from_the_edges(graph, feature_map):
    head = build_head("cma", NUM_FEATURES, graph, dim=11)
    expected = asge(graph.edge_index, graph.edge_weight, NUM_LABELS, dim=11)
    assert torch.equal(head.x, expected)
    assert torch.equal(head.state_dict()["x"], expected)
    assert not any(parameter is head.x for parameter in head.parameters())
    graph.x = None
    assert torch.equal(build_head("cma", NUM_FEATURES, graph, dim=11).x, expected), "no other vectors needed"
    graph.edge_weight *= torch.linspace(0.5, 1.5, len(graph.edge_weight))
    assert not torch.allclose(build_head("cma", NUM_FEATURES, graph, dim=11).x, expected)
    assert build_head("cma", NUM_FEATURES, graph).x.shape == (NUM_LABELS, 300)


def test_given_asge_vectors_make_the_same_head():
    graph = label_space("voc2007", embeddings="asge")
    fitted, given = (build_head("cma", NUM_FEATURES, graph, vectors=vectors) for vectors in ("asge", "given"))
    given.levels.load_state_dict(fitted.levels.state_dict())
    feature_map = torch.randn(2, NUM_FEATURES, 3, 3)
    torch.testing.assert_close(given(feature_map), fitted(feature_map))


def test_a_standardised_head_of_several_levels_scales_the_last_map(graph):
    head, maps = small_head("cma", CHANNELS, graph, levels=3), maps_of(CHANNELS)
    mean, std, log_odds = torch.randn(NUM_FEATURES), torch.rand(NUM_FEATURES) + 0.5, torch.randn(NUM_LABELS)
    scaled = [*maps[:-1], (maps[-1] - mean[:, None, None]) / std[:, None, None]]
    expected, expected_maps = head(scaled) + log_odds, head.attention_maps(scaled)
    head.standardize(mean, std, log_odds)
    torch.testing.assert_close(head(maps), expected)
    torch.testing.assert_close(head.attention_maps(maps), expected_maps)


def test_dropout_acts_on_every_level(graph):
    head, maps = small_head("cma", CHANNELS, graph, levels=3, dropout=0.5), maps_of(CHANNELS)
    for level in range(3):
        alone = [m * (i == level) for i, m in enumerate(maps)]
        assert not torch.equal(head(alone), head(alone))
    head.eval()
    assert torch.equal(head(maps), head(maps))


def test_what_does_not_fit_is_named(graph, feature_map):
    with pytest.raises(
        InputError, match=r"unknown label vectors 'agse'\. Did you mean asge\? Known: asge, given"
    ):
        build_head("cma", NUM_FEATURES, graph, vectors="agse")
    with pytest.raises(InputError, match="needs label vectors, and this label space has none"):
        build_head("cma", NUM_FEATURES, unlinked_labels(["dog", "cat"]), vectors="given")
    with pytest.raises(InputError, match=r"levels=3 takes the channels of 3 feature maps, not \[8\]"):
        small_head("cma", NUM_FEATURES, graph, levels=3)
    head = small_head("cma", CHANNELS, graph, levels=3)
    for given in (feature_map, [feature_map]):
        with pytest.raises(InputError, match=r"takes 3 feature maps, not 1: Backbone\(name, levels=3\)"):
            head(given)
        with pytest.raises(InputError, match="takes 3 feature maps, not 1"):
            head.attention_maps(given)


def test_the_options():
    assert head_options("cma") == {
        "vectors": "asge",
        "dim": 300,
        "widths": (512,),
        "centered": True,
        "levels": 1,
        "dropout": 0.0,
    }
    assert CMAHead.uses_graph
    assert CMAHead.uses_positions
