"""Losses against torch's own and against loops over the entries."""

from __future__ import annotations

import math
import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.lookup import InputError
from zoo.losses import LOSSES, BCELoss, build_loss, check_loss, parse_loss, resampling_weights


def random_batch(seed=0, batch=7, num_labels=5, unknown=0.0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, num_labels, generator=generator)
    targets = (torch.rand(batch, num_labels, generator=generator) < 0.4).to(torch.int8)
    targets[torch.rand(batch, num_labels, generator=generator) < unknown] = -1
    return logits, targets


# --- the formulas, entry by entry ----------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softplus(x):
    return math.log(1 + math.exp(x))


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def entry_loss(logit, target, pos_weight=1.0):
    """-log of the probability that the target has, in plain arithmetic."""
    probability = sigmoid(logit)
    return -pos_weight * math.log(probability) if target == 1 else -math.log(1 - probability)


def known_entries(logits, targets):
    """(image, label, logit, target) of every known entry."""
    for b, (row, known) in enumerate(zip(logits, targets, strict=True)):
        for i, (logit, target) in enumerate(zip(row, known, strict=True)):
            if target != -1:
                yield b, i, logit, target


def loop_bce(logits, targets, pos_weight=1.0):
    weights = pos_weight if isinstance(pos_weight, list) else [pos_weight] * len(logits[0])
    return mean(entry_loss(x, t, weights[i]) for _, i, x, t in known_entries(logits, targets))


def loop_softmargin(logits, targets):
    images = []
    for logit, target in zip(logits, targets, strict=True):
        known = [entry_loss(x, t) for x, t in zip(logit, target, strict=True) if t != -1]
        if known:
            images.append(mean(known))
    return mean(images)


def loop_partial_bce(logits, targets, alpha=-4.45, beta=5.45, gamma=1.0):
    images = []
    for logit, target in zip(logits, targets, strict=True):
        known = [entry_loss(x, t) for x, t in zip(logit, target, strict=True) if t != -1]
        if known:
            share = len(known) / len(logit)
            images.append((alpha * share**gamma + beta) / len(logit) * sum(known))
    return mean(images)


def loop_focal(logits, targets, gamma=2.0, alpha=0.25):
    values = []
    for _, _, x, t in known_entries(logits, targets):
        p = sigmoid(x) if t == 1 else 1 - sigmoid(x)
        values.append(-(alpha if t == 1 else 1 - alpha) * (1 - p) ** gamma * math.log(p))
    return mean(values)


def loop_asl(logits, targets, gamma_neg=4.0, gamma_pos=0.0, clip=0.05, reduction="mean", detach_focus=False):
    values = []
    for _, _, x, t in known_entries(logits, targets):
        p = sigmoid(x)
        shifted = max(p - clip, 0)
        if t == 1:
            values.append(-((1 - p) ** gamma_pos) * math.log(p))
        else:
            values.append(-(shifted**gamma_neg) * math.log(1 - shifted))
    return mean(values) if reduction == "mean" else sum(values)


def loop_two_way(logits, targets, positive_temperature=4.0, negative_temperature=1.0):
    def compare(rows, known):
        values = []
        for row, targets_of_row in zip(rows, known, strict=True):
            positives = [x for x, t in zip(row, targets_of_row, strict=True) if t == 1]
            negatives = [x for x, t in zip(row, targets_of_row, strict=True) if t == 0]
            if positives and negatives:
                lowest = sum(math.exp(-x / positive_temperature) for x in positives)
                highest = sum(math.exp(x / negative_temperature) for x in negatives)
                values.append(
                    softplus(
                        negative_temperature * math.log(highest) + positive_temperature * math.log(lowest)
                    )
                )
        return mean(values)

    return compare(logits, targets) + compare(zip(*logits, strict=True), zip(*targets, strict=True))


def loop_distribution_balanced(
    logits, targets, alpha=0.1, beta=10.0, mu=0.2, kappa=0.05, negative_scale=2.0, gamma=0.0
):
    n = [sum(int(t == 1) for t in column) for column in TRAINING.T.tolist()]
    absent = [sum(int(t == 0) for t in column) for column in TRAINING.T.tolist()]
    values = []
    for b, i, x, t in known_entries(logits, targets):
        rate = sum(1 / n[j] for j, target in enumerate(targets[b]) if target == 1)
        weight = alpha + (sigmoid(beta * (1 / n[i] / rate - mu)) if rate else 1)
        prior = -math.log((n[i] + absent[i]) / n[i] - 1)
        z = x + kappa * prior
        p = sigmoid(z) if t == 1 else sigmoid(-negative_scale * z)
        value = -((1 - p) ** gamma) * math.log(p)
        values.append(weight * (value if t == 1 else value / negative_scale))
    return mean(values)


