"""Every convolution of the table keeps one contract; the linear ones equal their dense formulas."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch_geometric.nn.conv as pyg
from torch import nn

from zoo.convs import CONVS, REFUSED, ConvSpec, build_conv, conv_spec, list_convs
from zoo.lookup import InputError

NUM_LABELS = 7
ALONE = 3  # the label that has nothing but its self-loop


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)


@pytest.fixture
def graph():
    """S (L, L) with S[target, source], and the same graph as x (L, 6), edge_index, edge_weight."""
    edges = torch.rand(NUM_LABELS, NUM_LABELS) * (
        torch.rand(NUM_LABELS, NUM_LABELS) < 0.4
    )  # [source, target]
    edges.fill_diagonal_(0.5)
    edges[0, 1] = 0.3
    edges[1, 0] = 0
    edges[ALONE, :] = edges[:, ALONE] = 0
    edges[ALONE, ALONE] = 0.7
    edge_index = edges.nonzero().T.contiguous()
    return edges.T, (torch.randn(NUM_LABELS, 6), edge_index, edges[edge_index[0], edge_index[1]])


def moved(before, after):
    return {i for i, row in enumerate((after - before).abs().amax(1).tolist()) if row > 1e-6}


# --- the whole table ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_convs())
def test_shape_for_any_widths(name, graph):
    _, (_, edge_index, edge_weight) = graph
    for in_channels, out_channels in ((6, 8), (8, 8), (8, 6), (5, 7)):
        x = torch.randn(NUM_LABELS, in_channels)
        out = build_conv(name, in_channels, out_channels)(x, edge_index, edge_weight)
        assert out.shape == (NUM_LABELS, out_channels)
        assert out.isfinite().all()


@pytest.mark.parametrize("name", list_convs())
@pytest.mark.parametrize("source", [0, 1])
def test_a_weight_moves_its_target(name, source, graph):
    """A self-loop's weight too, which a convolution with self-loops of its own would throw away."""
    _, (x, edge_index, edge_weight) = graph
    conv = build_conv(name, 6, 8).eval()
    changed = edge_weight + 0.3 * ((edge_index[0] == source) & (edge_index[1] == 1))
    assert 1 in moved(conv(x, edge_index, edge_weight), conv(x, edge_index, changed))


@pytest.mark.parametrize("name", list_convs())
def test_every_parameter_gets_a_gradient(name, graph):
    _, inputs = graph
    conv = build_conv(name, 6, 8)
    conv(*inputs).mul(torch.randn(NUM_LABELS, 8)).sum().backward()
    assert list(conv.parameters())
    for parameter_name, parameter in conv.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", list_convs())
