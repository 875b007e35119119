"""Metrics against scikit-learn and against the published formulas, spelt out as loops."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk
from torch.utils._python_dispatch import TorchDispatchMode

from zoo import metrics
from zoo.lookup import InputError
from zoo.metrics import (
    average_precision,
    mean_average_precision,
    mean_interval,
    multilabel_metrics,
    per_label_metrics,
)

NAMES = ("P", "R", "F1")
ML_GCN = [f"{kind}{name}" for kind in "CO" for name in NAMES]


def random_case(seed, num_images=60, num_labels=9, levels=None, unknown=0.0, positives=0.3):
    """Scores that know a little about the targets; ``levels`` rounds them, which makes ties."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(num_images, num_labels, generator=generator) < positives
    scores = torch.rand(num_images, num_labels, generator=generator) * 0.7 + 0.3 * present
    if levels:
        scores = (scores * levels).round() / levels
    targets = present.to(torch.int8)
    targets[torch.rand(num_images, num_labels, generator=generator) < unknown] = -1
    return scores, targets


def sklearn_ap(scores, targets):
    """AP of each label on its known entries; NaN without positives."""
    result = []
    for score, target in zip(scores.T.double().numpy(), targets.T.int().numpy(), strict=True):
        known = target >= 0
        has_positive = (target == 1).any()
        result.append(sk.average_precision_score(target[known], score[known]) if has_positive else math.nan)
    return np.array(result)


def published(predicted, targets):
    """ML-GCN's six numbers, entry by entry, from N_correct, N_predicted and N_groundtruth of each label."""
    num_images, num_labels = targets.shape
    n_correct, n_predicted, n_groundtruth = ([0] * num_labels for _ in range(3))
    for image in range(num_images):
        for label in range(num_labels):
            if targets[image, label] == -1:
                continue
            n_predicted[label] += predicted[image][label]
            n_groundtruth[label] += int(targets[image, label] == 1)
            n_correct[label] += predicted[image][label] and int(targets[image, label] == 1)
    precisions, recalls = [], []
    for correct, chosen, groundtruth in zip(n_correct, n_predicted, n_groundtruth, strict=True):
        if groundtruth:
            precisions.append(correct / chosen if chosen else 0.0)
            recalls.append(correct / groundtruth)
    cp, cr = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    op = sum(n_correct) / sum(n_predicted) if sum(n_predicted) else 0.0
    o_r = sum(n_correct) / sum(n_groundtruth)

    def f1(p, r):
        return 2 * p * r / (p + r) if p + r else 0.0

    return dict(zip(ML_GCN, (cp, cr, f1(cp, cr), op, o_r, f1(op, o_r)), strict=True))


def published_top(scores, targets, k):
    """A known label counts as predicted if it is among the image's k best and its score is at least 0.5."""
    predicted = []
    for score, target in zip(scores.tolist(), targets.tolist(), strict=True):
        known = [label for label in range(len(score)) if target[label] != -1]
        best = sorted(known, key=lambda label: (-score[label], label))[:k]
        predicted.append([int(label in best and score[label] >= 0.5) for label in range(len(score))])
    return predicted


CASES = {
    "no ties": random_case(0),
    "ties": random_case(1, levels=4),
    "two scores only": random_case(2, levels=1),
    "equal scores only": (torch.full((60, 9), 0.5), random_case(2)[1]),
    "unknown entries": random_case(3, unknown=0.4),
    "unknown entries and ties": random_case(4, levels=6, unknown=0.4),
    "rare labels": random_case(5, positives=0.01),
    "one image": random_case(6, num_images=1, positives=0.5),
    "one label": random_case(7, num_labels=1),
    "nearly all positive": random_case(8, positives=0.97, levels=10),
}
cases = pytest.mark.parametrize(("scores", "targets"), CASES.values(), ids=CASES.keys())


@cases
def test_average_precision_is_scikit_learns(scores, targets):
    expected = sklearn_ap(scores, targets)
    np.testing.assert_allclose(average_precision(scores, targets).numpy(), expected, atol=1e-12)
    assert mean_average_precision(scores, targets) == pytest.approx(np.nanmean(expected), abs=1e-12)