FORMULAS = {
    "asl": loop_asl,
    "bce": loop_bce,
    "distribution-balanced": loop_distribution_balanced,
    "focal": loop_focal,
    "partial-bce": loop_partial_bce,
    "softmargin": loop_softmargin,
    "two-way": loop_two_way,
}

# 60 images whose label i is positive on about a 2^-i of them, and unknown on a sixth.
TRAINING = (torch.rand(60, 5, generator=torch.Generator().manual_seed(9)) < 0.5 ** torch.arange(1, 6)).to(
    torch.int8
)
TRAINING[torch.rand(60, 5, generator=torch.Generator().manual_seed(8)) < 1 / 6] = -1

# Every loss as it is, and every option of each.
CASES = [
    *((name, {}) for name in sorted(LOSSES)),
    ("asl", {"gamma_neg": 0.5, "gamma_pos": 0.5, "clip": 0.2}),
    ("asl", {"gamma_neg": 1.0, "gamma_pos": 2.0, "clip": 0.0, "reduction": "sum"}),
    ("asl", {"gamma_neg": 0.5, "clip": 0.0}),
    ("asl", {"gamma_pos": 1.0, "detach_focus": True}),
    ("bce", {"pos_weight": 2.5}),
    ("distribution-balanced", {"alpha": 0.3, "beta": 4.0, "mu": 0.5, "kappa": 0.7}),
    ("distribution-balanced", {"negative_scale": 5.0, "gamma": 2.0}),
    ("focal", {"gamma": 0.5, "alpha": 0.7}),
    ("partial-bce", {"alpha": 1.0, "beta": 0.0, "gamma": -1.0}),
    ("partial-bce", {"alpha": -2.0, "beta": 4.0, "gamma": 0.5}),
    ("two-way", {"positive_temperature": 0.5, "negative_temperature": 3.0}),
]
SPECS = [":".join([name, *(f"{key}={value}" for key, value in options.items())]) for name, options in CASES]
every_loss = pytest.mark.parametrize("spec", SPECS)


def loss_of(spec, num_labels=5):
    return build_loss(spec, targets=TRAINING[:, :num_labels])


def test_every_loss_has_a_formula():
    assert FORMULAS.keys() == LOSSES.keys()