def test_permuting_labels_permutes_the_output(name, graph):
    dense, (x, edge_index, edge_weight) = graph
    conv = build_conv(name, 6, 8).eval()
    order = torch.randperm(NUM_LABELS)
    permuted = dense.T[order][:, order]
    permuted_index = permuted.nonzero().T.contiguous()
    out = conv(x[order], permuted_index, permuted[permuted_index[0], permuted_index[1]])
    torch.testing.assert_close(out, conv(x, edge_index, edge_weight)[order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", list_convs())
def test_a_label_with_only_its_self_loop_stands_alone(name, graph):
    _, (x, edge_index, edge_weight) = graph
    conv = build_conv(name, 6, 8).eval()
    before = conv(x, edge_index, edge_weight)
    alone, others = x.clone(), x.clone()
    alone[ALONE] += 1
    others[[i for i in range(NUM_LABELS) if i != ALONE]] += torch.randn(NUM_LABELS - 1, 6)
    stands_alone = moved(before, conv(alone, edge_index, edge_weight)) == {ALONE} and ALONE not in moved(
        before, conv(others, edge_index, edge_weight)
    )
    assert stands_alone == CONVS[name].local


@pytest.mark.parametrize("name", list_convs())
def test_sources_reach_targets_and_not_the_other_way(name, graph):
    _, (x, _, _) = graph
    edge_index = torch.tensor([[0, 0, 1, 2, 3, 4, 5, 6], [0, 1, 1, 2, 3, 4, 5, 6]])
    conv = build_conv(name, 6, 8).eval()
    before = conv(x, edge_index, torch.full((8,), 0.6))
    for label, expected in ((0, {0, 1}), (1, {1})):
        changed = x.clone()
        changed[label] += 1
        after = moved(before, conv(changed, edge_index, torch.full((8,), 0.6)))
        assert expected == after if CONVS[name].local else expected <= after


@pytest.mark.parametrize("name", list_convs())
def test_linear_is_what_the_record_says(name, graph):
    _, (x, *edges) = graph
    conv = build_conv(name, 6, 8).eval()
    origin = conv(torch.zeros_like(x), *edges)  # the bias
    y = torch.randn_like(x)
    together = conv(x - 2 * y, *edges) - origin
    apart = (conv(x, *edges) - origin) - 2 * (conv(y, *edges) - origin)
    assert torch.allclose(together, apart, atol=1e-4) == CONVS[name].linear


@pytest.mark.parametrize("name", list_convs())
def test_state_dict_round_trip_and_determinism(name, graph):
    _, inputs = graph
    conv, other = build_conv(name, 6, 8).eval(), build_conv(name, 6, 8).eval()
    out = conv(*inputs)
    other.load_state_dict(conv.state_dict())
    assert torch.equal(conv(*inputs), out)
    assert torch.equal(other(*inputs), out)


@pytest.mark.parametrize("name", list_convs())
def test_train_and_eval_agree(name, graph):
    """Generated classifiers are the same for every image: a batch statistic over labels would break that."""
    _, inputs = graph
    conv = build_conv(name, 6, 8)
    torch.testing.assert_close(conv.train()(*inputs), conv.eval()(*inputs))


@pytest.mark.parametrize("name", list_convs())
def test_finite_for_negative_mixed_and_zero_weights(name, graph):
    _, (x, edge_index, edge_weight) = graph
    for factor in (-1, torch.randn_like(edge_weight).sign(), 0):
        assert build_conv(name, 6, 8)(x, edge_index, edge_weight * factor).isfinite().all()


@pytest.mark.parametrize("name", list_convs())
def test_float64(name, graph):
    _, (x, edge_index, edge_weight) = graph
    conv = build_conv(name, 6, 8).eval()
    precise = copy.deepcopy(conv).double()(x.double(), edge_index, edge_weight.double())
    assert precise.dtype == torch.float64
    torch.testing.assert_close(precise.float(), conv(x, edge_index, edge_weight), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", list_convs())
def test_exports(name, graph):
    _, inputs = graph
    conv = build_conv(name, 6, 8, hops=2 if "hops" in CONVS[name].options else None).eval()
    exported = torch.export.export(conv, inputs).module()
    torch.testing.assert_close(exported(*inputs), conv(*inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", list_convs())
def test_the_record_cites_a_source(name):
    assert CONVS[name].paper
    assert CONVS[name].url.startswith("https://")


def test_every_export_of_pyg_is_decided_on():
    undecided = set(pyg.__all__) - set(CONVS) - set(REFUSED)
    assert not undecided, (
        f"new in PyG: {sorted(undecided)}. Put each into CONVS, or into REFUSED with the reason"
    )
    assert not set(CONVS) & set(REFUSED)


# --- dense formulas: S[target, source], weights as they are ------------------------------------------------


def power(matrix, exponent):
    return torch.linalg.matrix_power(matrix, exponent)


def dense_appnp(s, x, conv):
    x_0 = x @ conv.resize.weight.T + conv.resize.bias
    out = x_0
    for _ in range(3):
        out = 0.9 * s @ out + 0.1 * x_0
    return out


def dense_cheb(s, x, conv):
    minus_s = -s
    polynomials = [torch.eye(len(s)), minus_s, 2 * power(minus_s, 2) - torch.eye(len(s))]
    polynomials.append(2 * minus_s @ polynomials[2] - minus_s)
    lins = conv.conv.lins
    return sum(t @ x @ lin.weight.T for t, lin in zip(polynomials, lins, strict=True)) + conv.conv.bias


def dense_arma(s, x, conv):
    p = conv.conv
    out = torch.relu(s @ x @ p.init_weight[0] + x @ p.root_weight[0, 0] + p.bias[0, 0])
    for t in (1, 2):
        out = torch.relu(s @ out @ p.weight[t - 1, 0] + x @ p.root_weight[t, 0] + p.bias[t, 0])
    return out


def dense_ssgc(s, x, conv):
    mixed = 0.05 * x + sum(0.95 / 3 * power(s, k) @ x for k in (1, 2, 3))
    return mixed @ conv.conv.lin.weight.T + conv.conv.lin.bias


def dense_tag(s, x, conv):
    return sum(power(s, k) @ x @ lin.weight.T for k, lin in enumerate(conv.conv.lins)) + conv.conv.bias


def dense_mixhop(s, x, conv):
    hops = [power(s, k) @ x @ lin.weight.T for k, lin in enumerate(conv.conv.lins)]
    return torch.cat(hops, dim=1) + conv.conv.bias


def dense_graph_conv(s, x, conv):
    neighbours, root = conv.conv.lin_rel, conv.conv.lin_root
    return s @ x @ neighbours.weight.T + neighbours.bias + x @ root.weight.T


def dense_le(s, x, conv):
    p = conv.conv
    received = s @ (x @ p.lin1.weight.T + p.lin1.bias) - s.sum(1, keepdim=True) * (x @ p.lin2.weight.T)
    return received + x @ p.lin3.weight.T + p.lin3.bias


def dense_gcn2(s, x, conv):
    x_0 = conv.resize(x)
    mixed = 0.9 * s @ x_0 + 0.1 * x_0
    beta = torch.tensor(1.5).log()
    return (1 - beta) * mixed + beta * mixed @ conv.conv.weight1


def dense_fa(s, x, conv):
    x_0 = conv.resize(x)
    attention = torch.tanh(conv.conv.att_r(x_0) + conv.conv.att_l(x_0).T)
    return (attention * s) @ x_0 + 0.1 * x_0


def dense_wl(s, x, conv):
    x_0 = conv.resize(x)
    return 0.5 * (x_0 + s @ x_0 / s.sum(1, keepdim=True))


def dense_nn(s, x, conv):
    p = conv.conv
    slope, offset = p.nn.weight.view(6, 8), p.nn.bias.view(6, 8)
    return s @ x @ slope + (s != 0).float() @ x @ offset + p.lin(x) + p.bias


DENSE = {
    "GCNConv": (None, lambda s, x, conv: s @ x @ conv.conv.lin.weight.T),
    "SGConv": (3, lambda s, x, conv: power(s, 3) @ x @ conv.conv.lin.weight.T + conv.conv.lin.bias),
    "LGConv": (None, lambda s, x, conv: s @ conv.resize(x)),
    "SimpleConv": (None, lambda s, x, conv: s @ conv.resize(x)),
    "SSGConv": (3, dense_ssgc),
    "APPNP": (3, dense_appnp),
    "ChebConv": (3, dense_cheb),
    "TAGConv": (3, dense_tag),
    "MixHopConv": (3, dense_mixhop),
    "ARMAConv": (3, dense_arma),
    "GraphConv": (None, dense_graph_conv),
    "LEConv": (None, dense_le),
    "GCN2Conv": (None, dense_gcn2),
    "FAConv": (None, dense_fa),
    "WLConvContinuous": (None, dense_wl),
    "NNConv": (None, dense_nn),
}


@pytest.mark.parametrize("name", DENSE)
def test_equals_its_dense_formula(name, graph):
    dense, inputs = graph
    hops, formula = DENSE[name]
    conv = build_conv(name, 6, 8, hops=hops)
    with torch.no_grad():
        for parameter in conv.parameters():  # biases start at zero, where a formula without them would pass
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.testing.assert_close(conv(*inputs), formula(dense, inputs[0], conv), atol=1e-5, rtol=1e-5)


def test_gat_equals_its_dense_formula(graph):
    dense, (x, edge_index, edge_weight) = graph
    conv = build_conv("GATConv", 6, 8, attention_heads=2)
    p = conv.conv
    per_head = (x @ p.lin.weight.T).view(NUM_LABELS, 2, 4)
    from_source = (per_head * p.att_src).sum(-1)
    to_target = (per_head * p.att_dst).sum(-1)
    of_weight = (p.lin_edge.weight.view(1, 2, 4) * p.att_edge).sum(-1)  # (1, heads), per unit of edge weight
    score = to_target[:, None] + from_source[None] + dense[..., None] * of_weight  # [target, source, head]
    score = torch.nn.functional.leaky_relu(score, 0.2).masked_fill(dense[..., None] == 0, -torch.inf)
    expected = torch.einsum("tsh,shc->thc", score.softmax(1), per_head).reshape(NUM_LABELS, 8) + p.bias
    torch.testing.assert_close(conv(x, edge_index, edge_weight), expected, atol=1e-5, rtol=1e-5)


def test_sgconv_does_not_normalise_again(graph):
    dense, inputs = graph
    torch.manual_seed(1)
    ours = build_conv("SGConv", 6, 8, hops=2)
    torch.manual_seed(1)
    theirs = pyg.SGConv(6, 8, K=2)
    assert torch.equal(ours.conv.lin.weight, theirs.lin.weight)
    assert (ours(*inputs) - theirs(*inputs)).abs().max() > 0.05
    unnormalised = power(dense, 2) @ inputs[0] @ theirs.lin.weight.T + theirs.lin.bias
    torch.testing.assert_close(ours(*inputs), unnormalised, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["SGConv", "SSGConv", "ChebConv", "ARMAConv"])
def test_equals_pyg_on_a_graph_that_it_normalises_to_the_same_weights(name):
    """A symmetric graph without self-loops, where PyG's own normalisation of 0/1 edges gives exactly S."""
    links = (torch.rand(NUM_LABELS, NUM_LABELS) < 0.5).float().triu(1)
    links[0, 1:] = 1  # nobody alone
    links = links + links.T
    with_loops = name in {"SGConv", "SSGConv"}
    links += with_loops * torch.eye(NUM_LABELS)
    s = links / (links.sum(0).sqrt()[:, None] * links.sum(0).sqrt()[None])
    edge_index = links.nonzero().T.contiguous()
    ours = build_conv(name, 6, 8, hops=2)
    theirs = {
        "SGConv": lambda: pyg.SGConv(6, 8, K=2),
        "SSGConv": lambda: pyg.SSGConv(6, 8, alpha=0.05, K=2),
        "ChebConv": lambda: pyg.ChebConv(6, 8, K=3),
        "ARMAConv": lambda: pyg.ARMAConv(6, 8, num_layers=2),
    }[name]()
    theirs.load_state_dict(ours.conv.state_dict())
    options = {"lambda_max": torch.tensor(2.0)} if name == "ChebConv" else {}
    x = torch.randn(NUM_LABELS, 6)
    expected = theirs(x, edge_index, torch.ones(edge_index.size(1)), **options)
    out = ours(x, edge_index, s[edge_index[0], edge_index[1]])
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_gcnconv_is_the_layer_of_mlgcn():
    conv = build_conv("GCNConv", 300, 1024)
    (weight,) = conv.parameters()  # no bias
    bound = 1024**-0.5
    assert weight.shape == (1024, 300)
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


# --- options -----------------------------------------------------------------------------------------------

WITH_HOPS = [name for name in list_convs() if "hops" in CONVS[name].options]
WITH_HEADS = [name for name in list_convs() if "attention_heads" in CONVS[name].options]


def test_which_convs_have_options():
    assert WITH_HOPS == [
        "APPNP", "ARMAConv", "ChebConv", "GatedGraphConv", "MixHopConv", "SGConv", "SSGConv", "TAGConv",
    ]  # fmt: skip
    assert WITH_HEADS == ["GATConv", "GATv2Conv", "TransformerConv"]
    assert CONVS["APPNP"].options == {"hops": 10}


@pytest.mark.parametrize("name", WITH_HOPS)
@pytest.mark.parametrize("hops", [1, 3])
def test_hops_is_how_far_a_label_is_heard(name, hops):
    labels = torch.arange(5)
    edge_index = torch.cat(
        [labels.expand(2, -1), torch.stack([labels[:-1], labels[1:]])], dim=1
    )  # 0 -> 1 -> ...
    edge_weight = torch.full((edge_index.size(1),), 0.5)
    conv = build_conv(name, 6, 8, hops=hops).double().eval()
    x = torch.randn(5, 6).double().requires_grad_()
    heard = torch.zeros(5)
    for target in range(5):  # by the gradient, since a ReLU can hide one small step
        (gradient,) = torch.autograd.grad(conv(x, edge_index, edge_weight.double())[target].sum(), x)
        heard[target] = gradient[0].abs().sum()
    assert (heard > 0).tolist() == [target <= hops for target in range(5)]


@pytest.mark.parametrize("name", WITH_HOPS)
def test_one_hop_leaves_no_parameter_without_gradient(name, graph):
    _, inputs = graph
    conv = build_conv(name, 6, 8, hops=1)
    conv(*inputs).mul(torch.randn(NUM_LABELS, 8)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in conv.parameters())


@pytest.mark.parametrize("name", WITH_HEADS)
@pytest.mark.parametrize(("attention_heads", "per_head"), [(4, 2), (3, 8)])
def test_attention_heads_share_the_width_or_are_averaged(name, attention_heads, per_head, graph):
    _, inputs = graph
    conv = build_conv(name, 6, 8, attention_heads=attention_heads)
    assert conv(*inputs).shape == (NUM_LABELS, 8)
    assert (conv.conv.heads, conv.conv.out_channels) == (attention_heads, per_head)
    assert conv.conv.concat == (attention_heads == 4)


def test_mixhop_needs_a_channel_per_power():
    with pytest.raises(InputError, match="shares its 2 output channels among 3 powers"):
        build_conv("MixHopConv", 6, 2)


# --- the words of errors -----------------------------------------------------------------------------------


class Scaled(nn.Module):
    """What a user would write: S x W."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x, edge_index, edge_weight):
        messages = self.linear(x)[edge_index[0]] * edge_weight[:, None]
        return messages.new_zeros(len(x), messages.size(1)).index_add(0, edge_index[1], messages)


class TwoArguments(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()

    def forward(self, x, edge_index):
        return x


def test_unknown_name():
    with pytest.raises(InputError, match=r"unknown conv 'gcnconv'\. Did you mean GCNConv"):
        build_conv("gcnconv", 6, 8)


@pytest.mark.parametrize("conv", ["SAGEConv", pyg.SAGEConv])
def test_refused_with_the_reason_and_the_way_out(conv):
    reason = "conv 'SAGEConv' cannot use edge weights: it aggregates neighbours without weights"
    with pytest.raises(InputError, match=reason + r"\. Convolutions that can: APPNP, .*GCNConv"):
        build_conv(conv, 6, 8)


def test_an_option_that_a_conv_lacks():
    message = "conv 'GCNConv' has no option hops. Those that have it: APPNP, ARMAConv, ChebConv"
    with pytest.raises(InputError, match=message):
        build_conv("GCNConv", 6, 8, hops=2)
    with pytest.raises(InputError, match="conv 'Scaled' has no option attention_heads"):
        build_conv(Scaled, 6, 8, attention_heads=2)
    with pytest.raises(InputError, match="conv 'SGConv': hops must be at least 1, not 0"):
        build_conv("SGConv", 6, 8, hops=0)


def test_a_class_with_another_call():
    with pytest.raises(
        InputError, match=r"TwoArguments\.forward\(x, edge_index, edge_weight\), but this one takes"
    ):
        build_conv(TwoArguments, 6, 8)
    with pytest.raises(InputError, match=r"Identity3\(in_channels, out_channels\), but this one takes \(\)"):
        build_conv(type("Identity3", (nn.Module,), {"__init__": lambda self: None}), 6, 8)
    with pytest.raises(InputError, match=r"wants the class or a function .*, not a built Linear"):
        build_conv(nn.Linear(6, 8), 6, 8)
    with pytest.raises(InputError, match=r"a conv is a torch\.nn\.Module, but .* made int"):
        build_conv(lambda i, o: 3, 6, 8)


# --- a user's own ------------------------------------------------------------------------------------------


def test_own_class_function_and_entries(graph, monkeypatch):
    dense, (x, edge_index, edge_weight) = graph
    monkeypatch.setitem(CONVS, "bare", Scaled)
    monkeypatch.setitem(
        CONVS, "record", ConvSpec(lambda i, o, hops=2: pyg.TAGConv(i, o, hops, normalize=False))
    )
    for conv in (Scaled, lambda i, o: Scaled(i, o), "bare", ConvSpec(Scaled)):
        built = build_conv(conv, 6, 8)
        expected = dense @ built.conv.linear(x)
        torch.testing.assert_close(built(x, edge_index, edge_weight), expected, atol=1e-5, rtol=1e-5)
    assert len(build_conv("record", 6, 8, hops=4).conv.lins) == 5
    assert {"bare", "record"} <= set(list_convs())


def test_a_bare_pyg_class_stands_for_its_name(graph):
    dense, inputs = graph
    assert conv_spec(pyg.GCNConv) is CONVS["GCNConv"]
    conv = build_conv(pyg.GCNConv, 6, 8)
    torch.testing.assert_close(
        conv(*inputs), dense @ inputs[0] @ conv.conv.lin.weight.T, atol=1e-5, rtol=1e-5
    )
