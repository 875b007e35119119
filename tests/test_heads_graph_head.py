"""Heads whose classifiers a label graph generates: each against its dense formula, and what they share."""

from __future__ import annotations

import json
from importlib import resources

import pytest
import torch
from small_heads import EMBEDDING, NUM_FEATURES, NUM_LABELS, graph_of, perturb
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.convs import CONVS
from zoo.graph import unlinked_labels
from zoo.heads import build_head, fold_head, head_options
from zoo.heads.graph_head import GraphHead
from zoo.heads.head import Head
from zoo.label_spaces import label_space
from zoo.lookup import InputError


def mlgcn_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    p, receives = dict(head.named_parameters()), weights.T
    hidden = receives @ graph.x @ p["convs.0.conv.lin.weight"].T
    classifiers = receives @ torch.where(hidden > 0, hidden, 0.2 * hidden) @ p["convs.1.conv.lin.weight"].T
    return feature_map.amax((2, 3)) @ classifiers.T


def sgc_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    p, receives = dict(head.named_parameters()), weights.T
    classifiers = receives @ receives @ graph.x @ p["convs.0.conv.lin.weight"].T + p["convs.0.conv.lin.bias"]
    return feature_map.amax((2, 3)) @ classifiers.T


def gat_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    """Label by label and attention head by attention head, with the edge's weight as its one feature."""
    p, x = dict(head.named_parameters()), graph.x
    for layer in (0, 1):
        q = {key.removeprefix(f"convs.{layer}.conv."): value for key, value in p.items()}
        columns = []
        for h in range(4):
            width = q["att_src"].size(2)
            rows = slice(h * width, (h + 1) * width)
            z, edge = x @ q["lin.weight"][rows].T, q["lin_edge.weight"][rows, 0]
            per_label = []
            for i in range(NUM_LABELS):
                neighbours = [j for j in range(NUM_LABELS) if weights[j, i] != 0]
                energies = torch.stack(
                    [
                        z[j] @ q["att_src"][0, h]
                        + z[i] @ q["att_dst"][0, h]
                        + weights[j, i] * edge @ q["att_edge"][0, h]
                        for j in neighbours
                    ]
                )
                per_label.append(F.leaky_relu(energies, 0.2).softmax(0) @ z[neighbours])
            columns.append(torch.stack(per_label))
        x = torch.cat(columns, 1) + q["bias"]
        x = F.leaky_relu(x, 0.2) if layer == 0 else x
    return feature_map.amax((2, 3)) @ x.T


def gatv2_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    """The nonlinearity comes before the attention vector, and so its answer depends on both labels together."""
    x = graph.x
    for layer in (0, 1):
        q = parameters_of(head, f"convs.{layer}.conv.")
        sent, received = (x @ q[f"lin_{side}.weight"].T + q[f"lin_{side}.bias"] for side in "lr")
        per_label = []
        for i in range(NUM_LABELS):
            neighbours = [j for j in range(NUM_LABELS) if weights[j, i] != 0]
            parts = []
            for h, columns in enumerate(torch.arange(sent.size(1)).chunk(4)):
                energies = []
                for j in neighbours:
                    summed = sent[j] + received[i] + weights[j, i] * q["lin_edge.weight"][:, 0]
                    energies.append(F.leaky_relu(summed[columns], 0.2) @ q["att"][0, h])
                parts.append(torch.stack(energies).softmax(0) @ sent[neighbours][:, columns])
            per_label.append(torch.cat(parts))
        x = torch.stack(per_label) + q["bias"]
        x = F.leaky_relu(x, 0.2) if layer == 0 else x
    return feature_map.amax((2, 3)) @ x.T


def transformer_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    """Scaled dot products, with the edge in the keys and the values, and the label's own vector beside them."""
    x = graph.x
    for layer in (0, 1):
        q = parameters_of(head, f"convs.{layer}.conv.")
        query, key, value, own = (
            x @ q[f"lin_{part}.weight"].T + q[f"lin_{part}.bias"]
            for part in ("query", "key", "value", "skip")
        )
        per_label = []
        for i in range(NUM_LABELS):
            neighbours = [j for j in range(NUM_LABELS) if weights[j, i] != 0]
            edges = torch.stack([weights[j, i] * q["lin_edge.weight"][:, 0] for j in neighbours])
            parts = []
            for columns in torch.arange(query.size(1)).chunk(4):
                keys = (key[neighbours] + edges)[:, columns]
                attention = (keys @ query[i, columns] / len(columns) ** 0.5).softmax(0)
                parts.append(attention @ (value[neighbours] + edges)[:, columns])
            per_label.append(torch.cat(parts) + own[i])
        x = torch.stack(per_label)
        x = F.leaky_relu(x, 0.2) if layer == 0 else x
    return feature_map.amax((2, 3)) @ x.T