@pytest.mark.parametrize("unknown", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(("name", "options"), CASES, ids=SPECS)
def test_the_loss_is_its_formula(name, options, unknown):
    logits, targets = random_batch(10, batch=12, unknown=unknown)
    logits = logits.double()
    targets[3] = -1
    expected = FORMULAS[name](logits.tolist(), targets.tolist(), **options)
    assert expected > 0
    value = build_loss(name, targets=TRAINING, **options)(logits, targets)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(expected, rel=1e-7)


# --- single losses -------------------------------------------------------------------------------------------


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
    weights = torch.as_tensor(pos_weight).expand(5).tolist()
    expected = loop_bce(logits.tolist(), targets.tolist(), weights)
    value = build_loss("bce", pos_weight=pos_weight)(logits, targets)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_softmargin_is_torchs():
    logits, targets = random_batch(2)
    expected = nn.MultiLabelSoftMarginLoss()(logits, targets.float())
    torch.testing.assert_close(build_loss("softmargin")(logits, targets), expected)


def test_softmargin_is_not_bce_where_targets_are_unknown():
    logits, targets = random_batch(3, unknown=0.4)
    found = build_loss("softmargin")(logits, targets).item()
    assert found != pytest.approx(build_loss("bce")(logits, targets).item(), rel=1e-3)


def test_partial_bce_lies_between_its_neighbours():
    logits, targets = random_batch(2)
    full = build_loss("partial-bce")(logits, targets)
    torch.testing.assert_close(full, build_loss("bce")(logits, targets), msg="all known: g(1) = 1")
    _, targets = random_batch(2, unknown=0.5)
    inverse = build_loss("partial-bce:alpha=1:beta=0:gamma=-1")(logits, targets)
    torch.testing.assert_close(inverse, build_loss("softmargin")(logits, targets))


def test_partial_bce_weighs_a_tenth_known_fivefold():
    logits, targets = torch.zeros(1, 10), torch.full((1, 10), -1)
    targets[0, 4] = 1
    assert build_loss("partial-bce")(logits, targets).item() == pytest.approx(5.005 / 10 * math.log(2))


def test_without_a_focus_they_are_cross_entropy():
    logits, targets = random_batch(4, unknown=0.3)
    bce = build_loss("bce")(logits, targets)
    torch.testing.assert_close(build_loss("focal:gamma=0:alpha=0.5")(logits, targets), bce / 2)
    torch.testing.assert_close(build_loss("asl:gamma_neg=0:clip=0")(logits, targets), bce)
    plain = "distribution-balanced:alpha=0.5:beta=0:kappa=0:negative_scale=1"
    torch.testing.assert_close(loss_of(plain)(logits, targets), bce)


def test_asl_of_an_easy_negative_is_nothing():
    logits = torch.tensor([[-3.0, -2.9]], requires_grad=True)  # probabilities 0.047 and 0.052
    build_loss("asl:gamma_neg=0")(logits, torch.zeros(1, 2)).backward()
    assert logits.grad[0, 0] == 0
    assert logits.grad[0, 1] > 0


def test_asl_detaches_its_focus():
    x, target = torch.tensor([[0.3]], requires_grad=True), torch.ones(1, 1)
    p = torch.tensor(0.3).sigmoid().item()
    for detach, slope in ((True, -((1 - p) ** 2)), (False, -((1 - p) ** 2) + p * (1 - p) * math.log(p))):
        loss = build_loss("asl", gamma_pos=1.0, detach_focus=detach)
        (gradient,) = torch.autograd.grad(loss(x, target), x)
        assert gradient.item() == pytest.approx(slope, rel=1e-5)


def test_two_way_compares_logits_with_each_other_alone():
    logits, targets = random_batch(5, unknown=0.2)
    loss = build_loss("two-way")
    torch.testing.assert_close(loss(logits + 7, targets), loss(logits, targets))
    pair = torch.tensor([[3.0, 1.0]]).double()
    assert loss(pair, torch.tensor([[1, 0]])).item() == pytest.approx(softplus(1 - 3)), "softmax of two"


# --- the distribution-balanced loss and its resampling -------------------------------------------------------


def test_the_training_images_are_counted():
    loss = loss_of("distribution-balanced")
    assert loss.label_counts.tolist() == [(TRAINING == 1).sum(0).tolist(), (TRAINING == 0).sum(0).tolist()]
    assert loss.to("meta").label_counts.device.type == "meta"
    assert not loss.state_dict(), "they are the data's, not a checkpoint's"


def test_any_loss_that_asks_is_given_the_counts(monkeypatch):
    class Mine(BCELoss):
        def __init__(self, label_counts, scale: float = 1.0):
            super().__init__(pos_weight=scale * label_counts[1] / label_counts[0])

    monkeypatch.setitem(LOSSES, "mine", Mine)
    ratio = (TRAINING == 0).sum(0) / (TRAINING == 1).sum(0)
    torch.testing.assert_close(loss_of("mine:scale=3").pos_weight, 3 * ratio)


@pytest.mark.parametrize("value", [0, 1, -1])
def test_labels_that_the_training_images_do_not_tell_apart(value):
    logits, targets = random_batch(6)
    logits.requires_grad_()
    result = build_loss("distribution-balanced", targets=torch.full((9, 5), value))(logits, targets)
    result.backward()
    assert result.isfinite()
    assert logits.grad.isfinite().all()


def test_rare_labels_count_more_where_common_ones_are_too():
    targets = torch.tensor([[1, 1, 0, 0, 0]])
    logits = torch.zeros(1, 5, requires_grad=True)
    assert TRAINING[:, 0].eq(1).sum() > 1.5 * TRAINING[:, 1].eq(1).sum()
    loss_of("distribution-balanced:kappa=0:mu=0.5")(logits, targets).backward()
    common, rare = -logits.grad[0, :2]
    assert 0 < common < rare


def test_resampling_draws_a_label_then_one_of_its_images():
    targets = torch.tensor([[1, 1, 0], [1, 0, -1], [1, 0, 0], [0, 0, 0], [-1, 0, -1], [1, 0, 0]])
    weights = resampling_weights(targets)
    # Label 0 has four images, label 1 has one, label 2 none; two images have no label.
    expected = [1 / 4 + 1, 1 / 4, 1 / 4, 1 / 2, 1 / 2, 1 / 4]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))


