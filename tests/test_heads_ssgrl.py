"""SSGRL: against its formulas, label by label and position by position, and the bounds of its memory."""

from __future__ import annotations

import pytest
import torch
from small_heads import EMBEDDING, NUM_FEATURES, NUM_LABELS, graph_of, perturb, small_head
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import Batch, Data
from torch_geometric.nn import SimpleConv

from zoo.graph import unlinked_labels
from zoo.heads import build_head, head_options, ssgrl, uses_graph
from zoo.heads.head import Head
from zoo.heads.ssgrl import SSGRLHead
from zoo.lookup import InputError


def attention_of(p: dict[str, Tensor], word_vector: Tensor, positions: list[Tensor]) -> Tensor:
    scores = []
    for f in positions:
        joint = torch.tanh((p["from_image.weight"] @ f) * (p["from_words.weight"] @ word_vector))
        scores.append(p["attend.weight"][0] @ (p["joint.weight"] @ joint))
    exponentials = torch.stack(scores).exp()
    return exponentials / exponentials.sum()


def ssgrl_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    """Image by image, label by label and position by position; ``weights[c, d]`` is the paper's a_cd."""
    p, labels = dict(head.named_parameters()), range(NUM_LABELS)
    w_z, w_r, w_h = p["interaction.messages.weight"].chunk(3)
    b_z, b_r, b_h = p["interaction.messages.bias"].chunk(3)
    (u_z, u_r), u_h = p["interaction.gates.weight"].chunk(2), p["interaction.candidate.weight"]
    logits = torch.empty(len(feature_map), NUM_LABELS)
    for image, x in enumerate(feature_map):
        positions = [x[:, row, column] for row in range(x.size(1)) for column in range(x.size(2))]
        if "resize.weight" in p:
            positions = [p["resize.weight"][:, :, 0, 0] @ f + p["resize.bias"] for f in positions]
        first = []
        for c in labels:
            shares = attention_of(p, graph.x[c], positions)
            first.append(sum(share * f for share, f in zip(shares, positions, strict=True)))
        h = first
        for _ in range(head.interaction.steps):
            following = []
            for c in labels:
                to_others = sum(weights[c, d] * h[d] for d in labels)
                from_others = sum(weights[d, c] * h[d] for d in labels)
                a = torch.cat([to_others, from_others])
                z = torch.sigmoid(w_z @ a + b_z + u_z @ h[c])
                r = torch.sigmoid(w_r @ a + b_r + u_r @ h[c])
                candidate = torch.tanh(w_h @ a + b_h + u_h @ (r * h[c]))
                following.append((1 - z) * h[c] + z * candidate)
            h = following
        for c in labels:
            o = torch.tanh(p["output.weight"] @ torch.cat([h[c], first[c]]) + p["output.bias"])
            logits[image, c] = p["classifier"][c] @ o + p["bias"][c]
    return logits


FORMULAS = {"ssgrl": ssgrl_logits}


@pytest.mark.parametrize("options", [{}, {"width": 6}, {"steps": 1}], ids=str)
@pytest.mark.parametrize("name", FORMULAS)
def test_logits_equal_the_formula(name, options, graph, weights, feature_map):
    head = small_head(name, NUM_FEATURES, graph, **options)
    perturb(head)
    expected = FORMULAS[name](head, graph, weights, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-5)


def test_the_sizes_of_the_paper(graph):
    assert head_options("ssgrl") == {
        "attention_width": 1024,
        "width": None,
        "output_width": 2048,
        "steps": 3,
        "dropout": 0.0,
    }
    head = build_head("ssgrl", NUM_FEATURES, graph)
    assert head.from_words.weight.shape == (1024, EMBEDDING)
    assert head.interaction.candidate.weight.shape == (NUM_FEATURES, NUM_FEATURES)
    assert head.output.weight.shape == (2048, 2 * NUM_FEATURES)


def test_errors(graph):
    with pytest.raises(
        InputError, match="steps must be 1 or more, not 0: without any, the label graph has no"
    ):
        build_head("ssgrl", NUM_FEATURES, graph, steps=0)
    with pytest.raises(InputError, match=r"needs label vectors, and this label space has none.*label_graph"):
        build_head("ssgrl", NUM_FEATURES, unlinked_labels(["dog", "cat"]))


# --- the label graph -----------------------------------------------------------------------------------------


def test_weights_and_directions_of_edges_matter(graph, weights, feature_map):
    assert uses_graph("ssgrl")
    head = small_head("ssgrl", NUM_FEATURES, graph).eval()
    perturb(head)
    before = head(feature_map)
    for other in (graph_of(weights.T.contiguous(), graph.x), graph_of(weights / 2, graph.x)):
        changed = small_head("ssgrl", NUM_FEATURES, other).eval()
        changed.load_state_dict(dict(head.named_parameters()), strict=False)
        assert not torch.allclose(changed(feature_map), before, atol=1e-4)


