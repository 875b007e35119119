"""Query2Label against its formulas: plain matrix products and loops over images, attention heads and vectors."""

from __future__ import annotations

import math

import pytest
import torch
from small_heads import NUM_FEATURES, NUM_LABELS, perturb, small_head
from torch import Tensor
from torch.export import Dim
from torch_geometric.data import Data

from zoo.heads import build_head, head_options
from zoo.heads.head import Head
from zoo.heads.q2l import position_encoding
from zoo.lookup import InputError


def sinusoids(height: int, width: int, channels: int) -> Tensor:
    """(h*w, C), number by number: DETR's encoding with its scale of 2 pi and its temperature of 10,000."""
    half = channels // 2
    rows = []
    for y in range(height):
        for x in range(width):
            row = []
            for position, size in ((y, height), (x, width)):
                for i in range(half):
                    angle = 2 * math.pi * (position + 1) / size / 10000 ** (2 * (i // 2) / half)
                    row.append(math.cos(angle) if i % 2 else math.sin(angle))
            rows.append(row)
    return torch.tensor(rows)


def norm(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    x = x - x.mean(1, keepdim=True)
    return x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def attend(
    p: dict[str, Tensor], name: str, heads: int, q: Tensor, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Queries (m, C), keys and values (n, C): attended (m, C), and the attention (m, n) of the mean head."""
    weight, bias = p[f"{name}.in_proj_weight"].chunk(3), p[f"{name}.in_proj_bias"].chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((q, k, v), weight, bias, strict=True))
    size = q.size(1) // heads
    rows, maps = [], []
    for query in q:
        parts, seen = [], []
        for columns in (slice(h * size, (h + 1) * size) for h in range(heads)):
            powers = torch.stack([torch.exp(query[columns] @ key[columns] / math.sqrt(size)) for key in k])
            attention = powers / powers.sum()
            parts.append(sum(a * value[columns] for a, value in zip(attention, v, strict=True)))
            seen.append(attention)
        rows.append(torch.cat(parts))
        maps.append(sum(seen) / heads)
    out = torch.stack(rows) @ p[f"{name}.out_proj.weight"].T + p[f"{name}.out_proj.bias"]
    return out, torch.stack(maps)


def hidden(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    x = (x @ p[f"{name}.0.weight"].T + p[f"{name}.0.bias"]).clamp(min=0)
    return x @ p[f"{name}.3.weight"].T + p[f"{name}.3.bias"]


def q2l_image(head: Head, image: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Logits (L,) of one image (D, h, w), and where the last decoder layer looks (L, h*w)."""
    p = dict(head.named_parameters())
    tokens = torch.stack([image[:, y, x] for y in range(image.size(1)) for x in range(image.size(2))])
    tokens = tokens @ p["projection.weight"].T + p["projection.bias"]
    positions, queries = sinusoids(*image.shape[1:], tokens.size(1)), p["queries"]

    for i in range(len(head.encoder)):
        layer, query = f"encoder.{i}", tokens + positions
        added, _ = attend(p, f"{layer}.attention.attention", heads, query, query, tokens)
        tokens = norm(p, f"{layer}.attention.norm", tokens + added)
        tokens = norm(p, f"{layer}.norm", tokens + hidden(p, f"{layer}.feedforward", tokens))

    x, maps = torch.zeros_like(queries), None
    for i in range(len(head.decoder)):
        layer = f"decoder.{i}"
        if f"{layer}.self_attention.norm.weight" in p:
            added, _ = attend(p, f"{layer}.self_attention.attention", heads, x + queries, x + queries, x)
            x = norm(p, f"{layer}.self_attention.norm", x + added)
        added, maps = attend(
            p, f"{layer}.attention.attention", heads, x + queries, tokens + positions, tokens
        )
        x = norm(p, f"{layer}.attention.norm", x + added)
        x = norm(p, f"{layer}.norm", x + hidden(p, f"{layer}.feedforward", x))
    x = norm(p, "decoder_norm", x)
    return torch.stack([x[i] @ p["weight"][i] + p["bias"][i] for i in range(NUM_LABELS)]), maps


def q2l_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor, heads: int = 3) -> Tensor:
    return torch.stack([q2l_image(head, image, heads)[0] for image in feature_map])


FORMULAS = {"q2l": q2l_logits}

# Every option that changes what is computed, each away from its default.
VARIANTS = [
    {},
    {"attention_heads": 1},
    {"encoder_layers": 0, "decoder_layers": 1},
    {"encoder_layers": 2, "decoder_layers": 3},
    {"self_attention": False},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_logits_and_attention_maps_equal_the_formula(options, graph, weights, feature_map):
    head = small_head("q2l", NUM_FEATURES, graph, **options).eval()
    perturb(head)
    heads = options.get("attention_heads", 3)
    with torch.no_grad():
        expected = q2l_logits(head, graph, weights, feature_map, heads)
        torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)
        maps = head.attention_maps(feature_map)
        assert maps.shape == (3, NUM_LABELS, 4, 5)
        for image, own in zip(feature_map, maps, strict=True):
            torch.testing.assert_close(own.flatten(1), q2l_image(head, image, heads)[1], atol=1e-6, rtol=1e-4)


def test_attention_maps_are_shares_of_standardised_features(graph, feature_map):
    head = small_head("q2l", NUM_FEATURES, graph).eval()
    mean, std = torch.randn(NUM_FEATURES), torch.rand(NUM_FEATURES) + 0.5
    plain = head.attention_maps((feature_map - mean[:, None, None]) / std[:, None, None])
    head.standardize(mean, std, torch.zeros(NUM_LABELS))
    maps = head.attention_maps(feature_map)
    torch.testing.assert_close(maps, plain)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(3, NUM_LABELS))


@pytest.mark.parametrize(("h", "w", "channels"), [(1, 1, 4), (2, 3, 8), (5, 2, 20)])
def test_position_encoding_number_by_number(h, w, channels):
    encoding = position_encoding(torch.zeros(2, 3, h, w), channels)
    torch.testing.assert_close(encoding, sinusoids(h, w, channels), atol=1e-6, rtol=1e-5)
    assert len(encoding.unique(dim=0)) == h * w


def test_positions_matter_to_the_logits(graph, feature_map):
    head = small_head("q2l", NUM_FEATURES, graph).eval()
    for turned in (feature_map.flip(2), feature_map.flip(3)):
        assert (head(turned) - head(feature_map)).abs().max() > 1e-3


def test_labels_ask_each_other_only_with_self_attention(graph, feature_map):
    """Another query for one label moves the logits of the others, or does not."""
    for self_attention in (True, False):
        head = small_head("q2l", NUM_FEATURES, graph, self_attention=self_attention).eval()
        before = head(feature_map)
        with torch.no_grad():
            head.queries[0] += 1
        moved = (head(feature_map) - before).abs().amax(0)
        assert moved[0] > 1e-3
        assert (moved[1:] > 1e-6).all() if self_attention else (moved[1:] == 0).all()


def test_exports_for_any_batch_and_map(graph, feature_map):
    head = small_head("q2l", NUM_FEATURES, graph).eval()
    any_size = {0: Dim("b"), 2: Dim("h"), 3: Dim("w")}
    program = torch.export.export(head, (feature_map,), dynamic_shapes=(any_size,))
    other = torch.randn(2, NUM_FEATURES, 6, 3)
    torch.testing.assert_close(program.module()(other), head(other), atol=1e-5, rtol=1e-4)


def test_dropout_acts_inside_the_layers_only(graph, feature_map):
    head = small_head("q2l", NUM_FEATURES, graph, dropout=0.5)
    assert not torch.equal(head(feature_map), head(feature_map))
    assert torch.equal(head.dropout(feature_map), feature_map)
    head.eval()
    assert torch.equal(head(feature_map), head(feature_map))
    layer = head.decoder[1]
    inside = [layer.feedforward[2].p, layer.feedforward[4].p]
    inside += [
        part for a in (layer.self_attention, layer.attention) for part in (a.dropout.p, a.attention.dropout)
    ]
    assert inside == [0.5] * 6


def test_the_sizes_of_the_paper(graph):
    with torch.device("meta"):
        head = build_head("q2l", 2048, graph)
    assert [layer.attention.attention.num_heads for layer in (*head.encoder, *head.decoder)] == [4, 4, 4]
    assert head.decoder[0].self_attention is None
    attention, hidden_layer, norm_ = 4 * 2048 * 2049, 2 * 2048 * 8192 + 2048 + 8192, 2 * 2048
    layers = 3 * (attention + hidden_layer + 2 * norm_) + attention + norm_
    parameters = layers + 2048 * 2049 + norm_ + NUM_LABELS * (2 * 2048 + 1)
    assert sum(p.numel() for p in head.parameters()) == parameters


@pytest.mark.parametrize(("width", "attention_heads"), [(10, 2), (12, 5), (0, 1), (12, 0)])
def test_widths_that_cannot_be_divided_are_refused(width, attention_heads, graph):
    with pytest.raises(
        InputError, match=rf"multiple of 4 .* not {width} with attention_heads {attention_heads}"
    ):
        build_head("q2l", NUM_FEATURES, graph, width=width, attention_heads=attention_heads)


@pytest.mark.parametrize(("encoder_layers", "decoder_layers"), [(-1, 2), (1, 0)])
def test_too_few_layers_are_refused(encoder_layers, decoder_layers, graph):
    with pytest.raises(
        InputError, match=f"decoder_layers 1 or more, not {encoder_layers} and {decoder_layers}"
    ):
        small_head("q2l", NUM_FEATURES, graph, encoder_layers=encoder_layers, decoder_layers=decoder_layers)


def test_options():
    assert head_options("q2l") == {
        "width": 2048,
        "feedforward_width": 8192,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "attention_heads": 4,
        "self_attention": True,
        "dropout": 0.1,
    }