def test_the_cases_hold_what_they_are_meant_to():
    _, targets = CASES["rare labels"]
    assert 0 < (targets.sum(0) == 0).sum() < 9
    scores, targets = CASES["unknown entries and ties"]
    assert (targets == -1).any()
    assert len(scores.unique()) <= 7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_average_precision_takes_every_float_type(dtype):
    scores, targets = random_case(9, num_images=300, unknown=0.2)
    scores = torch.cat([scores, torch.tensor([[0.0], [-0.0], [1.0]]).expand(3, 9)]).to(dtype)
    targets = torch.cat([targets, torch.tensor([[1], [0], [0]], dtype=torch.int8).expand(3, 9)])
    np.testing.assert_allclose(
        average_precision(scores, targets).numpy(), sklearn_ap(scores, targets), atol=1e-12
    )


@pytest.mark.parametrize("chunk", [1, 60, 150, 10_000])
def test_metrics_do_not_depend_on_the_blocks(chunk, monkeypatch):
    scores, targets = CASES["unknown entries and ties"]
    f1_targets, threshold = CASES["unknown entries"][1], torch.linspace(0.2, 0.8, 9)
    together, each = (
        metric(scores, targets, threshold=threshold, f1_targets=f1_targets)
        for metric in (multilabel_metrics, per_label_metrics)
    )
    monkeypatch.setattr(metrics, "CHUNK", chunk)
    assert multilabel_metrics(scores, targets, threshold=threshold, f1_targets=f1_targets) == together
    again = per_label_metrics(scores, targets, threshold=threshold, f1_targets=f1_targets)
    assert all(torch.equal(again[name], values) for name, values in each.items())
    assert torch.equal(average_precision(scores, targets), each["AP"])


class LargestTensor(TorchDispatchMode):
    """The most entries that any tensor has which torch makes in the meantime, views of what is there left out."""

    def __init__(self, *given):
        super().__init__()
        self.given, self.entries = {tensor.untyped_storage().data_ptr() for tensor in given}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.given:
                self.entries = max(self.entries, tensor.numel())
        return result


@pytest.mark.parametrize("metric", [multilabel_metrics, per_label_metrics])
def test_memory_does_not_grow_with_images_times_labels(metric, monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 600)
    scores, targets = random_case(11, num_images=300, num_labels=200, unknown=0.1)
    with LargestTensor(scores, targets) as largest:
        metric(scores, targets)
    # A block, or three counts of each image: 60,000 are all entries.
    assert 600 <= largest.entries <= 900


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@cases
def test_gpu_and_cpu_agree(scores, targets):
    there = average_precision(scores.cuda(), targets.cuda())
    torch.testing.assert_close(there.cpu(), average_precision(scores, targets), equal_nan=True)
    expected = multilabel_metrics(scores, targets)
    assert multilabel_metrics(scores.cuda(), targets.cuda()) == pytest.approx(expected, nan_ok=True)


@cases
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_class_and_overall_metrics_are_the_published_ones(scores, targets, threshold):
    predicted = (scores >= threshold).int().tolist()
    result = multilabel_metrics(scores, targets, threshold=threshold)
    expected = published(predicted, targets)
    assert {name: result[name] for name in ML_GCN} == pytest.approx(expected, abs=1e-12)


@cases
@pytest.mark.parametrize("k", [1, 3, 50])
def test_top_k_metrics_are_the_published_ones(scores, targets, k):
    result = multilabel_metrics(scores, targets, top_k=k, threshold=0.9)
    expected = published(published_top(scores, targets, k), targets)
    assert {name: result[f"{name}_top{k}"] for name in ML_GCN} == pytest.approx(expected, abs=1e-12)