def test_a_label_hears_from_labels_as_many_edges_away_as_there_are_steps(graph):
    """On a chain 0 - 1 - ... - 6, in whichever direction its edges point."""
    chain = torch.eye(NUM_LABELS)
    for i, (source, target) in enumerate(zip(range(6), range(1, 7), strict=True)):
        chain[(source, target) if i % 2 else (target, source)] = 0.5
    for steps in (1, 3):
        head = small_head("ssgrl", NUM_FEATURES, graph_of(chain, graph.x), steps=steps)
        state = torch.randn(2, NUM_LABELS, NUM_FEATURES)
        before = head.interaction(state, head.edge_index, head.edge_weight)
        state[:, 0] += 1
        change = (head.interaction(state, head.edge_index, head.edge_weight) - before).abs().amax((0, 2))
        assert (change[: steps + 1] > 0).all()
        assert not change[steps + 1 :].any()


def test_the_graph_of_a_batch_is_disjoint_copies_of_the_label_graph(graph):
    head = small_head("ssgrl", NUM_FEATURES, graph)
    state = torch.randn(3, NUM_LABELS, NUM_FEATURES)
    copies = Batch.from_data_list(
        [Data(x=x, edge_index=graph.edge_index, edge_attr=graph.edge_weight) for x in state]
    )
    expected = SimpleConv()(copies.x, copies.edge_index, copies.edge_attr).view_as(state)
    own = head.interaction.neighbours(state, head.edge_index, head.edge_weight)
    torch.testing.assert_close(own, expected)


# --- attention -----------------------------------------------------------------------------------------------


def test_attention_maps(graph, feature_map):
    head = small_head("ssgrl", NUM_FEATURES, graph).eval()
    perturb(head)
    head.standardize(torch.randn(NUM_FEATURES), torch.rand(NUM_FEATURES) + 0.5, torch.zeros(NUM_LABELS))
    maps = head.attention_maps(feature_map)
    assert maps.shape == (3, NUM_LABELS, 4, 5)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(3, NUM_LABELS))
    positions = head.norm(feature_map)[1].flatten(1).T
    expected = attention_of(dict(head.named_parameters()), graph.x[2], list(positions))
    torch.testing.assert_close(maps[1, 2].flatten(), expected, atol=1e-6, rtol=1e-4)


def test_labels_of_one_word_vector_look_at_the_same_places(graph, feature_map):
    graph.x[3] = graph.x[5]
    maps = small_head("ssgrl", NUM_FEATURES, graph).attention_maps(feature_map)
    torch.testing.assert_close(maps[:, 3], maps[:, 5])
    assert not torch.allclose(maps[:, 3], maps[:, 4], atol=1e-4)


# --- memory --------------------------------------------------------------------------------------------------


def logits_and_gradients(head: SSGRLHead, feature_map: Tensor) -> list[Tensor]:
    logits = head(feature_map)
    return [logits, *torch.autograd.grad(logits.square().sum(), list(head.parameters()))]


def test_how_many_labels_and_channels_are_taken_at_a_time_makes_no_difference(
    graph, feature_map, monkeypatch
):
    head = small_head("ssgrl", NUM_FEATURES, graph)
    perturb(head)
    at_once = logits_and_gradients(head, feature_map)
    for numbers in (1, 3 * 4 * 5 * 10):  # one label and one channel; three labels
        monkeypatch.setattr(ssgrl, "NUMBERS_AN_IMAGE", numbers)
        for own, expected in zip(logits_and_gradients(head, feature_map), at_once, strict=True):
            torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-4)


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor holds that any operation returns, forward or backward."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        for output in outputs if isinstance(outputs, (tuple, list)) else [outputs]:
            if isinstance(output, Tensor):  # a view that repeats numbers holds them once
                self.numbers = max(self.numbers, output.untyped_storage().nbytes() // output.element_size())
        return outputs


def test_a_thousand_labels_fit_into_8_MiB_an_image():
    """Labels x positions x attention channels would be 48 MiB an image, the messages of all edges 10 MiB."""
    num_labels, batch = 1000, 2
    labels = torch.arange(num_labels)
    weights = torch.zeros(num_labels, num_labels)
    for shift in range(21):
        weights[labels, (labels + shift) % num_labels] = 1 / 21
    head = SSGRLHead(
        128, graph_of(weights, torch.randn(num_labels, 8)), attention_width=64, output_width=64, steps=1
    )
    feature_map = torch.randn(batch, 128, 14, 14)

    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with LargestTensor() as largest:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = head(feature_map)
        logits.sum().backward()
    assert largest.numbers <= batch * ssgrl.NUMBERS_AN_IMAGE
    assert sum(kept.values()) < batch * 8 * 2**20, "what is kept from the forward for the backward pass"
    assert head.from_image.weight.grad.any()