def test_resampling_draws_labels_that_exclude_each_other_equally_often():
    targets = torch.eye(4, dtype=torch.int8).repeat_interleave(torch.tensor([100, 30, 9, 1]), 0)
    drawn = torch.multinomial(
        resampling_weights(targets), 8000, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    assert (targets[drawn].float().mean(0) - 0.25).abs().max() < 0.02


# --- every loss ----------------------------------------------------------------------------------------------


@every_loss
def test_unknown_entries_get_no_gradient(spec):
    logits, targets = random_batch(4, unknown=0.5)
    logits.requires_grad_()
    loss_of(spec)(logits, targets).backward()
    assert not logits.grad[targets == -1].any()
    assert logits.grad[targets != -1].any()


@every_loss
def test_unknown_entries_do_not_matter(spec):
    logits, targets = random_batch(4, unknown=0.5)
    others = torch.where(targets == -1, 50 * torch.randn(7, 5), logits)
    torch.testing.assert_close(loss_of(spec)(others, targets), loss_of(spec)(logits, targets))


@every_loss
def test_an_image_of_which_nothing_is_known_changes_nothing(spec):
    logits, targets = random_batch(11, unknown=0.3)
    more = torch.cat([targets, torch.full((2, 5), -1)])
    value = loss_of(spec)(torch.cat([logits, torch.randn(2, 5)]), more)
    torch.testing.assert_close(value, loss_of(spec)(logits, targets))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not spec.startswith("partial-bce")])
def test_a_label_of_which_nothing_is_known_changes_nothing(spec):
    """But for partial-bce, which is about how many are known."""
    logits, targets = random_batch(12, unknown=0.3)
    targets[:, 4] = -1
    torch.testing.assert_close(
        loss_of(spec)(logits, targets), loss_of(spec, 4)(logits[:, :4], targets[:, :4])
    )


@every_loss
def test_gradients_are_those_of_finite_differences(spec):
    if "detach" in spec:
        pytest.skip("what is detached is left out of the gradient")
    logits, targets = random_batch(5, unknown=0.3)
    loss = loss_of(spec)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits.double().requires_grad_())


@every_loss
def test_nothing_known_is_zero_with_zero_gradient(spec):
    logits = torch.randn(3, 4, requires_grad=True)
    value = loss_of(spec, 4)(logits, torch.full((3, 4), -1, dtype=torch.int8))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 4))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_large_logits_stay_finite(spec, dtype):
    for targets in (
        [[1, 0, 0, 1], [0, 0, 1, 1]],
        [[1, 1, 1, 1], [0, 0, 0, 0]],  # images without negatives, without positives
        [[1, 0, -1, 1], [1, 0, -1, -1]],  # labels without, and one of which nothing is known
        [[-1, -1, -1, -1], [1, -1, -1, -1]],
        [[1, 1, 0, 0]],  # a label's only image has nothing to be compared with
    ):
        for size in (100.0, 30_000.0):  # where some exponentials, and where all of them, are 0
            logits = torch.tensor([[size, -size, size, -size]], dtype=dtype)
            logits = logits.repeat(len(targets), 1).requires_grad_()
            value = loss_of(spec, 4)(logits, torch.tensor(targets))
            value.backward()
            assert value.isfinite(), (targets, size)
            assert logits.grad.isfinite().all(), (targets, size)


@pytest.mark.parametrize("name", ["bce", "softmargin"])
def test_large_logits_cost_their_distance(name):
    logits = torch.tensor([[100.0, -100.0, 100.0, -100.0]], requires_grad=True)
    value = build_loss(name)(logits, torch.tensor([[1, 0, 0, 1]]))
    value.backward()
    assert value.item() == pytest.approx(50)  # two entries right, two wrong by 100
    torch.testing.assert_close(logits.grad, torch.tensor([[0, 0, 0.25, -0.25]]))


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(spec, dtype):
    logits, targets = random_batch(6, unknown=0.2)
    half = logits.to(dtype)
    expected = loss_of(spec)(half.float(), targets)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = loss_of(spec)(half, targets)
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)


@every_loss
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_target_types(spec, dtype):
    logits, targets = random_batch(7, unknown=0.2)
    assert torch.equal(loss_of(spec)(logits, targets.to(dtype)), loss_of(spec)(logits, targets))
    present = targets == 1
    assert torch.equal(loss_of(spec)(logits, present), loss_of(spec)(logits, present.to(dtype)))


@every_loss
def test_permuting_labels_changes_nothing(spec):
    logits, targets = random_batch(8, unknown=0.2)
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = build_loss(spec, targets=TRAINING[:, order])(logits[:, order], targets[:, order])
    torch.testing.assert_close(permuted, loss_of(spec)(logits, targets))


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
        ("bec", {}, r"unknown loss 'bec'\. Did you mean bce\? Known: asl, bce"),
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
def test_shapes_that_differ_are_named(spec):
    with pytest.raises(InputError, match=r"logits \(4, 3\) and targets \(4, 2\)"):
        loss_of(spec, 3)(torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.int8))


