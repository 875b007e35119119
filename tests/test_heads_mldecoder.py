"""ML-Decoder with fixed and with word queries: against the paper's formulas in loops, and what is special to them."""

from __future__ import annotations

import copy

import pytest
import torch
from small_heads import EMBEDDING, NUM_FEATURES, NUM_LABELS, SMALL, graph_of, perturb, small_head
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.data import Data

from zoo.controls import control
from zoo.graph import unlinked_labels
from zoo.heads import build_head, head_options, uses_graph
from zoo.heads.head import Head
from zoo.lookup import InputError


def layer_norm(x: Tensor, p: dict[str, Tensor], name: str) -> Tensor:
    variance = ((x - x.mean()) ** 2).mean()
    return p[f"{name}.weight"] * (x - x.mean()) / (variance + 1e-5).sqrt() + p[f"{name}.bias"]


def decode(head: Head, query: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """One query on one image's positions (P, D): what is decoded (width,), and each position's share (P,)."""
    p = dict(head.decoder.named_parameters())
    heads = SMALL["mldecoder"]["attention_heads"]
    size = len(query) // heads
    query = layer_norm(query, p, "query_norm")
    embedded = [(p["position.weight"] @ position + p["position.bias"]).clamp(min=0) for position in positions]
    read, shares = [], []
    for h in range(heads):
        rows = slice(h * size, (h + 1) * size)
        q = (p["query.weight"] @ query + p["query.bias"])[rows]
        energies = torch.stack([q @ (p["key.weight"] @ e)[rows] for e in embedded]) / size**0.5
        share = energies.exp() / energies.exp().sum()
        values = [(p["value.weight"] @ e + p["value.bias"])[rows] for e in embedded]
        read.append(sum(s * value for s, value in zip(share, values, strict=True)))
        shares.append(share)
    attended = p["attended.weight"] @ torch.cat(read) + p["attended.bias"]
    decoded = layer_norm(query + attended, p, "attention_norm")
    hidden = (p["feedforward.0.weight"] @ decoded + p["feedforward.0.bias"]).clamp(min=0)
    decoded = decoded + p["feedforward.3.weight"] @ hidden + p["feedforward.3.bias"]
    return layer_norm(decoded, p, "feedforward_norm"), sum(shares) / heads


def mldecoder_logits(head: Head, graph: Data, feature_map: Tensor) -> tuple[Tensor, Tensor]:
    """Image by image and label by label: column i mod g of the matrix of group i div g; and the labels' maps."""
    group_size = head.weight.size(2)
    logits, maps = torch.empty(len(feature_map), head.num_labels), []
    for b, image in enumerate(feature_map):
        for i in range(head.num_labels):
            group, column = divmod(i, group_size)
            decoded, shares = decode(head, head.queries[group], image.flatten(1).T)
            logits[b, i] = decoded @ head.weight[group, :, column] + head.bias[i]
            maps.append(shares)
    return logits, torch.stack(maps).view(len(feature_map), -1, *feature_map.shape[2:])


def mldecoder_words_logits(head: Head, graph: Data, feature_map: Tensor) -> tuple[Tensor, Tensor]:
    p = dict(head.named_parameters())
    logits, maps = torch.empty(len(feature_map), len(graph.x)), []
    for b, image in enumerate(feature_map):
        for i, vector in enumerate(graph.x):
            query = p["queries.weight"] @ vector + p["queries.bias"]
            decoded, shares = decode(head, query, image.flatten(1).T)
            logits[b, i] = decoded @ p["logit.weight"][0] + p["logit.bias"][0]
            maps.append(shares)
    return logits, torch.stack(maps).view(len(feature_map), -1, *feature_map.shape[2:])


FORMULAS = {"mldecoder": mldecoder_logits, "mldecoder_words": mldecoder_words_logits}

both = pytest.mark.parametrize("name", FORMULAS)


@both
def test_logits_equal_the_formula(name, graph, feature_map):
    head = small_head(name, NUM_FEATURES, graph).eval()
    perturb(head)
    expected, maps = FORMULAS[name](head, graph, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head.attention_maps(feature_map), maps, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("groups", "expected"), [(1, (1, 7)), (2, (2, 4)), (3, (3, 3)), (5, (4, 2)), (9, (7, 1))]
)
def test_groups_of_labels(groups, expected, graph, feature_map):
    """Also where they do not divide the labels, and where a group would be left without any."""
    head = small_head("mldecoder", NUM_FEATURES, graph, groups=groups).eval()
    perturb(head)
    width = SMALL["mldecoder"]["width"]
    assert head.queries.shape == (expected[0], width)
    assert head.weight.shape == (expected[0], width, expected[1])
    logits, maps = mldecoder_logits(head, graph, feature_map)
    torch.testing.assert_close(head(feature_map), logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head.attention_maps(feature_map), maps, atol=1e-6, rtol=1e-4)


# --- attention maps ------------------------------------------------------------------------------------------


@both
def test_attention_maps_are_shares_of_the_positions(name, graph, feature_map):
    head = small_head(name, NUM_FEATURES, graph, dropout=0.5)
    maps = head.attention_maps(feature_map)
    assert maps.shape == (3, NUM_LABELS, 4, 5)
    assert (maps > 0).all()
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(3, NUM_LABELS))
    assert torch.equal(maps, head.attention_maps(feature_map)), "without dropout, in training too"


