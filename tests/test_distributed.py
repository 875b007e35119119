"""Two processes, or a batch in parts, give what one process with whole batches gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import COLOURS
from torch import nn

from zoo.lookup import InputError
from zoo.model import build
from zoo.recipe import Recipe
from zoo.runtime import Runtime
from zoo.train import _freeze_unused, fit

SCRIPT = '''
import json, sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.graph import unlinked_labels
from zoo.heads import build_head
from zoo.features import OnFeatures
from zoo.metrics import multilabel_metrics
from zoo.order import Rows, TrainingOrder, own_rows
from zoo.recipe import Recipe
from zoo.runtime import Runtime, build_trainer
from zoo.train import Classification

out, devices, parts = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
generator = torch.Generator().manual_seed(0)
features = torch.randn(97, 8, generator=generator)
targets = (features[:, :5] + torch.randn(97, 5, generator=generator) > 0).to(torch.int8)
targets[::7, 2] = -1
recipe = Recipe(batch_size=20, epochs=3, lr=0.1, optimizer="sgd", seed=4)
runtime = Runtime(accelerator="cpu", devices=devices, accumulate=parts, logger="none")
trainer = build_trainer(runtime, recipe, out, [])
order = TrainingOrder(97, 20, 4, parts=parts, rank=trainer.global_rank, processes=trainer.world_size)


class Exact(nn.Module):
    """Logits that do not depend on what else is in the batch: the features themselves."""

    head = None

    def forward(self, features):
        return features[:, :5]


rows = own_rows(97, trainer.global_rank, trainer.world_size)
val = DataLoader(TensorDataset(features, targets), sampler=rows, batch_size=9)
exact = Classification(Exact(), recipe)
trainer.validate(exact, val, verbose=False)
logits, seen = exact.scored
metrics = multilabel_metrics(logits.sigmoid(), seen)

torch.manual_seed(0)
model = OnFeatures(build_head("linear", 8, unlinked_labels(list("abcde"))))
module = Classification(model, recipe, order=order)
known = targets.clamp(min=0)  # a mean over known entries is no mean over images
train = DataLoader(Rows(features, known), sampler=order, batch_size=None)
trainer.fit(module, train, DataLoader(TensorDataset(features, known), sampler=rows, batch_size=9))
if trainer.is_global_zero:
    torch.save(model.state_dict(), out / "weights.pt")
    (out / "result.json").write_text(json.dumps({"metrics": metrics, "images": len(seen), "history": module.history}))
'''


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, tuple[dict, dict[str, torch.Tensor]]]:
    """The same evaluation and training on one and on two processes, the latter as torchrun starts them."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    found = {}
    for name, start, devices, parts in (
        ("one", [sys.executable], 1, 1),
        (
            "two",
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"],
            2,
            1,
        ),
        ("in parts", [sys.executable], 1, 3),
    ):
        (folder / name).mkdir()
        command = [*start, str(folder / "script.py"), str(folder / name), str(devices), str(parts)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, done.stderr[-3000:]
        result = json.loads((folder / name / "result.json").read_text())
        found[name] = (result, torch.load(folder / name / "weights.pt", weights_only=True))
    return found


def test_metrics_are_exactly_those_of_one_process(results):
    """97 images on two processes: none is counted twice, and none left out."""
    one, two = results["one"][0], results["two"][0]
    assert two["images"] == one["images"] == 97
    assert two["metrics"] == one["metrics"]


@pytest.mark.parametrize("other", ["two", "in parts"])
def test_a_step_is_that_of_the_whole_batch(other, results):
    (one, weights), (cut, found) = results["one"], results[other]
    for name, value in weights.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)
    for row, expected in zip(cut["history"], one["history"], strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss", ["bce", "asl:reduction=sum"])
@pytest.mark.parametrize("parts", [2, 7])
def test_a_batch_in_parts_equals_the_whole(loss, parts, colours, tmp_path):
    """Without batch statistics: the head alone, on frozen features. 16 images in batches of 9 and 7."""
    recipe = Recipe(loss=loss, epochs=3, batch_size=9, lr=1e-2)
    weights = []
    for accumulate in (1, parts):
        torch.manual_seed(0)
        model = build("linear-test_efficientnet", COLOURS, img_size=32)
        runtime, folder = Runtime(workers=0, accumulate=accumulate), tmp_path / str(accumulate)
        fit(model, colours, recipe, folder, runtime=runtime, freeze_backbone=True, progress=False)
        weights.append(model.head.linear.weight.detach())
    torch.testing.assert_close(weights[1], weights[0], atol=1e-6, rtol=1e-5)


def test_frozen_features_on_several_devices_are_refused(colours, tmp_path):
    model = build("linear-test_efficientnet", COLOURS, img_size=32)
    runtime = Runtime(accelerator="cpu", devices=2)
    with pytest.raises(InputError, match="heads on frozen features train in seconds on one device"):
        fit(model, colours, Recipe(), tmp_path, runtime=runtime, freeze_backbone=True, progress=False)


def test_what_makes_no_part_of_the_logits_is_frozen():
    """Otherwise the processes would wait for its gradients."""
    model = build("linear-test_efficientnet", COLOURS, img_size=32)
    model.backbone.left_over = nn.Linear(3, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _freeze_unused(model)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["backbone.left_over.weight", "backbone.left_over.bias"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), "batch statistics too"