def test_pos_weight_for_other_labels_is_named():
    with pytest.raises(InputError, match="pos_weight is for 2 labels, the logits have 3"):
        build_loss("bce", pos_weight=[1.0, 2.0])(torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.int8))


def test_counts_of_other_labels_are_named():
    with pytest.raises(InputError, match="the loss counted 4 labels, the logits have 5"):
        loss_of("distribution-balanced", 4)(*random_batch())
    with pytest.raises(InputError, match=r"label_counts must have the shape \(2, L\), got \(5,\)"):
        LOSSES["distribution-balanced"](label_counts=torch.ones(5))
    with pytest.raises(InputError, match="the distribution-balanced loss counts the labels of the training"):
        build_loss("distribution-balanced")


# --- options in the name -------------------------------------------------------------------------------------


def test_options_follow_the_name():
    assert parse_loss("bce") == ("bce", {})
    assert parse_loss(" asl:reduction=sum:gamma_neg=2 ") == ("asl", {"gamma_neg": 2.0, "reduction": "sum"})
    assert parse_loss("bce:pos_weight=[1,2]") == ("bce", {"pos_weight": [1.0, 2.0]})
    logits, targets = random_batch(9, unknown=0.2)
    value = build_loss("asl:gamma_neg=2:reduction=sum")(logits, targets)
    assert torch.equal(value, build_loss("asl", gamma_neg=2.0, reduction="sum")(logits, targets))
    assert torch.equal(value, build_loss("asl:gamma_neg=3:reduction=sum", gamma_neg=2.0)(logits, targets))


def test_options_of_a_loss_of_ones_own(monkeypatch):
    monkeypatch.setitem(LOSSES, "untyped", lambda scale=1: BCELoss(pos_weight=float(scale)))
    monkeypatch.setitem(LOSSES, "heavy", partial(BCELoss, pos_weight=9.0))
    assert build_loss("untyped:scale=3").pos_weight == 3
    assert build_loss("heavy").pos_weight == 9
    assert build_loss("heavy:pos_weight=2").pos_weight == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bec", "unknown loss 'bec'. Did you mean bce? Known: asl, bce, distribution-balanced, focal, partial-bce"),
        ("distribution_balanced", "unknown loss 'distribution_balanced'. Did you mean distribution-balanced?"),
        ("asl:gama_neg=2", "unknown option of the asl loss 'gama_neg'. Did you mean gamma_neg"),
        ("softmargin:alpha=1", "the softmargin loss has no options, got 'alpha'"),
        ("distribution-balanced:label_counts=3", "unknown option of the distribution-balanced loss 'label_counts'"),
        ("asl:gamma_neg", "'asl:gamma_neg': expected option=value after each colon, not 'gamma_neg'"),
        ("asl:clip=0:clip=0.1", "'asl:clip=0:clip=0.1': option 'clip' is given twice"),
        ("asl:gamma_neg=much", "option of the asl loss: gamma_neg: expected float, not 'much'"),
        ("asl:detach_focus=perhaps", "option of the asl loss: detach_focus: expected bool, not 'perhaps'"),
        ("bce:pos_weight=much", "option of the bce loss: pos_weight: expected float or list, not 'much'"),
        ("asl:reduction=men", "unknown reduction 'men'. Did you mean mean? Known: mean, sum"),
        ("asl:gamma_neg=-1", "gamma_neg must be finite and not negative, not -1.0"),
        ("asl:gamma_pos=.inf", "gamma_pos must be finite and not negative, not inf"),
        ("asl:clip=1", "clip must be within [0, 1), not 1.0"),
        ("focal:gamma=.nan", "gamma must be finite and not negative, not nan"),
        ("focal:alpha=2", "alpha must be within [0, 1], not 2.0"),
        ("partial-bce:alpha=-6", "alpha + beta must be positive, not -0.5"),
        ("partial-bce:gamma=.inf", "gamma must be finite, not inf"),
        ("two-way:positive_temperature=0", "positive_temperature must be positive and finite, not 0.0"),
        ("two-way:negative_temperature=-1", "negative_temperature must be positive and finite, not -1.0"),
        ("distribution-balanced:beta=-1", "beta must be finite and not negative, not -1.0"),
        ("distribution-balanced:kappa=.inf", "kappa must be finite, not inf"),
        ("distribution-balanced:negative_scale=0", "negative_scale must be positive and finite, not 0.0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line_before_training(spec, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}") as caught:
        check_loss(spec)
    assert "\n" not in str(caught.value)


@every_loss
def test_what_is_right_needs_no_training_images_to_be_checked(spec):
    check_loss(spec)
