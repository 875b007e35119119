"""Thresholds, one a label, in every form; images and known labels are tested where they are used, in test_model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import COLOURS
from torch_geometric.data import Data

from zoo.lookup import InputError
from zoo.model import MultiLabelClassifier, build
from zoo.predict_inputs import label_thresholds


def test_every_form_of_thresholds():
    for value in ([0.5, 0.5, 0.2], np.array([0.5, 0.5, 0.2]), torch.tensor([0.5, 0.5, 0.2]), {"blue": 0.2}):
        assert label_thresholds(value, COLOURS).tolist() == pytest.approx([0.5, 0.5, 0.2])
    for value, same in ((0.3, 0.3), (0, 0), (1, 1), (torch.tensor(0.3), 0.3), (None, 0.5), ({}, 0.5)):
        assert label_thresholds(value, COLOURS).tolist() == pytest.approx([same] * 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.1, "^the threshold must lie in 0..1, not 1.1: it is compared with sigmoid"),
        (math.nan, "the threshold must lie in 0..1, not nan"),
        ([0.5, -0.1, 0.5], "the threshold of 'green' must lie in 0..1, not -0.1"),
        ({"blue": 2}, "the threshold of 'blue' must lie in 0..1, not 2"),
        ({"bleu": 0.2}, "unknown label 'bleu'. Did you mean blue"),
        ([0.5, 0.5], r"one number or one for each of the 3 labels, not of shape \(2,\)"),
        (torch.rand(1, 3), r"not of shape \(1, 3\)"),
        ({"blue": "high"}, "thresholds must be numbers in 0..1"),
        ({"blue": None}, "thresholds must be numbers in 0..1"),
    ],
)
def test_thresholds_that_are_wrong(value, message):
    with pytest.raises(InputError, match=message):
        label_thresholds(value, COLOURS)


@pytest.fixture
def model(colour_graph: Data) -> MultiLabelClassifier:
    torch.manual_seed(0)
    return build("mlgcn-test_efficientnet", colour_graph, img_size=32, widths=(16,)).eval()


def test_a_models_thresholds_decide_what_it_predicts(model):
    images = torch.randn(4, 3, 32, 32)
    scores = model.scores(images)
    model.thresholds = {"red": 0.0, "green": 1.0, "blue": scores[0, 2].item()}
    for row, labels in zip(scores, model.predict(images), strict=True):
        assert set(labels) == {"red", "blue"} if row[2] >= scores[0, 2] else {"red"}
        assert list(labels.values()) == sorted(labels.values(), reverse=True)
    assert "blue" in model.predict(images[0])[0], "at the threshold is enough"
    assert model.predict(images, threshold=0.0) == model.predict(images, top_k=3), (
        "what is asked for goes before"
    )
    assert model.predict(images, threshold={"red": 1, "green": 0, "blue": 1}) == [
        {"green": pytest.approx(row[1].item(), abs=1e-6)} for row in scores
    ]
    model.thresholds = None
    assert model.thresholds is None
    assert model.predict(images) == model.predict(images, threshold=0.5)
    with pytest.raises(InputError, match="the threshold must lie in"):
        model.predict(images, threshold=5)


def test_thresholds_that_are_wrong_leave_those_that_are_there(model):
    model.thresholds = 0.3
    with pytest.raises(InputError, match="for each of the 3 labels"):
        model.thresholds = [0.1, 0.2]
    assert model.thresholds.tolist() == pytest.approx([0.3] * 3)
    model.to(torch.bfloat16)
    assert (model.thresholds.device.type, model.thresholds.dtype) == ("cpu", torch.float32)


def test_folding_keeps_thresholds(model):
    model.thresholds = given = torch.tensor([0.1, 0.2, 0.3])
    folded = model.fold()
    folded.thresholds = 0.9
    assert torch.equal(model.thresholds, given)
    assert torch.equal(model.fold().thresholds, given)
    given.zero_()
    assert model.thresholds.any(), "thresholds are the model's own"


def test_new_labels_have_a_threshold_of_one_half(model):
    names = ["dark red", "pale blue"]
    assert model.add_labels(names[:1], embeddings=torch.randn(1, 300)).thresholds is None
    model.thresholds = [0.1, 0.2, 0.3, 0.4]
    model.add_labels(names[1:], embeddings=torch.randn(1, 300))
    assert model.thresholds.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