@both
def test_attention_maps_see_features_as_the_logits_do(name, graph, feature_map):
    head = small_head(name, NUM_FEATURES, graph).eval()
    mean, std = torch.randn(NUM_FEATURES), torch.rand(NUM_FEATURES) + 0.5
    standardised = (feature_map - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    expected = head.attention_maps(standardised)
    head.standardize(mean, std, torch.zeros(NUM_LABELS))
    torch.testing.assert_close(head.attention_maps(feature_map), expected)


def test_labels_of_a_group_share_its_map(graph, feature_map):
    maps = small_head("mldecoder", NUM_FEATURES, graph, groups=3).attention_maps(feature_map)
    assert torch.equal(maps[:, 0], maps[:, 2])
    assert not torch.allclose(maps[:, 2], maps[:, 3])


# --- fixed queries -------------------------------------------------------------------------------------------


def test_thousands_of_labels_cost_no_more_than_the_last_product(feature_map):
    """Counted in operations; and the last label has its own logits, the last group not being full."""
    operations = {}
    for count in (500, 4999):
        labels = unlinked_labels([f"label {i}" for i in range(count)])
        head = small_head("mldecoder", NUM_FEATURES, labels).eval()
        perturb(head)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            logits = head(feature_map)
        operations[count] = counter.get_total_flops()
        assert logits.shape == (3, count)
        decoded, _ = decode(head, head.queries[99], feature_map[1].flatten(1).T)
        column = (count - 1) % head.group_size
        expected = decoded @ head.weight[99, :, column] + head.bias[count - 1]
        torch.testing.assert_close(logits[1, -1], expected, atol=1e-5, rtol=1e-4)
    last_product = 2 * len(feature_map) * 100 * SMALL["mldecoder"]["width"]
    assert operations[4999] - operations[500] == (50 - 5) * last_product


def test_fixed_queries_are_random_and_saved_but_not_learned(graph, feature_map):
    heads = [small_head("mldecoder", NUM_FEATURES, graph, dropout=0.0) for _ in range(2)]
    assert not torch.equal(heads[0].queries, heads[1].queries)
    heads[1].load_state_dict(heads[0].state_dict())
    assert torch.equal(heads[0](feature_map), heads[1](feature_map))
    head, before = heads[0], heads[0].queries.clone()
    assert all("queries" not in name for name, _ in head.named_parameters())
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.5)
    head(feature_map).square().sum().backward()
    optimizer.step()
    assert torch.equal(head.queries, before)


def test_fixed_queries_need_no_label_vectors(feature_map):
    labels = unlinked_labels(["dog", "cat"])
    assert small_head("mldecoder", NUM_FEATURES, labels)(feature_map).shape == (3, 2)
    assert not uses_graph("mldecoder")


# --- word queries --------------------------------------------------------------------------------------------