def cheb_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    """T_0 = I, T_1 = -S, T_2 = 2 S^2 - I."""
    x, receives, identity = graph.x, weights.T, torch.eye(NUM_LABELS)
    for layer in (0, 1):
        q = parameters_of(head, f"convs.{layer}.conv.")
        terms = (identity, -receives, 2 * receives @ receives - identity)
        x = sum(t @ x @ q[f"lins.{k}.weight"].T for k, t in enumerate(terms)) + q["bias"]
        x = F.leaky_relu(x, 0.2) if layer == 0 else x
    return feature_map.amax((2, 3)) @ x.T


def ssgc_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    q, receives = parameters_of(head, "convs.0.conv."), weights.T
    powers = [torch.linalg.matrix_power(receives, k) @ graph.x for k in range(1, 17)]
    mixed = 0.05 * graph.x + 0.95 * torch.stack(powers).mean(0)
    return feature_map.amax((2, 3)) @ (mixed @ q["lin.weight"].T + q["lin.bias"]).T


def appnp_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    """A perceptron of each label alone, then ten steps of a walk that starts again with probability 0.1."""
    p = dict(head.named_parameters())
    hidden = F.leaky_relu(graph.x @ p["mlp.0.weight"].T + p["mlp.0.bias"], 0.2)
    predicted = hidden @ p["convs.0.resize.weight"].T + p["convs.0.resize.bias"]
    classifiers = predicted
    for _ in range(10):
        classifiers = 0.9 * weights.T @ classifiers + 0.1 * predicted
    return feature_map.amax((2, 3)) @ classifiers.T


def parameters_of(head: Head, prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value for name, value in head.named_parameters() if name.startswith(prefix)
    }