@cases
@pytest.mark.parametrize("average", ["macro", "micro", "samples"])
@pytest.mark.filterwarnings("ignore")
def test_averages_are_scikit_learns(scores, targets, average):
    if scores.shape[1] == 1:  # scikit-learn would take one column for a binary problem, not a multi-label one
        scores, targets = scores.expand(-1, 2), targets.expand(-1, 2)
    predicted = ((scores >= 0.5) & (targets != -1)).int().numpy()
    expected = sk.precision_recall_fscore_support(
        (targets == 1).int().numpy(), predicted, average=average, zero_division=0
    )
    result = multilabel_metrics(scores, targets)
    found = [result[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
    assert found == pytest.approx(list(expected[:3]), abs=1e-12)


@cases
@pytest.mark.filterwarnings("ignore")
def test_per_label_metrics_are_scikit_learns(scores, targets):
    threshold = torch.linspace(0.2, 0.8, scores.shape[1])
    result = per_label_metrics(scores, targets, threshold)
    assert list(result) == ["AP", "precision", "recall", "f1", "positives"]
    np.testing.assert_allclose(result["AP"], sklearn_ap(scores, targets), atol=1e-12)
    for label in range(scores.shape[1]):
        known = targets[:, label] >= 0
        present = targets[known, label].numpy()
        predicted = (scores[known, label] >= threshold[label]).int().numpy()
        expected = sk.precision_recall_fscore_support(present, predicted, average="binary", zero_division=0)
        assert result["positives"][label] == present.sum()
        assert result["precision"][label] == pytest.approx(expected[0])
        for name, value in zip(("recall", "f1"), expected[1:3], strict=True):
            assert result[name][label].item() == pytest.approx(
                value if present.any() else math.nan, nan_ok=True
            )


def test_names_and_order():
    scores, targets = CASES["no ties"]
    averages = [f"{a}_{m}" for a in ("macro", "micro", "samples") for m in ("precision", "recall", "f1")]
    top = [f"{name}_top3" for name in ML_GCN]
    assert list(multilabel_metrics(scores, targets)) == ["mAP", *ML_GCN, *top, *averages]
    assert list(multilabel_metrics(scores, targets, top_k=None)) == ["mAP", *ML_GCN, *averages]
    assert all(type(value) is float for value in multilabel_metrics(scores, targets).values())


def test_by_hand():
    """CF1 is the F1 of the mean precision and recall, and a label never predicted has precision 0."""
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.6, 0.2, 0.3], [0.4, 0.7, 0.2]])
    targets = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 0]])
    result = multilabel_metrics(scores, targets, top_k=1)
    cp, cr = (1 / 2 + 1 / 2 + 0) / 3, (1 / 2 + 1 + 0) / 3
    assert result["CP"] == pytest.approx(cp)
    assert result["CR"] == pytest.approx(cr)
    assert result["CF1"] == pytest.approx(2 * cp * cr / (cp + cr))
    assert result["OP"] == pytest.approx(2 / 4)  # the label never predicted adds nothing below the line
    assert result["OR"] == pytest.approx(2 / 4)
    assert result["macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert result["OP_top1"] == pytest.approx(2 / 3)
    assert result["CP_top1"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    # AP: positives at ranks 1, 3 / 2 / 3
    assert average_precision(scores, targets).tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 2, 1 / 3])


def test_top_k_takes_k_of_equal_scores():
    scores = torch.tensor([[1.0, 1.0, 1.0, 0.6]])
    targets = torch.tensor([[0, 1, 1, 1]])
    result = multilabel_metrics(scores, targets, top_k=2)
    assert (result["OP_top2"], result["OR_top2"]) == pytest.approx((1 / 2, 1 / 3))


def test_an_unknown_label_takes_no_place_among_the_top_k():
    scores, targets = torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[-1, 1, 1]])
    assert multilabel_metrics(scores, targets, top_k=2)["OR_top2"] == 1


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_unknown_entries_do_not_matter(threshold):
    scores, targets = CASES["unknown entries"]
    other = torch.where(targets == -1, 1 - scores, scores)
    assert multilabel_metrics(scores, targets, threshold=threshold) == multilabel_metrics(
        other, targets, threshold=threshold
    )


def test_order_of_images_and_labels_does_not_matter():
    scores, targets = random_case(10, unknown=0.2)
    images, labels = torch.randperm(60), torch.randperm(9)
    moved = scores[images][:, labels], targets[images][:, labels]
    torch.testing.assert_close(average_precision(*moved), average_precision(scores, targets)[labels])
    assert multilabel_metrics(*moved) == pytest.approx(multilabel_metrics(scores, targets))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.uint8, torch.int64])
def test_target_types(dtype):
    scores, targets = CASES["no ties"]
    assert multilabel_metrics(scores, targets.to(dtype)) == multilabel_metrics(scores, targets)