def test_no_parameter_belongs_to_a_label_so_that_labels_can_be_added(graph, weights, feature_map):
    """The old labels keep their logits, and a new one's is what the formula says of its vector."""
    head = small_head("mldecoder_words", NUM_FEATURES, graph).eval()
    perturb(head)
    more = graph_of(torch.eye(NUM_LABELS + 2), torch.cat([graph.x, torch.randn(2, EMBEDDING)]))
    larger = small_head("mldecoder_words", NUM_FEATURES, more).eval()
    with torch.no_grad():
        for own, parameter in zip(larger.parameters(), head.parameters(), strict=True):
            own.copy_(parameter)
    torch.testing.assert_close(larger(feature_map)[:, :NUM_LABELS], head(feature_map))
    expected, _ = mldecoder_words_logits(head, more, feature_map)
    torch.testing.assert_close(larger(feature_map), expected, atol=1e-5, rtol=1e-4)


def test_words_read_the_vectors_of_the_graph_and_not_its_edges(graph, feature_map):
    assert uses_graph("mldecoder_words")
    head = small_head("mldecoder_words", NUM_FEATURES, graph).eval()
    logits = {"": head(feature_map)}
    for name in ("identity", "shuffled", "random_vectors"):
        other = small_head("mldecoder_words", NUM_FEATURES, control(graph, name)).eval()
        other.load_state_dict(
            {key: value for key, value in head.state_dict().items() if key != "x"}, strict=False
        )
        logits[name] = other(feature_map)
    assert torch.equal(logits["identity"], logits[""])
    assert torch.equal(logits["shuffled"], logits[""])
    assert not torch.allclose(logits["random_vectors"], logits[""])


def test_words_keep_a_copy_of_the_vectors(graph, feature_map):
    head = small_head("mldecoder_words", NUM_FEATURES, graph).eval()
    before = head(feature_map)
    graph.x.zero_()
    assert torch.equal(head(feature_map), before)


def test_words_ask_for_label_vectors():
    with pytest.raises(InputError, match="needs label vectors, and this label space has none"):
        small_head("mldecoder_words", NUM_FEATURES, unlinked_labels(["dog", "cat"]))


# --- options, start, dropout ---------------------------------------------------------------------------------


def test_defaults_are_the_papers(graph):
    shared = {"width": 768, "attention_heads": 8, "feedforward_width": 2048, "dropout": 0.1}
    assert head_options("mldecoder") == {"groups": 100, **shared}
    assert head_options("mldecoder_words") == shared
    head = build_head("mldecoder", NUM_FEATURES, graph)
    sizes = {name: tuple(parameter.shape) for name, parameter in head.named_parameters()}
    assert sizes["decoder.position.weight"] == (768, NUM_FEATURES)
    assert sizes["decoder.feedforward.0.weight"] == (2048, 768)
    assert head.decoder.attention_heads == 8


@both
def test_starts_near_zero_at_the_papers_sizes(name):
    """As a probe of standardised features has to, with many labels and wide queries too."""
    graph = graph_of(torch.eye(300), torch.randn(300, 50))
    head = build_head(name, 64, graph).eval()
    with torch.no_grad():
        logits = head(torch.randn(8, 64, 3, 3))
    assert logits.abs().max() < 1.5
    assert 0.05 < logits.std() < 0.5


@both
def test_dropout_acts_in_the_decoder_and_not_on_the_features(name, graph, feature_map):
    head = small_head(name, NUM_FEATURES, graph, dropout=0.9)
    seen: list[Tensor] = []
    head.decoder.position.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    first, second = head(feature_map), head(feature_map)
    assert not torch.equal(first, second)
    assert torch.equal(seen[0], feature_map.flatten(2).transpose(1, 2))
    without = copy.deepcopy(head).eval()
    assert torch.equal(without(feature_map), without(feature_map))


@both
def test_options_out_of_range(name, graph):
    for options in ({"attention_heads": 5}, {"attention_heads": 0}, {"width": 0}):
        with pytest.raises(
            InputError, match=r"width must be a multiple of attention_heads: \d+ is none of \d"
        ):
            small_head(name, NUM_FEATURES, graph, **options)


@pytest.mark.parametrize("groups", [0, -1])
def test_groups_out_of_range(groups, graph):
    with pytest.raises(InputError, match=f"groups must be at least 1, not {groups}"):
        small_head("mldecoder", NUM_FEATURES, graph, groups=groups)
