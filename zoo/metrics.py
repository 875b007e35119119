"""Metrics of multi-label recognition: mAP, CP CR CF1 OP OR OF1, top-3, and scikit-learn's averages.

Everywhere in this module ``scores`` are probabilities, ``sigmoid(logits)``, of shape (N, L), and
``targets`` are integers or booleans of the same shape: 1 present, 0 absent, -1 unknown. An unknown entry
is left out of every count, as if its label were neither predicted nor present. Anything else raises an
InputError, whichever function it is given to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from torch import Tensor

from zoo.lookup import InputError

# The published top-k counts keep logit >= 0, whatever the threshold of the other metrics is.
TOP_K_THRESHOLD = 0.5
# Entries worked on at once: bounds the memory beside scores and targets, however many images and labels there are.
CHUNK = 2**22

# Public functions annotate targets as "*_", any shape: that it is (N, L) too is checked in words by _check.


def average_precision(scores: Float[Tensor, "N L"], targets: Shaped[Tensor, "*_"]) -> Float64[Tensor, " L"]:
    """Non-interpolated average precision of each label.

    Equal to `sklearn.metrics.average_precision_score
    <https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html>`_
    on the known entries of each label: the sum over thresholds of (R_t - R_{t-1}) P_t, in which tied scores
    are one threshold. Without ties it is the AP that ML-GCN (https://arxiv.org/abs/1904.03582) reports.

    Returns:
        (L,) in 0..1; NaN for a label without positives.
    """
    scores = _check(scores, targets)
    num_images, num_labels = scores.shape
    return torch.cat(
        [_average_precision(scores[:, c], targets[:, c]) for c in _blocks(num_labels, num_images)]
    )


def mean_average_precision(scores: Float[Tensor, "N L"], targets: Shaped[Tensor, "*_"]) -> float:
    """mAP in 0..1: the mean of :func:`average_precision` over the labels with positives; NaN without any."""
    return average_precision(scores, targets).nanmean().item()


def multilabel_metrics(
    scores: Float[Tensor, "N L"],
    targets: Shaped[Tensor, "*_"],
    *,
    threshold: float | Tensor = 0.5,
    top_k: int | None = 3,
    f1_targets: Shaped[Tensor, "*_"] | None = None,
) -> dict[str, float]:
    """Every metric the field reports, under the field's names and in a fixed order.

    With N^c, N^p, N^g the number of images in which a label is predicted correctly, predicted, and present:

    - ``mAP``: :func:`mean_average_precision`.
    - ``CP`` = mean N^c / N^p and ``CR`` = mean N^c / N^g over labels, ``OP`` = sum N^c / sum N^p and ``OR`` =
      sum N^c / sum N^g. ``CF1`` = 2 CP CR / (CP + CR) is the F1 of the means, not the mean of F1s; ``OF1``
      likewise. As ML-GCN (https://arxiv.org/abs/1904.03582) reports them at a threshold of 0.5.
    - ``CP_top3`` ... ``OF1_top3``: the same with a label predicted if it is among the k known labels of the
      image with the highest scores *and* its score is at least 0.5, as in ML-GCN's code. Among equal
      scores the label that comes first wins. Named after k.
    - ``macro_``, ``micro_`` and ``samples_precision``, ``_recall``, ``_f1``: scikit-learn's averages over
      labels, entries and images with ``zero_division=0``.

    Where ML-GCN's ratios are 0/0: a label never predicted has precision 0, as in its code. A label without
    positives has no recall (NaN in its code) and stays out of CP and CR, as it stays out of mAP; without
    any positive at all, CP, CR, OR and the F1s are NaN. Its code also adds 1 to the denominator of OP for
    every label never predicted; here OP is the formula above.

    Args:
        scores: (N, L) probabilities.
        targets: (N, L) in {1, 0, -1}.
        threshold: a label is predicted at ``score >= threshold``; one number, or (L,) one for each label.
            Has no effect on mAP and top-k.
        top_k: how many labels of an image the top-k metrics keep; None leaves these metrics out.
        f1_targets: (N, L) for everything but mAP, where the protocol has others: PASCAL VOC's difficult objects
            are ignored by AP and, by ML-GCN, negative for the rest.

    Returns:
        Name to value in 0..1, higher is better.
    """
    scores = _check(scores, targets)
    metrics = {"mAP": mean_average_precision(scores, targets)}
    if f1_targets is not None:
        _check(scores, f1_targets)
        targets = f1_targets

    per_label, per_image = _count_predictions(scores, targets, threshold)
    metrics |= _class_and_overall(*per_label)
    if top_k is not None:
        counts_of_top, _ = _count_predictions(scores, targets, TOP_K_THRESHOLD, top_k)
        metrics |= {f"{name}_top{top_k}": value for name, value in _class_and_overall(*counts_of_top).items()}

    averages = {"macro": per_label, "micro": per_label.sum(1), "samples": per_image}
    for average, (correct, chosen, positives) in averages.items():
        metrics[f"{average}_precision"] = _ratio(correct, chosen).mean().item()
        metrics[f"{average}_recall"] = _ratio(correct, positives).mean().item()
        metrics[f"{average}_f1"] = _ratio(2 * correct, chosen + positives).mean().item()
    return metrics


def per_label_metrics(
    scores: Float[Tensor, "N L"],
    targets: Shaped[Tensor, "*_"],
    threshold: float | Tensor = 0.5,
    f1_targets: Shaped[Tensor, "*_"] | None = None,
) -> dict[str, Shaped[Tensor, " L"]]:
    """AP, precision, recall and F1 of each label; threshold and f1_targets as in :func:`multilabel_metrics`.

    Returns:
        ``AP``, ``precision``, ``recall``, ``f1``: (L,) float64; ``positives``, their number: (L,) int64.
        A label never predicted has precision 0; one without positives has NaN for AP, recall and F1.
    """
    scores = _check(scores, targets)
    ap = average_precision(scores, targets)
    if f1_targets is not None:
        _check(scores, f1_targets)
        targets = f1_targets
    (correct, chosen, positives), _ = _count_predictions(scores, targets, threshold)
    no_positive = positives == 0
    return {
        "AP": ap,
        "precision": _ratio(correct, chosen),
        "recall": _ratio(correct, positives).masked_fill(no_positive, math.nan),
        "f1": _ratio(2 * correct, chosen + positives).masked_fill(no_positive, math.nan),
        "positives": positives,
    }


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Mean and half-width of its confidence interval by Student's t, for the same run over several seeds.

    Args:
        values: one result a seed.
        confidence: the probability that the interval covers the mean, between 0 and 1.

    Returns:
        ``(mean, half_width)``; the half-width of a single value is NaN.

    Raises:
        InputError: there are no values, or the confidence is not between 0 and 1.
    """
    from scipy import stats

    if not len(values):
        raise InputError("no values to average: expected one result a seed")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence}; 0.95 is 95 %")
    sample = torch.as_tensor(values, dtype=torch.float64)
    if len(sample) == 1:
        return sample.item(), math.nan
    quantile = stats.t.ppf((1 + confidence) / 2, df=len(sample) - 1)
    return sample.mean().item(), float(quantile * sample.std().item() / math.sqrt(len(sample)))


def _check(scores: Tensor, targets: Tensor) -> Float[Tensor, "N L"]:
    """Returns the scores without their history, or says what is wrong with the input."""
    if scores.shape != targets.shape:
        raise InputError(
            f"scores and targets must have one shape (N, L), got scores {tuple(scores.shape)} "
            f"and targets {tuple(targets.shape)}"
        )
    if scores.ndim != 2 or not scores.numel():
        raise InputError(
            f"scores must be (N, L) with at least one image and label, got {tuple(scores.shape)}"
        )
    if not scores.is_floating_point():
        raise InputError(f"scores must be probabilities, floating-point numbers, got {scores.dtype}")
    if targets.is_floating_point():
        raise InputError(
            f"targets must be integers or booleans, got {targets.dtype}; use targets.to(torch.int8)"
        )

    scores = scores.detach()
    low, high = (bound.item() for bound in scores.aminmax())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise InputError(
            f"scores must be probabilities in 0..1, found values from {low:.4g} to {high:.4g}: "
            "apply sigmoid to logits first"
        )
    if targets.dtype != torch.bool:
        bounds = [int(bound.item()) for bound in targets.aminmax()]
        if wrong := [bound for bound in bounds if bound not in (-1, 0, 1)]:
            raise InputError(f"targets must be 1, 0 or -1 (unknown), found {wrong[0]}")
    return scores


def _blocks(length: int, width: int) -> list[slice]:
    """Consecutive parts of rows of this width, each of at most CHUNK entries, or of one row."""
    step = max(1, CHUNK // width)
    return [slice(start, start + step) for start in range(0, length, step)]


def _average_precision(scores: Float[Tensor, "N L"], targets: Shaped[Tensor, "N L"]) -> Float64[Tensor, " L"]:
    # Floats that are not negative are in the order of their bits, so that score and target fit into one
    # integer, and sorting it needs no index and no gather. Ascending keys: highest score first, in ties
    # positives last, so that a tie's last positive stands at the tie's end; unknown entries after all others.
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[scores.element_size()]
    bits = scores.T.contiguous().view(integer)
    one = torch.ones_like(scores[0, 0]).view(integer)
    keys = (one - bits) * 2 + (targets.T == 1)  # the sign bit of -0.0 drops out here
    keys.masked_fill_(targets.T < 0, torch.iinfo(integer).max - 1)  # even: not a positive
    if keys.device.type == "cpu":
        keys.numpy().sort(axis=1)  # in place; NumPy's vectorised sort is several times faster than torch's
    else:
        keys = keys.sort(dim=1).values

    # From here on only positives matter: precision changes recall nowhere else.
    label, place = (keys & 1).nonzero(as_tuple=True)
    positives = label.bincount(minlength=len(keys))
    before = positives.cumsum(0) - positives  # positives of the labels above
    tie = keys[label, place]
    last = torch.ones_like(label, dtype=torch.bool)
    last[:-1] = (tie[1:] != tie[:-1]) | (label[1:] != label[:-1])

    end = last.nonzero().squeeze(1)
    label, place = label[end], place[end]
    precision = (end + 1 - before[label]).double() / (place + 1)
    size = end.diff(prepend=end.new_tensor([-1]))
    total = torch.zeros(len(keys), dtype=torch.float64, device=keys.device)
    return total.index_add_(0, label, size * precision) / positives


def _count_predictions(
    scores: Float[Tensor, "N L"],
    targets: Shaped[Tensor, "N L"],
    threshold: float | Tensor,
    top_k: int | None = None,
) -> tuple[Int64[Tensor, "3 L"], Int64[Tensor, "3 N"]]:
    """N^c, N^p, N^g of each label and of each image; at most the k best labels of an image are predicted."""
    limit = torch.as_tensor(threshold, dtype=scores.dtype, device=scores.device)
    if limit.ndim and limit.shape != scores.shape[1:]:
        raise InputError(
            f"threshold must be one number or one for each of the {scores.shape[1]} labels, "
            f"got shape {tuple(limit.shape)}"
        )
    if not ((limit >= 0) & (limit <= 1)).all():
        raise InputError(f"threshold must lie in 0..1: it is compared with probabilities, got {threshold}")
    # Counts that outlive a block have their place before it: between blocks they would tear the heap apart.
    per_label, per_image = (
        torch.zeros(3, length, dtype=torch.int64, device=scores.device) for length in reversed(scores.shape)
    )
    for images in _blocks(*scores.shape):
        present, known = targets[images] == 1, targets[images] >= 0
        predicted = (scores[images] >= limit) & known
        if top_k is not None:
            predicted &= _top_k(scores[images], known, top_k)
        for i, mask in enumerate((predicted & present, predicted, present)):
            # No block holds more than int32 counts, in which torch is several times quicker than in int64.
            per_label[i] += mask.sum(0, dtype=torch.int32)
            per_image[i, images] = mask.sum(1, dtype=torch.int32).long()
    return per_label, per_image


def _top_k(scores: Float[Tensor, "N L"], known: Bool[Tensor, "N L"], k: int) -> Bool[Tensor, "N L"]:
    if k < 1:
        raise InputError(f"top_k must be at least 1, or None for no top-k metrics, got {k}")
    k = min(k, scores.shape[1])
    ranked = scores.masked_fill(~known, -1)
    kth = ranked.topk(k, dim=1).values[:, -1:]
    top = ranked >= kth
    if bool((top.sum(1, dtype=torch.int32) == k).all()):
        return top
    # topk leaves open which of several equal scores it takes, and saturated sigmoids are equal often.
    above, tied = ranked > kth, ranked == kth
    room = k - above.sum(1, keepdim=True)
    return above | (tied & (tied.cumsum(1, dtype=torch.int32) <= room))


def _ratio(part: Int64[Tensor, "*_"], whole: Int64[Tensor, "*_"]) -> Float64[Tensor, "*_"]:
    """``part / whole``, and 0 for 0/0."""
    return part.double() / whole.clamp(min=1)


def _class_and_overall(
    correct: Int64[Tensor, " L"], chosen: Int64[Tensor, " L"], positives: Int64[Tensor, " L"]
) -> dict[str, float]:
    counted = positives > 0
    metrics: dict[str, float] = {}
    for kind, precision, recall in (
        ("C", _ratio(correct, chosen)[counted].mean(), _ratio(correct, positives)[counted].mean()),
        ("O", _ratio(correct.sum(), chosen.sum()), correct.sum().double() / positives.sum()),
    ):
        p, r = precision.item(), recall.item()
        metrics |= {f"{kind}P": p, f"{kind}R": r, f"{kind}F1": 2 * p * r / (p + r) if p + r else 0.0}
    return metrics
