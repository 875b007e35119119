"""Losses against torch's own and against loops over the entries."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.lookup import InputError
from zoo.losses import LOSSES, BCELoss, build_loss

every_loss = pytest.mark.parametrize("name", sorted(LOSSES))


def random_batch(seed=0, batch=7, num_labels=5, unknown=0.0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, num_labels, generator=generator)
    targets = (torch.rand(batch, num_labels, generator=generator) < 0.4).to(torch.int8)
    targets[torch.rand(batch, num_labels, generator=generator) < unknown] = -1
    return logits, targets


def entry_loss(logit, target, pos_weight=1.0):
    """-log of the probability that the target has, in plain arithmetic."""
    probability = 1 / (1 + math.exp(-logit))
    return -pos_weight * math.log(probability) if target == 1 else -math.log(1 - probability)


def loop_bce(logits, targets, pos_weight):
    known = [
        entry_loss(logits[b, l].item(), targets[b, l], pos_weight[l])
        for b in range(len(logits))
        for l in range(logits.shape[1])  # noqa: E741
        if targets[b, l] != -1
    ]
    return sum(known) / len(known)


def loop_softmargin(logits, targets):
    images = []
    for logit, target in zip(logits.tolist(), targets.tolist(), strict=True):
        known = [entry_loss(x, t) for x, t in zip(logit, target, strict=True) if t != -1]
        if known:
            images.append(sum(known) / len(known))
    return sum(images) / len(images)


@pytest.mark.parametrize("pos_weight", [1.0, 2.5, [0.5, 1.0, 2.0, 4.0, 0.0]])
def test_bce_is_torchs(pos_weight):
    logits, targets = random_batch()
    expected = F.binary_cross_entropy_with_logits(
        logits, targets.float(), pos_weight=torch.as_tensor(pos_weight)
    )
    torch.testing.assert_close(build_loss("bce", pos_weight=pos_weight)(logits, targets), expected)


@pytest.mark.parametrize("pos_weight", [1.0, torch.tensor([0.5, 1.0, 2.0, 4.0, 0.0])])
def test_bce_is_the_mean_over_known_entries(pos_weight):
    logits, targets = random_batch(1, unknown=0.4)
    expected = loop_bce(logits, targets, torch.as_tensor(pos_weight).expand(5).tolist())
    assert build_loss("bce", pos_weight=pos_weight)(logits, targets).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_softmargin_is_torchs():
    logits, targets = random_batch(2)
    expected = nn.MultiLabelSoftMarginLoss()(logits, targets.float())
    torch.testing.assert_close(build_loss("softmargin")(logits, targets), expected)


def test_softmargin_is_the_mean_over_images_of_the_mean_over_known_labels():
    logits, targets = random_batch(3, unknown=0.4)
    targets[2] = -1  # an image of which nothing is known does not count
    found = build_loss("softmargin")(logits, targets).item()
    assert found == pytest.approx(loop_softmargin(logits, targets), rel=1e-5)
    assert found != pytest.approx(build_loss("bce")(logits, targets).item(), rel=1e-3)


@every_loss
def test_unknown_entries_get_no_gradient(name):
    logits, targets = random_batch(4, unknown=0.5)
    logits.requires_grad_()
    build_loss(name)(logits, targets).backward()
    assert not logits.grad[targets == -1].any()
    assert logits.grad[targets != -1].any()


@every_loss
def test_gradients_are_those_of_finite_differences(name):
    logits, targets = random_batch(5, unknown=0.3)
    loss = build_loss(name)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits.double().requires_grad_())


@every_loss
def test_nothing_known_is_zero_with_zero_gradient(name):
    logits = torch.randn(3, 4, requires_grad=True)
    value = build_loss(name)(logits, torch.full((3, 4), -1, dtype=torch.int8))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 4))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_large_logits_stay_finite(name, dtype):
    logits = torch.tensor([[100.0, -100.0, 100.0, -100.0]], dtype=dtype, requires_grad=True)
    value = build_loss(name)(logits, torch.tensor([[1, 0, 0, 1]]))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["bce", "softmargin"])
def test_large_logits_cost_their_distance(name):
    logits = torch.tensor([[100.0, -100.0, 100.0, -100.0]], requires_grad=True)
    value = build_loss(name)(logits, torch.tensor([[1, 0, 0, 1]]))
    value.backward()
    assert value.item() == pytest.approx(50)  # two entries right, two wrong by 100
    torch.testing.assert_close(logits.grad, torch.tensor([[0, 0, 0.25, -0.25]]))


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name, dtype):
    logits, targets = random_batch(6, unknown=0.2)
    half = logits.to(dtype)
    expected = build_loss(name)(half.float(), targets)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = build_loss(name)(half, targets)
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)


@every_loss
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_target_types(name, dtype):
    logits, targets = random_batch(7, unknown=0.2)
    assert torch.equal(build_loss(name)(logits, targets.to(dtype)), build_loss(name)(logits, targets))
    present = targets == 1
    assert torch.equal(build_loss(name)(logits, present), build_loss(name)(logits, present.to(dtype)))


@every_loss
def test_permuting_labels_changes_nothing(name):
    logits, targets = random_batch(8, unknown=0.2)
    order = torch.randperm(5)
    torch.testing.assert_close(
        build_loss(name)(logits[:, order], targets[:, order]), build_loss(name)(logits, targets)
    )


def test_pos_weight_moves_with_the_module_and_stays_out_of_checkpoints():
    loss = build_loss("bce", pos_weight=[1.0, 2.0])
    assert loss.to("meta").pos_weight.device.type == "meta"
    assert not loss.state_dict()


def test_a_users_own_loss_is_built_by_name(monkeypatch):
    monkeypatch.setitem(LOSSES, "mine", lambda scale: BCELoss(pos_weight=scale))
    assert build_loss("mine", scale=3.0).pos_weight == 3
    with pytest.raises(InputError, match=r"unknown option of the mine loss 'scal'\. Did you mean scale\?"):
        build_loss("mine", scal=3.0)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("bec", {}, r"unknown loss 'bec'\. Did you mean bce\? Known: bce, softmargin"),
        (
            "bce",
            {"pos_wieght": 2.0},
            r"option of the bce loss 'pos_wieght'\. Did you mean pos_weight\? Known: pos_w",
        ),
        ("softmargin", {"pos_weight": 2.0}, "the softmargin loss has no options, got 'pos_weight'"),
        ("bce", {"pos_weight": -1.0}, "pos_weight must be finite and not negative, got -1"),
        ("bce", {"pos_weight": [1.0, math.inf]}, "pos_weight must be finite"),
        ("bce", {"pos_weight": torch.ones(2, 3)}, r"one for each label, got shape \(2, 3\)"),
    ],
)
def test_bad_options_are_named(name, options, words):
    with pytest.raises(InputError, match=words):
        build_loss(name, **options)


@every_loss
def test_shapes_that_differ_are_named(name):
    with pytest.raises(InputError, match=r"logits \(4, 3\) and targets \(4, 2\)"):
        build_loss(name)(torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.int8))


def test_pos_weight_for_other_labels_is_named():
    with pytest.raises(InputError, match="pos_weight is for 2 labels, the logits have 3"):
        build_loss("bce", pos_weight=[1.0, 2.0])(torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.int8))