FORMULAS = {
    "appnp": appnp_logits,
    "cheb": cheb_logits,
    "gat": gat_logits,
    "gatv2": gatv2_logits,
    "mlgcn": mlgcn_logits,
    "sgc": sgc_logits,
    "ssgc": ssgc_logits,
    "transformer": transformer_logits,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_logits_equal_the_formula(name, graph, weights, feature_map):
    head = build_head(name, NUM_FEATURES, graph)
    perturb(head)
    expected = FORMULAS[name](head, graph, weights, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


# --- against over-smoothing ----------------------------------------------------------------------------------


def test_residual_adds_the_input_of_every_convolution(graph, weights, feature_map):
    head = build_head("mlgcn", NUM_FEATURES, graph, widths=[12, 12], residual=True)
    perturb(head)
    p, receives = dict(head.named_parameters()), weights.T
    w1, w2, w3 = (p[f"convs.{i}.conv.lin.weight"].T for i in range(3))
    first = F.leaky_relu(receives @ graph.x @ w1 + graph.x @ p["shortcuts.0.weight"].T, 0.2)
    second = F.leaky_relu(receives @ first @ w2 + first, 0.2)
    classifiers = receives @ second @ w3 + second @ p["shortcuts.2.weight"].T
    expected = feature_map.amax((2, 3)) @ classifiers.T
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)
    assert set(p) == {f"convs.{i}.conv.lin.weight" for i in range(3)} | {
        "shortcuts.0.weight",
        "shortcuts.2.weight",
    }


def joined_by_cat(layers: list[Tensor], p: dict[str, Tensor]) -> Tensor:
    return torch.cat(layers, 1)


def joined_by_max(layers: list[Tensor], p: dict[str, Tensor]) -> Tensor:
    return torch.stack(layers).amax(0)


def joined_by_lstm(layers: list[Tensor], p: dict[str, Tensor]) -> Tensor:
    """An LSTM reads a label's layers in both directions and scores each; the label takes their mean by score."""
    rows = []
    for label in range(NUM_LABELS):
        steps = [layer[label] for layer in layers]
        read = []
        for suffix, order in (("", range(len(steps))), ("_reverse", reversed(range(len(steps))))):
            w, u, b, c = (
                p[f"join.0.lstm.{kind}_l0{suffix}"]
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            hidden = cell = torch.zeros(u.size(1))
            states = {}
            for t in order:
                enter, forget, update, leave = (w @ steps[t] + b + u @ hidden + c).chunk(4)
                cell = forget.sigmoid() * cell + enter.sigmoid() * update.tanh()
                hidden = leave.sigmoid() * cell.tanh()
                states[t] = hidden
            read.append([states[t] for t in range(len(steps))])
        scores = [
            torch.cat(states) @ p["join.0.att.weight"][0] + p["join.0.att.bias"][0]
            for states in zip(*read, strict=True)
        ]
        rows.append(torch.stack(scores).softmax(0) @ torch.stack(steps))
    return torch.stack(rows)


JOINED = {"cat": joined_by_cat, "lstm": joined_by_lstm, "max": joined_by_max}


@pytest.mark.parametrize("how", JOINED)
def test_jumping_knowledge_reads_the_classifiers_from_every_layer(how, graph, weights, feature_map):
    head = build_head("mlgcn", NUM_FEATURES, graph, widths=[12, 12], jumping_knowledge=how)
    perturb(head)
    p, x, layers = dict(head.named_parameters()), graph.x, []
    for i in range(3):
        x = F.leaky_relu(weights.T @ x @ p[f"convs.{i}.conv.lin.weight"].T, 0.2)
        layers.append(x)
    classifiers = JOINED[how](layers, p) @ p["join.1.weight"].T + p["join.1.bias"]
    expected = feature_map.amax((2, 3)) @ classifiers.T
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)


def test_jumping_knowledge_of_unequal_widths(graph, feature_map):
    head = build_head("mlgcn", NUM_FEATURES, graph, widths=[12, 6], jumping_knowledge="cat")
    assert head.join[1].in_features == 12 + 6 + 6
    assert head(feature_map).shape == (3, NUM_LABELS)
    for how in ("max", "lstm"):
        with pytest.raises(InputError, match=rf"{how}' needs widths that are all equal, not \[12, 6\]"):
            build_head("mlgcn", NUM_FEATURES, graph, widths=[12, 6], jumping_knowledge=how)
    with pytest.raises(InputError, match=r"'cat' needs one width or more, not \[\]"):
        build_head("sgc", NUM_FEATURES, graph, jumping_knowledge="cat")
    with pytest.raises(InputError, match=r"unknown jumping_knowledge 'maximum'\. Did you mean max\?"):
        build_head("mlgcn", NUM_FEATURES, graph, jumping_knowledge="maximum")


@pytest.mark.parametrize("how", [None, *JOINED])
@pytest.mark.parametrize("name", ["gatv2", "mlgcn"])
def test_both_together_fold_and_export_and_train_every_parameter(name, how, graph, feature_map):
    head = build_head(
        name, NUM_FEATURES, graph, widths=[12], mlp_widths=[12], residual=True, jumping_knowledge=how
    )
    perturb(head)
    logits = head(feature_map)
    torch.testing.assert_close(fold_head(head)(feature_map), logits, atol=1e-5, rtol=1e-4)
    program = torch.export.export(head.eval(), (feature_map,))
    torch.testing.assert_close(program.module()(feature_map), logits, atol=1e-5, rtol=1e-4)
    logits.square().sum().backward()
    dead = [key for key, value in head.named_parameters() if value.grad is None or not value.grad.any()]
    assert not dead


def test_residual_keeps_labels_apart_that_a_deep_stack_makes_alike():
    """Twelve layers over a graph of all pairs: what all labels have in common is all that is left without it."""
    torch.manual_seed(0)
    mean = torch.full((NUM_LABELS, NUM_LABELS), 1 / NUM_LABELS)
    graph, spread = graph_of(mean, torch.randn(NUM_LABELS, EMBEDDING)), {}
    for residual in (False, True):
        head = build_head("mlgcn", NUM_FEATURES, graph, widths=[12] * 11, residual=residual)
        x = head.classifiers().detach()
        spread[residual] = float((x - x.mean(0)).norm() / x.norm())
    assert spread[False] < 1e-6
    assert spread[True] > 0.01


# --- the order of products -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"widths": []},
        {"widths": [12, 12], "bias": True},
        {"mlp_widths": [12]},
        {"conv": "SGConv", "hops": 3},
        {"conv": "SGConv", "widths": [], "bias": True},
        {"conv": "SSGConv", "hops": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("standardised", [False, True])
def test_training_is_the_same_without_the_classifiers(options, standardised, graph, monkeypatch):
    """Logits and gradients, in the order of products that never forms the (L, D) classifiers."""
    head = build_head("mlgcn", NUM_FEATURES, graph, **({"widths": [12]} | options))
    perturb(head)
    if standardised:
        head.standardize(torch.zeros(NUM_FEATURES), torch.ones(NUM_FEATURES), torch.randn(NUM_LABELS))
    features, direction = torch.randn(2, NUM_FEATURES), torch.randn(2, NUM_LABELS)

    def logits_and_gradients() -> list[Tensor]:
        head.zero_grad()
        logits = head.from_pooled(features)
        (logits * direction).sum().backward()
        return [logits, *(p.grad.clone() for p in head.parameters())]

    head.eval()
    expected = logits_and_gradients()
    monkeypatch.setattr(GraphHead, "_products_are_cheaper", lambda *_: True)
    monkeypatch.setattr(head, "classifiers", lambda: pytest.fail("formed"))
    head.train()
    for ours, theirs in zip(logits_and_gradients(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_order_of_products_is_the_cheaper_one(graph):
    def cheaper(batch_size: int, **options: object) -> bool:
        head = build_head("mlgcn", 2048, label_space("coco2014"), **options)
        return head._products_are_cheaper(batch_size)

    # 80 labels, 1,024 wide: 80 x 2,048 x (1,024 + B) products against B x 1,024 x (2,048 + 80).
    assert cheaper(80)
    assert not cheaper(88)
    assert not cheaper(8, residual=True)
    assert not cheaper(8, jumping_knowledge="max")
    assert not cheaper(8, conv="GATConv")
    gatn = build_head("gatn", NUM_FEATURES, graph)
    assert not gatn._products_are_cheaper(1), "it makes its classifiers in a way of its own"


# --- mlgcn and its variants ----------------------------------------------------------------------------------


def test_mlgcn_is_the_dense_formula_of_the_paper_on_coco():
    """Values and gradients, from the shipped counts to the logits: threshold, re-weighting, normalisation."""
    table = json.loads((resources.files("zoo") / "label_space_data" / "coco2014.json").read_text())
    counts = torch.tensor(table["counts"], dtype=torch.float64)
    binary = (torch.tensor(table["cooccurrence"]) / counts[:, None] >= 0.1).double().fill_diagonal_(0)
    a = binary * 0.25 / (binary.sum(0) + 1e-6) + torch.eye(80)
    d = torch.diag(a.sum(1) ** -0.5)
    final = ((a @ d).T @ d).float()

    graph = label_space("coco2014")
    assert graph.label_names == table["labels"]
    head = build_head("mlgcn", 64, graph, pooling="avg")
    feature_map = torch.randn(4, 64, 3, 3, requires_grad=True)
    output_gradient = torch.randn(4, 80) / 80

    w1, w2 = (conv.conv.lin.weight.detach().clone().requires_grad_() for conv in head.convs)
    dense_map = feature_map.detach().clone().requires_grad_()
    classifiers = final @ F.leaky_relu(final @ graph.x @ w1.T, 0.2) @ w2.T
    expected = dense_map.mean((2, 3)) @ classifiers.T
    expected.backward(output_gradient)
    logits = head(feature_map)
    logits.backward(output_gradient)

    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    for own, dense in ((head.convs[0].conv.lin.weight, w1), (head.convs[1].conv.lin.weight, w2)):
        torch.testing.assert_close(own.grad, dense.grad, atol=1e-5, rtol=0)
        assert dense.grad.abs().max() > 1e-3, "too small a gradient for the tolerance"
    torch.testing.assert_close(feature_map.grad, dense_map.grad, atol=1e-5, rtol=0)


def test_mlgcn_starts_in_the_bounds_of_the_paper(graph):
    head = build_head("mlgcn", 512, graph)
    for conv, out in zip(head.convs, (1024, 512), strict=True):
        weight = conv.conv.lin.weight
        assert weight.shape[0] == out
        assert 0.95 * out**-0.5 < weight.abs().max() <= out**-0.5
        assert abs(weight.mean()) < 0.1 * out**-0.5
        # A uniform distribution on (-b, b) has the standard deviation b / sqrt(3).
        assert weight.std().item() == pytest.approx((out * 3) ** -0.5, rel=0.05)


def test_sgc_is_one_layer_of_two_hops(graph):
    head = build_head("sgc", NUM_FEATURES, graph)
    assert [type(conv.conv).__name__ for conv in head.convs] == ["PlainSGConv"]
    assert head.convs[0].conv.K == 2
    assert build_head("sgc", NUM_FEATURES, graph, hops=5).convs[0].conv.K == 5


def test_gat_has_four_attention_heads_that_share_the_width(graph):
    head = build_head("gat", NUM_FEATURES, graph, widths=[12])
    assert [tuple(conv.conv.att_src.shape) for conv in head.convs] == [(1, 4, 3), (1, 4, 2)]


def test_self_loops_only_are_a_multilayer_perceptron_for_each_label(graph, feature_map):
    head = build_head("mlgcn", NUM_FEATURES, unlinked_labels(graph.label_names, graph.x), widths=[16, 12])
    w1, w2, w3 = (conv.conv.lin.weight for conv in head.convs)
    perceptron = nn.Sequential(
        nn.Linear(EMBEDDING, 16, bias=False),
        nn.LeakyReLU(0.2),
        nn.Linear(16, 12, bias=False),
        nn.LeakyReLU(0.2),
        nn.Linear(12, NUM_FEATURES, bias=False),
    )
    for layer, weight in zip((0, 2, 4), (w1, w2, w3), strict=True):
        perceptron[layer].weight = weight
    for label in range(NUM_LABELS):
        torch.testing.assert_close(head.classifiers()[label], perceptron(graph.x[label]))


@pytest.mark.parametrize("conv", sorted(CONVS))
def test_every_conv_works_in_a_graph_head_and_hears_its_edge_weights(conv, graph, feature_map):
    head = GraphHead(NUM_FEATURES, graph, conv=conv, widths=[6]).eval()
    perturb(head)
    before = head(feature_map)
    assert before.shape == (3, NUM_LABELS)
    assert before.isfinite().all()
    head.edge_weight *= torch.linspace(0.5, 1.5, len(head.edge_weight))
    assert not torch.allclose(before, head(feature_map))


def test_the_graph_is_a_copy(graph, feature_map):
    head = build_head("mlgcn", NUM_FEATURES, graph)
    before = head(feature_map)
    graph.x.zero_()
    graph.edge_weight.zero_()
    assert torch.equal(head(feature_map), before)
    assert not any(parameter is head.x for parameter in head.parameters())


def test_bias_of_the_labels(graph, feature_map):
    without, with_bias = (build_head("mlgcn", NUM_FEATURES, graph, bias=bias) for bias in (False, True))
    assert without.classifier_bias() is None
    with_bias.convs.load_state_dict(without.convs.state_dict())
    assert torch.equal(with_bias(feature_map), without(feature_map)), "the bias starts at zero"
    with torch.no_grad():
        with_bias.bias.copy_(torch.arange(float(NUM_LABELS)))
    expected = without(feature_map) + torch.arange(NUM_LABELS)
    torch.testing.assert_close(with_bias(feature_map), expected)


@pytest.mark.parametrize("name", list(FORMULAS))
def test_graph_heads_ask_for_label_vectors(name):
    with pytest.raises(InputError, match=r"needs label vectors, and this label space has none.*label_graph"):
        build_head(name, NUM_FEATURES, unlinked_labels(["dog", "cat"]))


def test_head_options_are_those_of_the_table_entry():
    mlgcn = {
        "conv": "GCNConv",
        "widths": (1024,),
        "mlp_widths": (),
        "hops": None,
        "attention_heads": None,
        "residual": False,
        "jumping_knowledge": None,
        "pooling": "max",
        "dropout": 0.0,
        "bias": False,
    }
    own = {
        "appnp": {"conv": "APPNP", "mlp_widths": (1024,), "widths": (), "hops": 10},
        "cheb": {"conv": "ChebConv", "hops": 2},
        "gat": {"conv": "GATConv", "attention_heads": 4},
        "gatv2": {"conv": "GATv2Conv", "attention_heads": 4},
        "mlgcn": {},
        "sgc": {"conv": "SGConv", "widths": (), "hops": 2},
        "ssgc": {"conv": "SSGConv", "widths": (), "hops": 16},
        "transformer": {"conv": "TransformerConv", "attention_heads": 4},
    }
    assert own.keys() == FORMULAS.keys()
    for name, options in own.items():
        assert head_options(name) == mlgcn | options
