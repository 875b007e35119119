"""What a convolution keeps of label vectors that are not learned: the same numbers, computed once, never stale."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch

from zoo.convs import build_conv
from zoo.convs.spread import Kept, SpreadThenLinear
from zoo.heads import build_head

CONVS = ["GCNConv", "SGConv", "SSGConv"]


@pytest.fixture
def edges():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(7, (2, 20), generator=generator), torch.rand(20, generator=generator)


@pytest.fixture
def counted(monkeypatch):
    """Counts the times that any of the convolutions spreads."""
    calls = []
    for conv in CONVS:
        kind = type(build_conv(conv, 3, 5).conv)

        def spread(self, *inputs, _spread=kind.spread):
            calls.append(inputs)
            return _spread(self, *inputs)

        monkeypatch.setattr(kind, "spread", spread)
    return calls


@pytest.mark.parametrize("conv", CONVS)
def test_label_vectors_spread_once_and_the_result_stays_the_same(conv, edges, counted):
    module, x = build_conv(conv, 3, 5), torch.randn(7, 3)
    outputs = [module(x, *edges) for _ in range(3)]
    assert len(counted) == 1
    fresh = copy.deepcopy(module)(x, *edges)
    assert all(torch.equal(output, fresh) for output in outputs)


@pytest.mark.parametrize("conv", CONVS)
def test_what_is_learned_spreads_anew(conv, edges, counted):
    module, x = build_conv(conv, 3, 5), torch.randn(7, 3, requires_grad=True)
    for _ in range(2):
        module(x, *edges).sum().backward()
    assert len(counted) == 2
    assert x.grad is not None


def dense(x, edge_index, edge_weight):
    matrix = torch.zeros(len(x), len(x), dtype=x.dtype)
    matrix.index_put_((edge_index[1], edge_index[0]), edge_weight, accumulate=True)
    return matrix @ x


@pytest.mark.parametrize(
    "change",
    [
        lambda x, index, weight: (x.mul_(2), index, weight),
        lambda x, index, weight: (x, index.flip(0), weight),
        lambda x, index, weight: (x, index.copy_(index.flip(0)), weight),
        lambda x, index, weight: (x, index, weight.add_(1)),
        lambda x, index, weight: (x, index, weight + 1),
        lambda x, index, weight: (x.double(), index, weight.double()),
        lambda x, index, weight: (x + 1, index, weight),
    ],
)
def test_any_change_is_noticed(change, edges):
    module, x = build_conv("GCNConv", 3, 5), torch.randn(7, 3)
    before = module(x, *edges)
    x, index, weight = change(x, *edges)
    module.to(x.dtype)
    after = module(x, index, weight)
    torch.testing.assert_close(after, module.conv.lin(dense(x, index, weight)))
    assert not torch.equal(before.to(after), after)


def test_a_head_with_loaded_or_other_labels_is_that_of_those(graph):
    head = build_head("mlgcn", 16, graph, widths=[12])
    stale = head.classifiers()
    other = copy.copy(graph)
    other.x, other.edge_weight = graph.x.flip(0), graph.edge_weight * 0.5
    expected = build_head("mlgcn", 16, other, widths=[12])
    expected.load_state_dict(head.state_dict() | {"x": other.x, "edge_weight": other.edge_weight})
    loaded, taken = copy.deepcopy(head), copy.deepcopy(head)
    loaded.classifiers(), taken.classifiers()
    loaded.load_state_dict(expected.state_dict())
    taken.take_graph(other, keep_logits=False)
    for one in (loaded, taken):
        assert torch.equal(one.classifiers(), expected.classifiers())
        assert not torch.equal(one.classifiers(), stale)


def test_what_inference_mode_kept_can_be_trained_with(edges):
    module, x = build_conv("SGConv", 3, 5), torch.randn(7, 3)
    with torch.inference_mode():
        module(x, *edges)
    module(x, *edges).sum().backward()
    assert module.conv.lin.weight.grad is not None


def test_nothing_outlives_its_input(edges):
    kept, values = Kept(), []

    def spread(x, *others):
        value = dense(x, *others)
        values.append(weakref.ref(value))
        return value

    for _ in range(3):
        kept(spread, torch.randn(7, 3), *edges)
    gc.collect()
    assert [value() for value in values] == [None] * 3


@pytest.mark.parametrize("how", [copy.deepcopy, copy.copy, lambda kept: pickle.loads(pickle.dumps(kept))])
def test_a_copy_starts_empty(how, edges):
    kept, x, calls = Kept(), torch.randn(7, 3), []

    def spread(x, *others):
        calls.append(x)
        return dense(x, *others)

    kept(spread, x, *edges)
    how(kept)(spread, x, *edges)
    assert len(calls) == 2


def test_which_convolutions_it_is():
    kinds = {name: isinstance(build_conv(name, 3, 5).conv, SpreadThenLinear) for name in [*CONVS, "GATConv"]}
    assert kinds == dict.fromkeys(CONVS, True) | {"GATConv": False}