def test_one_threshold_for_each_label():
    scores, targets = CASES["no ties"]
    thresholds = torch.rand(9)
    shifted = (scores >= thresholds).float()  # 0 and 1 fall on the right side of 0.5
    result, expected = (
        multilabel_metrics(scores, targets, threshold=thresholds),
        multilabel_metrics(shifted, targets),
    )
    for name in (*ML_GCN, "macro_f1", "micro_f1", "samples_f1"):
        assert result[name] == expected[name]


@pytest.mark.parametrize("value", [0, -1])
def test_no_positive_anywhere(value):
    scores = torch.rand(5, 4)
    targets = torch.full((5, 4), value)
    assert average_precision(scores, targets).isnan().all()
    result = multilabel_metrics(scores, targets)
    undefined = {"mAP", "CP", "CR", "CF1", "OR", "OF1"}
    for name, number in result.items():
        assert math.isnan(number) if name.split("_")[0] in undefined else number == 0, name


def test_nothing_predicted():
    result = multilabel_metrics(torch.full((3, 2), 0.1), torch.ones(3, 2, dtype=torch.int8))
    assert {value for name, value in result.items() if name != "mAP"} == {0.0}


def test_scores_in_training():
    scores, targets = CASES["ties"]
    assert multilabel_metrics(scores.clone().requires_grad_(), targets) == multilabel_metrics(scores, targets)


@pytest.mark.parametrize("metric", [average_precision, multilabel_metrics, per_label_metrics])
@pytest.mark.parametrize(
    ("scores", "targets", "words"),
    [
        (torch.rand(4, 3), torch.zeros(4, 2).int(), r"one shape .*scores \(4, 3\) and targets \(4, 2\)"),
        (torch.rand(4), torch.zeros(4).int(), r"scores must be \(N, L\).*got \(4,\)"),
        (torch.rand(0, 3), torch.zeros(0, 3).int(), r"at least one image and label, got \(0, 3\)"),
        (
            torch.tensor([[-2.0, 3.5]]),
            torch.ones(1, 2).int(),
            r"probabilities in 0..1.*-2 to 3.5.*apply sigmoid",
        ),
        (torch.tensor([[0.2, 5.0]]), torch.ones(1, 2).int(), "apply sigmoid"),
        (
            torch.tensor([[0.2, math.nan]]),
            torch.ones(1, 2).int(),
            "probabilities in 0..1, found values from nan",
        ),
        (torch.ones(1, 2).int(), torch.ones(1, 2).int(), r"floating-point numbers, got torch\.int32"),
        (torch.rand(1, 2), torch.tensor([[0, 2]]), r"targets must be 1, 0 or -1 \(unknown\), found 2"),
        (torch.rand(1, 2), torch.tensor([[0, -7]]), "found -7"),
        (torch.rand(1, 2), torch.rand(1, 2), r"integers or booleans, got torch\.float32; use targets\.to"),
    ],
)
def test_bad_input_is_named(metric, scores, targets, words):
    # unwrapped: the annotations, which pytest enforces, would stop some of these before the words come
    with pytest.raises(InputError, match=words):
        inspect.unwrap(metric)(scores, targets)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": torch.rand(4)}, r"each of the 9 labels, got shape \(4,\)"),
        ({"threshold": 50.0}, r"threshold must lie in 0\.\.1.*got 50"),
        ({"threshold": math.nan}, r"threshold must lie in 0\.\.1"),
        ({"top_k": 0}, "top_k must be at least 1, or None"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(InputError, match=words):
        multilabel_metrics(*CASES["no ties"], **options)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_mean_interval_is_students(confidence):
    values = [0.61, 0.64, 0.60, 0.66, 0.63]
    mean, half = mean_interval(values, confidence)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_mean_interval_of_few_values():
    mean, half = mean_interval([0.5])
    assert mean == 0.5
    assert math.isnan(half)
    assert mean_interval([0.5, 0.5]) == (0.5, 0.0)
    # two values: t(.975, 1) = 12.706, standard error = half of their distance
    assert mean_interval([0.4, 0.6])[1] == pytest.approx(12.7062 * 0.1, rel=1e-5)
    with pytest.raises(InputError, match="no values to average"):
        mean_interval([])
    with pytest.raises(InputError, match="between 0 and 1, got 95"):
        mean_interval([0.1, 0.2], confidence=95.0)
