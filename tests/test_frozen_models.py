"""Models that versions of this package saved, each with that version's own code: they load for ever, and say the same.

A folder of tests/frozen is a version; format-2 is the first that saved thresholds. tests/freeze_models.py says how the
next version's is made. Nothing there is ever written anew: if it no longer loads, the code that loads it is wrong.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from freeze_models import ANNOTATIONS, HEADS, NAMES, fixed_images

import zoo
from zoo.saved_model import CONFIG, load

FROZEN = sorted(path.parent for path in (Path(__file__).parent / "frozen").glob(f"*/*/{CONFIG}"))


@pytest.mark.parametrize("folder", FROZEN, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_frozen_model_says_what_it_said(folder):
    model = load(folder).double().eval()
    expected = torch.tensor(json.loads((folder / "logits.json").read_text()), dtype=torch.float64)
    assert expected.std() > 0.3, "logits that say nothing"
    with torch.inference_mode():
        torch.testing.assert_close(model(fixed_images()), expected, atol=1e-5, rtol=1e-5)
    assert model.name == f"{folder.name}-test_efficientnet"
    assert model.label_names == NAMES
    assert model.backbone.img_size == (32, 32)
    assert model.notes == {"test": {"mAP": 0.5}, "data": "frozen"}
    assert model.recipe["num_images"] == len(ANNOTATIONS)
    limits = model.thresholds
    assert (
        limits is None
        if folder.parent.name in ("0.1.0", "0.2.0")
        else limits.tolist() == [0.5, 0.25, 0.5, 0.5]
    )
    for name, value in HEADS[folder.name].items():
        assert model.options[name] == (list(value) if isinstance(value, tuple) else value)


def test_every_way_of_saving_is_frozen():
    assert {folder.name for folder in FROZEN} == HEADS.keys() <= {*zoo.list_heads()}
    assert {json.loads((folder / CONFIG).read_text())["format"] for folder in FROZEN} == {1, 2}
