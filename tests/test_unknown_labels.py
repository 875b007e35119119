"""Unknown labels from end to end: annotations of which much is open, counted, trained on and measured."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from zoo import pair_counts
from zoo.annotations import DIFFICULT, NEGATIVE, POSITIVE, UNKNOWN, Annotations
from zoo.counts import LabelCounts, count_labels
from zoo.data import Difficult, ImageDataset, open_dataset
from zoo.losses import LOSSES, build_loss
from zoo.metrics import multilabel_metrics, per_label_metrics

NAMES = ["dog", "cat", "bird", "boat", "kite", "fork"]
# What an entry may be: nothing stored, or one of the codes.
SHARES = {0: 0.35, POSITIVE: 0.3, UNKNOWN: 0.1, DIFFICULT: 0.1, NEGATIVE: 0.15}


def random_codes(seed: int, num_images: int = 80) -> np.ndarray:
    codes = np.random.default_rng(seed).choice([*SHARES], (num_images, len(NAMES)), p=[*SHARES.values()])
    codes[:, 4] = np.where(codes[:, 4] == POSITIVE, UNKNOWN, codes[:, 4])  # a label that never occurs
    codes[:, 5] = np.where(
        codes[:, 5] == POSITIVE, POSITIVE, 0
    )  # one of which all is known, or only positives
    return codes


def annotations_of(codes: np.ndarray, absent: int) -> Annotations:
    return Annotations(sp.csr_array(codes.astype(np.int8)), absent)


def read(codes: np.ndarray, absent: int, difficult: int) -> list[list[int]]:
    """The targets, entry by entry."""
    meaning = {0: absent, POSITIVE: 1, UNKNOWN: -1, NEGATIVE: 0, DIFFICULT: difficult}
    return [[meaning[code] for code in row] for row in codes.tolist()]


def dataset(codes: np.ndarray, absent: int, difficult: Difficult) -> ImageDataset:
    images = [Path(f"{i}.png") for i in range(len(codes))]
    splits = np.full(len(codes), "test")
    return ImageDataset("open", images, annotations_of(codes, absent), NAMES, splits, difficult=difficult)


# --- statistics ----------------------------------------------------------------------------------------------


def assert_equals_a_slow_loop(counts: LabelCounts, targets: list[list[int]]) -> None:
    """Every number, over what is known alone."""
    labels = range(len(NAMES))
    assert counts.num_images == len(targets)
    known = [sum(row[i] != -1 for row in targets) for i in labels]
    if any(row[i] == -1 for row in targets for i in labels):
        assert counts.known is not None
        assert counts.known.tolist() == known
    else:
        assert counts.known is None
        assert counts.checked is None
    assert counts.counts.tolist() == [sum(row[i] == 1 for row in targets) for i in labels]
    together, probability = counts.cooccurrence.toarray(), counts.p_column_given_row().toarray()
    for i in labels:
        for j in labels:
            both = sum(row[i] == 1 and row[j] == 1 for row in targets) if i != j else 0
            checked = sum(row[i] == 1 and row[j] != -1 for row in targets)
            assert together[i, j] == both
            assert probability[i, j] == (both / checked if both else 0)
            if both and counts.checked is not None:
                assert counts.checked[i, j] == checked


@pytest.mark.parametrize(("entries", "pairs"), [(1, 1), (13, 20), (13, 1000), (2**17, 2**20)])
@pytest.mark.parametrize("absent", [0, -1])
@pytest.mark.parametrize("seed", range(3))
def test_counts_go_by_what_is_known(
    seed: int, absent: int, entries: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_counts, "ENTRIES", entries)
    monkeypatch.setattr(pair_counts, "PAIRS", pairs)
    codes = random_codes(seed)
    counts = count_labels(annotations_of(codes, absent), NAMES)
    assert_equals_a_slow_loop(counts, read(codes, absent, difficult=-1))


@pytest.mark.parametrize("absent", [0, -1])
@pytest.mark.parametrize(("treatment", "value"), [("positive", 1), ("negative", 0), ("ignored", -1)])
def test_a_data_set_counts_difficult_entries_as_it_says(treatment: str, value: int, absent: int) -> None:
    codes = random_codes(3)
    counts = dataset(codes, absent, Difficult(counts=treatment)).label_counts()
    assert_equals_a_slow_loop(counts, read(codes, absent, value))


@pytest.mark.parametrize("absent", [0, -1])
def test_positives_alone(absent: int) -> None:
    """Where nobody looked for what is not mentioned, every label is known where it is positive, and nowhere else."""
    codes = np.where(random_codes(4) == POSITIVE, POSITIVE, 0)
    counts = count_labels(annotations_of(codes, absent), NAMES)
    assert_equals_a_slow_loop(counts, read(codes, absent, 1))
    occurring = counts.p_column_given_row().data
    assert (occurring == 1).all() == (absent == -1)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_annotations_in_every_form_count_the_same(seed: int) -> None:
    dense = np.array(read(random_codes(seed), -1, -1), dtype=np.int8)
    images, labels = np.nonzero(dense != -1)
    codes = np.where(dense[images, labels] == 1, POSITIVE, NEGATIVE)
    forms = {
        "array": dense,
        "tensor": torch.from_numpy(dense),
        "sparse": sp.coo_array(dense),
        "unless said, negative": Annotations.from_array(dense),
        "unless said, unknown": Annotations.from_entries(images, labels, codes, dense.shape, absent=-1),
        "all said": annotations_of(np.array([UNKNOWN, NEGATIVE, POSITIVE])[dense + 1], -1),
    }
    counted = {form: count_labels(targets, NAMES) for form, targets in forms.items()}  # type: ignore[arg-type]
    wanted = counted.pop("array")
    assert wanted.known is not None
    assert wanted.checked is not None
    for form, counts in counted.items():
        for name in ("counts", "known", "num_images", "label_names"):
            np.testing.assert_array_equal(getattr(counts, name), getattr(wanted, name), err_msg=form)
        for name in ("cooccurrence", "checked"):
            mine, its = getattr(counts, name), getattr(wanted, name)
            assert (mine != its).nnz == 0, (form, name)
            assert mine.nnz == wanted.cooccurrence.nnz, (form, name)


def test_a_label_graph_needs_no_photo(tmp_path: Path) -> None:
    """Of two dogs with a known answer to ``cat`` one has a cat."""
    file = tmp_path / "labels.csv"
    file.write_text("image,dog,cat,split\na.jpg,1,1,train\nb.jpg,1,0,train\nc.jpg,1,-1,val\nd.jpg,0,1,test\n")
    counts = open_dataset(file, check_images=False).label_counts()
    assert counts.label_names == ("dog", "cat")
    assert counts.counts.tolist() == [3, 2]
    assert counts.known is not None
    assert counts.known.tolist() == [4, 3]
    assert counts.p_column_given_row().toarray().tolist() == [[0, 1 / 2], [1 / 2, 0]]
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


# --- losses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absent", [0, -1])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_no_loss_sees_the_logits_of_unknown_labels(name: str, absent: int) -> None:
    """Neither its value nor any gradient changes, whatever they are; formulas of each are in test_losses.py."""
    data = dataset(random_codes(5), absent, Difficult(loss="ignored"))
    targets = torch.from_numpy(data.targets)
    unknown = torch.from_numpy(np.array(read(random_codes(5), absent, -1)) == -1)
    assert 0.15 < unknown.float().mean() < 0.8
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(targets.shape, generator=generator, dtype=torch.float64)
    outcomes = []
    for noise in (0.0, 1.0, 30.0, 1e4):
        changed = logits + noise * torch.randn(targets.shape, generator=generator, dtype=torch.float64)
        given = torch.where(unknown, changed, logits).requires_grad_()
        value = build_loss(name, targets=targets)(given, targets)
        value.backward()
        assert not given.grad[unknown].any()
        outcomes.append((value.detach(), given.grad))
    assert outcomes[0][0] > 0
    assert outcomes[0][1].any()
    for value, gradient in outcomes[1:]:
        torch.testing.assert_close(value, outcomes[0][0])
        torch.testing.assert_close(gradient, outcomes[0][1])


# --- metrics -------------------------------------------------------------------------------------------------


def slow_metrics(scores: list[list[float]], ap: list[list[int]], f1: list[list[int]]) -> dict[str, float]:
    """mAP over the known entries of ``ap``; C, O, macro, micro and samples over those of ``f1``, at a threshold of 0.5.

    One entry at a time, without ties: AP is the mean precision at the ranks of the positives.
    """
    images, labels = range(len(scores)), range(len(scores[0]))
    precisions = []
    for i in labels:
        ranked = sorted((n for n in images if ap[n][i] != -1), key=lambda n, i=i: -scores[n][i])
        hits = [rank for rank, n in enumerate(ranked, start=1) if ap[n][i] == 1]
        if hits:
            precisions.append(sum(found / rank for found, rank in enumerate(hits, start=1)) / len(hits))

    def counts(entries: list[tuple[int, int]]) -> tuple[int, int, int]:
        known = [(scores[n][i] >= 0.5, f1[n][i] == 1) for n, i in entries if f1[n][i] != -1]
        return sum(p and t for p, t in known), sum(p for p, _ in known), sum(t for _, t in known)

    def ratio(part: float, whole: float) -> float:
        return part / whole if whole else 0.0

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    by_label = [counts([(n, i) for n in images]) for i in labels]
    by_image = [counts([(n, i) for i in labels]) for n in images]
    overall = counts([(n, i) for n in images for i in labels])
    result = {"mAP": mean(precisions)}
    present = [c for c in by_label if c[2]]
    for kind, groups in (("C", present), ("O", [overall])):
        p, r = (
            mean([ratio(c, chosen) for c, chosen, _ in groups]),
            mean([c / there for c, _, there in groups]),
        )
        result |= {f"{kind}P": p, f"{kind}R": r, f"{kind}F1": ratio(2 * p * r, p + r)}
    for average, groups in (("macro", by_label), ("micro", [overall]), ("samples", by_image)):
        result[f"{average}_precision"] = mean([ratio(c, chosen) for c, chosen, _ in groups])
        result[f"{average}_recall"] = mean([ratio(c, there) for c, _, there in groups])
        result[f"{average}_f1"] = mean([ratio(2 * c, chosen + there) for c, chosen, there in groups])
    return result


@pytest.fixture(params=[(0, 0), (0, 1), (-1, 2)], ids=str)
def protocol(request: pytest.FixtureRequest) -> tuple[np.ndarray, torch.Tensor, ImageDataset, int]:
    """Codes, scores that know a little of them, and a data set in which AP ignores what is negative for F1."""
    absent, seed = request.param
    codes = random_codes(seed)
    noise = np.random.default_rng(seed).random(codes.shape)
    scores = torch.from_numpy(0.8 * noise + 0.2 * np.isin(codes, (POSITIVE, DIFFICULT)))
    return codes, scores, dataset(codes, absent, Difficult(ap="ignored", f1="negative")), absent


def measured(data: ImageDataset, scores: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    """Every number of both functions, under its own name."""
    ap, f1 = torch.from_numpy(data.with_purpose("ap").targets), data.f1_targets()
    assert f1 is not None
    options = {"f1_targets": torch.from_numpy(f1)}
    overall = multilabel_metrics(scores, ap, **options)
    return {
        "multilabel_metrics": {name: torch.tensor(value) for name, value in overall.items()},
        "per_label_metrics": per_label_metrics(scores, ap, **options),
    }


def test_metrics_equal_a_slow_loop_with_other_targets_for_ap_than_for_f1(protocol) -> None:
    codes, scores, data, absent = protocol
    found = measured(data, scores)["multilabel_metrics"]
    expected = slow_metrics(scores.tolist(), read(codes, absent, -1), read(codes, absent, 0))
    plain = {name: value.item() for name, value in found.items() if "_top3" not in name}
    assert plain == pytest.approx(expected, abs=1e-7)
    assert expected != slow_metrics(scores.tolist(), read(codes, absent, 0), read(codes, absent, 0))
    assert expected != slow_metrics(scores.tolist(), read(codes, absent, -1), read(codes, absent, -1))


def test_per_label_metrics_equal_a_slow_loop_over_single_labels(protocol) -> None:
    codes, scores, data, absent = protocol
    found = measured(data, scores)["per_label_metrics"]
    for i in range(len(NAMES)):
        ap, f1 = read(codes[:, i : i + 1], absent, -1), read(codes[:, i : i + 1], absent, 0)
        positives = sum(row[0] == 1 for row in f1)
        assert found["positives"][i] == positives
        if not positives:
            assert all(math.isnan(found[name][i]) for name in ("AP", "recall", "f1"))
            continue
        expected = slow_metrics(scores[:, i : i + 1].tolist(), ap, f1)
        for name, overall in (("AP", "mAP"), ("precision", "OP"), ("recall", "OR"), ("f1", "OF1")):
            assert found[name][i].item() == pytest.approx(expected[overall], abs=1e-12), name


def test_no_metric_sees_the_scores_of_unknown_labels(protocol) -> None:
    codes, scores, data, absent = protocol
    unknown = torch.from_numpy(np.array(read(codes, absent, 0)) == -1)  # to AP and to F1
    assert unknown.any()
    before = measured(data, scores)
    for extreme in (torch.zeros(()), torch.ones(()), 1 - scores):
        after = measured(data, torch.where(unknown, extreme.to(scores.dtype), scores))
        for function, values in before.items():
            for name, value in values.items():
                message = f"{function}: {name}"
                torch.testing.assert_close(
                    after[function][name], value, rtol=0, atol=0, equal_nan=True, msg=message
                )


def test_difficult_labels_count_against_f1_and_not_against_ap(protocol) -> None:
    codes, scores, data, _ = protocol
    difficult = torch.from_numpy(codes == DIFFICULT)
    low, high = (
        measured(data, torch.where(difficult, torch.full_like(scores, value), scores)) for value in (0.0, 1.0)
    )
    assert low["multilabel_metrics"]["mAP"] == high["multilabel_metrics"]["mAP"]
    torch.testing.assert_close(
        low["per_label_metrics"]["AP"], high["per_label_metrics"]["AP"], rtol=0, atol=0, equal_nan=True
    )
    for name in ("CP", "OP", "CF1", "OF1", "micro_f1", "macro_f1", "samples_f1"):
        assert low["multilabel_metrics"][name] > high["multilabel_metrics"][name], name
