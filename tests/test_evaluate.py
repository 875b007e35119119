"""Scores of a data set against a plain loop, and the metrics of scores that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from zoo.evaluate import Evaluation, compute_logits, compute_scores, evaluate
from zoo.lookup import InputError
from zoo.model import MultiLabelClassifier, build


@pytest.fixture
def model(colour_graph) -> MultiLabelClassifier:
    torch.manual_seed(0)
    return build("mlgcn-test_efficientnet", colour_graph, img_size=32, widths=(16,))


def test_equal_to_a_plain_loop(model, colours):
    evaluation = evaluate(model, colours, batch_size=5, workers=0, progress=False)
    assert evaluation.scores.shape == (32, 3)
    torch.testing.assert_close(evaluation.scores, model.scores(colours.images), atol=1e-5, rtol=0)
    np.testing.assert_array_equal(evaluation.targets.numpy(), colours.targets)
    assert evaluation.label_names == colours.label_names
    assert evaluation.images == [str(path) for path in colours.images]


def test_leaves_the_model_as_it_was(model, colours):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    evaluate(model, colours.split("val"), workers=0, progress=False)
    assert model.training
    assert model.backbone.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_labels_in_another_order(model, colours):
    order = [2, 0, 1]
    reordered = replace(
        colours,
        label_names=[colours.label_names[i] for i in order],
        annotations=colours.annotations.columns(order),
    )
    ours, theirs = (evaluate(model, data, workers=0, progress=False) for data in (colours, reordered))
    assert theirs.label_names == model.label_names
    assert torch.equal(ours.targets, theirs.targets)
    assert ours.metrics() == theirs.metrics()


def test_other_labels_are_refused(model, colours):
    other = replace(colours, label_names=["red", "green", "cyan"])
    with pytest.raises(
        InputError, match=r"labels of the model and of colours differ: 1 only in the model \(blue\)"
    ):
        evaluate(model, other, workers=0, progress=False)


def test_an_image_that_does_not_decode_is_named(model, colours, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    broken = replace(colours, images=[*colours.images[:-1], tmp_path / "broken.png"])
    with pytest.raises(InputError, match=r"broken\.png does not decode"):
        evaluate(model, broken, workers=0, progress=False)


def test_scores_are_probabilities_whatever_their_range():
    """Sigmoid once, for every batch: also where all logits look like probabilities."""
    logits = torch.tensor([[0.1, 0.9], [0.5, 0.2], [5.0, -7.0]])
    targets = torch.tensor([[0, 1], [1, 0], [1, 0]], dtype=torch.int8)
    loader = DataLoader(TensorDataset(logits, targets), batch_size=2)
    scores, seen = compute_scores(torch.nn.Identity(), loader)
    torch.testing.assert_close(scores, 1 / (1 + (-logits).exp()))
    assert torch.equal(seen, targets)


def test_what_is_known_goes_with_its_images():
    inputs, facts = torch.randn(5, 2), torch.randint(-1, 2, (5, 2))
    targets = torch.zeros(5, 2, dtype=torch.int8)
    batches: list[torch.Tensor] = []

    class Model(torch.nn.Module):
        def forward(self, inputs, known):
            batches.append(known)
            return inputs + known

    logits, _ = compute_logits(Model(), DataLoader(TensorDataset(inputs, targets), batch_size=2), known=facts)
    assert torch.equal(logits, inputs + facts)
    assert [len(batch) for batch in batches] == [2, 2, 1]


@pytest.fixture
def known() -> Evaluation:
    """Four images and two labels; what follows from them is worked out by hand below."""
    return Evaluation(
        scores=torch.tensor([[0.9, 0.2], [0.8, 0.7], [0.6, 0.4], [0.1, 0.3]]),
        targets=torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=torch.int8),
        label_names=["dog", "cat"],
        images=["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
    )


def test_metrics_of_known_scores(known):
    # dog: ranks + - + -, AP (1 + 2/3) / 2; at .5 three predicted, two correct, of two.
    # cat: ranks + - + -, AP (1 + 2/3) / 2; at .5 one predicted, one correct, of two.
    metrics = known.metrics()
    assert metrics["mAP"] == pytest.approx(5 / 6)
    assert metrics["CP"] == pytest.approx((2 / 3 + 1) / 2)
    assert metrics["CR"] == pytest.approx((1 + 1 / 2) / 2)
    assert metrics["OP"] == pytest.approx(3 / 4)
    assert metrics["OR"] == pytest.approx(3 / 4)
    # At .25, cat gains c.jpg and d.jpg, one of them correctly.
    assert known.metrics(threshold=0.25)["OR"] == pytest.approx(1)
    assert known.metrics(threshold=0.25)["OP"] == pytest.approx(4 / 6)


def test_metrics_of_each_label(known):
    per_label = known.per_label()
    assert per_label["AP"].tolist() == pytest.approx([5 / 6, 5 / 6])
    assert per_label["precision"].tolist() == pytest.approx([2 / 3, 1])
    assert per_label["recall"].tolist() == pytest.approx([1, 1 / 2])
    assert per_label["positives"].tolist() == [2, 2]
    assert known.per_label(threshold=0.25)["recall"].tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("name", ["scores.npz", "deep/scores.npz", "scores"])
def test_saved_image_by_image_without_pickles(name, known, tmp_path):
    path = known.save(tmp_path / name)
    assert path == tmp_path / name
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["scores"], known.scores.numpy())
        np.testing.assert_array_equal(arrays["targets"], known.targets.numpy())
        assert arrays["label_names"].tolist() == ["dog", "cat"]
        assert arrays["images"].tolist() == known.images


def test_logits_in_place_of_scores_are_refused(known):
    wrong = replace(known, scores=known.scores * 5)
    with pytest.raises(InputError, match=r"scores must be probabilities.*apply sigmoid"):
        wrong.metrics()
