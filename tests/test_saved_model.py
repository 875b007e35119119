"""Models on disk: that all of it travels, and that a file made by anyone does no more than load or be refused."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import COLOURS
from small_heads import perturb
from torch import Tensor
from torch_geometric.data import Data

import zoo
from zoo.graph import unlinked_labels
from zoo.label_spaces import label_space
from zoo.lookup import InputError
from zoo.model import MultiLabelClassifier, build
from zoo.saved_config import FORMAT
from zoo.saved_model import CONFIG, WEIGHTS, load


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture
def model(colour_graph: Data) -> MultiLabelClassifier:
    return build("mlgcn-test_efficientnet", colour_graph, img_size=32, widths=(16,)).eval()


# --- what travels --------------------------------------------------------------------------------------------


def test_everything_travels(colour_graph, tmp_path):
    options = {
        "conv": "TAGConv",
        "widths": (16, 8),
        "hops": 3,
        "pooling": "gem",
        "dropout": 0.2,
        "bias": True,
    }
    model = build("mlgcn-test_vit_relpos", colour_graph, img_size=(96, 64), **options)
    model.notes = {"mAP": 0.5, "thresholds": [0.1, 0.2, 0.3], "nested": {"a": None}}
    model.backbone.data_config["mean"] = [0.1, 0.2, 0.3]
    model.head.standardize(torch.arange(96.0), torch.arange(96.0) + 1, torch.arange(3.0))
    directory = model.save(tmp_path / "deep" / "model")
    assert sorted(file.name for file in directory.iterdir()) == [CONFIG, WEIGHTS]

    copy = load(directory)
    assert copy.notes == model.notes
    assert copy.recipe == model.recipe
    assert copy.backbone.img_size == (96, 64)
    assert copy.backbone.data_config == model.backbone.data_config
    assert torch.equal(copy.head.edge_index, model.head.edge_index)
    assert torch.equal(copy.head.norm.std, model.head.norm.std)
    assert len(copy.head.convs) == 3
    assert copy.head.convs[0].conv.K == 3
    assert (copy.head.pooling, copy.head.dropout.p) == ("gem", 0.2)
    assert load(copy.save(tmp_path / "again")).options == json.loads(json.dumps(model.options))
    config = json.loads((directory / CONFIG).read_text())
    assert config["format"] == FORMAT == 2
    assert config["versions"].keys() == {"zoo", "python", "torch", "timm", "torch-geometric"}
    assert (config["versions"]["zoo"], config["versions"]["torch"]) == (zoo.__version__, version("torch"))


def test_couplings_travel_with_what_was_fitted(tmp_path):
    """The graph with its self-loops, which hold the log-odds, and the numbers of the end of training."""
    model = build("coupled-test_efficientnet", "voc2007").eval()
    head = model.head
    head.positives.copy_(torch.arange(20))
    head.strength.fill_(0.7)
    head.temperature.fill_(1.3)
    copy = load(model.save(tmp_path)).eval()
    images, known = torch.randn(2, 3, 64, 64), torch.full((2, 20), -1)
    known[:, 2] = 1
    assert torch.equal(copy(images, known), model(images, known))
    assert copy.head.state_dict().keys() == head.state_dict().keys()
    assert copy.recipe == model.recipe == label_space("voc2007", edges="couplings").recipe
    alone = build("coupled-test_efficientnet", ["dog", "cat"]).eval()
    assert torch.equal(load(alone.save(tmp_path / "alone")).eval()(images), alone(images))


def test_saving_replaces_what_was_there(model, tmp_path):
    model.save(tmp_path)
    perturb(model)
    model.save(str(tmp_path))
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(load(str(tmp_path)).eval()(images), model(images))


def test_saves_channels_last(model, tmp_path):
    model.to(memory_format=torch.channels_last)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(load(model.save(tmp_path)).eval()(images), model(images), atol=1e-5, rtol=1e-4)


def test_notes_that_are_no_json(model, tmp_path):
    model.notes["scores"] = torch.zeros(2)
    with pytest.raises(InputError, match=r"options and notes must be JSON: .*Tensor"):
        model.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_a_file_is_missing(file, model, tmp_path):
    model.save(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=rf"no saved model there \({file} is missing\)"):
        load(tmp_path)


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere: no saved model there"):
        load(tmp_path / "nowhere")


def test_weights_of_another_model(model, colour_graph, tmp_path):
    model.save(tmp_path / "a")
    build("mlgcn-test_efficientnet", colour_graph, widths=(8,)).save(tmp_path / "b")
    build("linear-test_vit", colour_graph).save(tmp_path / "c")
    (tmp_path / "a" / WEIGHTS).write_bytes((tmp_path / "b" / WEIGHTS).read_bytes())
    with pytest.raises(
        InputError,
        match=r"weights of another model.*convs\.0\.conv\.lin\.weight is \(8, 300\) instead of \(16, 300\)",
    ):
        load(tmp_path / "a")
    (tmp_path / "a" / WEIGHTS).write_bytes((tmp_path / "c" / WEIGHTS).read_bytes())
    with pytest.raises(InputError):
        load(tmp_path / "a")
    (tmp_path / "c" / WEIGHTS).write_bytes((tmp_path / "b" / WEIGHTS).read_bytes())
    with pytest.raises(
        InputError, match=r"model\.safetensors: these are the weights of another model: \d+ missing"
    ):
        load(tmp_path / "c")


def test_plain_labels_load_again(tmp_path):
    model = build("mlp-test_efficientnet", ["Ωμέγα", 'a "b"', "c, d"], widths=(8,))
    assert load(model.save(tmp_path)).label_names == ["Ωμέγα", 'a "b"', "c, d"]
    assert unlinked_labels(model.label_names).x is None


def test_thresholds_travel_by_label(model, tmp_path):
    model.thresholds = {"green": 0.3, "blue": 0.7}
    limits = model.thresholds
    config = json.loads((model.save(tmp_path) / CONFIG).read_text())
    assert config["thresholds"] == dict(zip(COLOURS, limits.tolist(), strict=True))
    config["thresholds"] = dict(reversed(config["thresholds"].items()))  # names count, not their order
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert torch.equal(load(tmp_path).thresholds, limits)
    model.thresholds = None
    assert load(model.save(tmp_path)).thresholds is None


def test_a_model_in_half_precision_loads_in_single(colour_graph, tmp_path):
    """Also what the head makes of the label graph, which is among the weights."""
    model = build("mlgcn-test_efficientnet", colour_graph, conv="GATConv", widths=(16,)).eval()
    model.head.standardize(torch.zeros(256), torch.ones(256), torch.zeros(3))
    images = torch.randn(1, 3, 32, 32)
    expected = model(images)
    copy = load(model.half().save(tmp_path)).eval()
    assert {tensor.dtype for tensor in copy.state_dict().values() if tensor.is_floating_point()} == {
        torch.float32
    }
    torch.testing.assert_close(copy(images), expected, atol=0.01, rtol=0.01)


def test_numbers_that_json_does_not_have(model, tmp_path):
    model.notes = {"test": {"mAP": 0.5, "AP": [math.nan, 1.0, math.inf]}}
    text = (model.save(tmp_path) / CONFIG).read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert load(tmp_path).notes == {"test": {"mAP": 0.5, "AP": [None, 1.0, None]}}
    # Format 1 wrote them into its notes, and is read for ever.
    config = json.loads(text)
    del config["thresholds"]
    config |= {"format": 1, "notes": {"mAP": math.nan}}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert math.isnan(load(tmp_path).notes["mAP"])


# --- what is refused -----------------------------------------------------------------------------------------


def refused(directory: Path, file: str) -> str:
    """What the error says after it has named the file."""
    with pytest.raises(InputError) as caught:
        load(directory)
    start = f"{directory / file}: "
    assert str(caught.value).startswith(start), caught.value
    return str(caught.value).removeprefix(start)


def edit_config(directory: Path, **changes: object) -> None:
    config = json.loads((directory / CONFIG).read_text()) | changes
    config = {key: value for key, value in config.items() if value != "delete"}
    (directory / CONFIG).write_text(json.dumps(config))


def edit_weights(directory: Path, **changes: Tensor) -> None:
    tensors = safetensors.torch.load_file(directory / WEIGHTS)
    safetensors.torch.save_file(
        tensors | {f"head.{key}": value for key, value in changes.items()}, directory / WEIGHTS
    )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    model = build(
        "mlgcn-test_efficientnet", unlinked_labels(COLOURS, torch.eye(3)), img_size=32, widths=(16,)
    )
    model.thresholds = 0.4
    return model.save(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def saved(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "model"))


KEYS = ("name", "options", "label_names", "thresholds", "recipe", "img_size", "input", "notes", "versions")


@pytest.mark.parametrize("key", KEYS)
def test_keys_that_are_missing_or_of_another_type(key, saved):
    whole = (saved / CONFIG).read_text()
    edit_config(saved, **{key: "delete"})
    assert refused(saved, CONFIG) == f"the saved model is damaged ({key} missing)"
    for wrong in (3, True, 2.5, "text", [], {}, None, [[3]], ["a", 3], {"a": 3}, {"a": None}):
        kind = type(json.loads(whole)[key])
        # An empty list or object, or another object, may be right.
        if isinstance(wrong, kind) or (wrong is None and key in ("img_size", "thresholds")):
            continue
        (saved / CONFIG).write_text(whole)
        edit_config(saved, **{key: wrong})
        assert f"{key!r} must be" in refused(saved, CONFIG) or key == "name"
    (saved / CONFIG).write_text(whole)
    load(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 0}, "format 0; this version, .* reads 1 and 2$"),
        ({"format": None}, "format None; this version, .* reads 1 and 2$"),
        ({"format": "2"}, "format '2'; this version"),
        ({"format": True}, "format True; this version"),
        ({"format": 3, "versions": {"zoo": "9.1.0"}}, "format 3, written by version 9.1.0 .*: upgrade with"),
        ({"format": 3, "versions": "x"}, "format 3, written by version unknown of this package"),
        ({"name": "mlgcn-../../../etc/passwd"}, "unknown pretrained tag|unknown backbone|no pretrained tags"),
        ({"name": "../evil-test_efficientnet"}, "unknown head '../evil'"),
        ({"name": "mlgcn-hf-hub:someone/model"}, "unknown backbone 'hf-hub:someone/model'"),
        ({"name": "mlgcn-test_efficientne"}, "unknown backbone 'test_efficientne'. Did you mean test_efficientnet"),
        ({"name": "mlgcn"}, "a model's name is"),
        ({"label_names": ["red", "green", 3]}, "label names must be strings that are not empty, not 3"),
        ({"label_names": ["red", "green", "red"]}, "label names must be unique; more than once: red"),
        ({"label_names": []}, "there is no label"),
        ({"img_size": [10**9, 10**9]}, "'img_size' must be null or"),
        ({"img_size": [32, True]}, "'img_size' must be null or"),
        ({"thresholds": {"red": 0.5, "green": 0.5}}, "'thresholds' must name every label"),
        ({"thresholds": {"red": 0.5, "green": 0.5, "blau": 0.5}}, "'thresholds' must name every label"),
        ({"thresholds": {"red": 0.5, "green": 0.5, "blue": 1.5}}, "the threshold of 'blue' must lie in 0..1, not 1.5"),
        ({"thresholds": {"red": 0.5, "green": 0.5, "blue": "1"}}, "thresholds must be numbers in 0..1"),
        ({"options": {"pretrained": True}}, "unknown option of head 'mlgcn' 'pretrained'"),
        ({"options": {"backbone": "x", "graph": 3}}, "unknown option of head 'mlgcn' 'backbone'"),
        ({"options": {"conv": "os.system"}}, "unknown conv.* 'os.system'"),
        ({"options": {"widths": [10**7]}}, "a larger model than the file of weights holds"),
        ({"options": {"widths": [20000] * 100}}, "a larger model than the file of weights holds"),
        ({"options": {"widths": [10**12]}}, "the saved model is damaged"),
        ({"options": {"widths": [-1]}}, "the saved model is damaged"),
        ({"options": {"widths": "abc"}}, "the saved model is damaged"),
        ({"options": {"dropout": "much"}}, "the saved model is damaged"),
        ({"notes": {"mAP": math.nan}}, "'notes' holds NaN or infinity"),
        ({"recipe": {"p": [math.inf]}}, "'recipe' holds NaN or infinity"),
    ],
)  # fmt: skip
def test_configs_that_are_wrong(changes, message, saved):
    edit_config(saved, **changes)
    with pytest.raises(InputError, match=message):
        load(saved)
    refused(saved, CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": [3, 10**6, 10**6]}, "input: 'input_size' must be"),
        ({"input_size": [1, 32, 32]}, "input: 'input_size' must be"),
        ({"mean": [0.5, "0.5", 0.5]}, "input: 'mean' must be three numbers"),
        ({"mean": [0.5]}, "input: 'mean' must be three numbers"),
        ({"std": [0.5, 0, 0.5]}, "input: 'std' must be three numbers above 0"),
        ({"std": [0.5, math.nan, 0.5]}, "'input' holds NaN or infinity"),
        ({"crop_pct": "1"}, "input: 'crop_pct' must be a number above 0"),
        ({"crop_mode": 1}, "input: 'crop_mode' must be text"),
        ({"interpolation": "magic"}, "the saved model is damaged .KeyError"),
        ({"auto_augment": "rand"}, "input: unknown 'auto_augment'. Known: input_size"),
    ],
)
def test_inputs_that_are_wrong(changes, message, saved):
    config = json.loads((saved / CONFIG).read_text())
    edit_config(saved, input=config["input"] | changes)
    with pytest.raises(InputError, match=message):
        load(saved)
    refused(saved, CONFIG)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[:-20], "the saved model is damaged"),
        (lambda text: "", "the saved model is damaged"),
        (lambda text: "\x00\x01", "the saved model is damaged"),
        (lambda text: "[]", "format 'list'"),
        (lambda text: "[" * 100_000, "the saved model is damaged"),
        (lambda text: text.replace('"mAP": 0', '"mAP": 1e999'), "'notes' holds NaN or infinity"),
        (lambda text: '{"name": "linear-resnet18",' + text[1:], "'name' is there twice"),
        (lambda text: text.replace('"mAP": 0', '"mAP": 0, "mAP": 1'), "'mAP' is there twice"),
    ],
)
def test_configs_that_are_damaged(edit: Callable[[str], str], message, model, tmp_path):
    model.notes["mAP"] = 0
    path = model.save(tmp_path) / CONFIG
    path.write_text(edit(path.read_text()))
    assert message in refused(tmp_path, CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_index": torch.tensor([[0, 1, 3], [0, 1, 3]])}, "not a label graph: "),
        ({"edge_index": torch.tensor([[0, 1, 2**40], [0, 1, 2]])}, "not a label graph: "),
        ({"edge_index": torch.zeros(2, 3)}, "not a label graph: edge_index must be an int64 tensor"),
        ({"edge_weight": torch.full((3,), math.nan)}, "not a label graph: edge_weight holds values that"),
        ({"x": torch.zeros(7, 300)}, r"not a label graph: x must be a finite float tensor \(3, E\), not \(7, 300\)"),
        ({"norm.mean": torch.zeros(5), "norm.std": torch.ones(5), "offset": torch.zeros(3)},
         r"head.norm.mean is of shape \(5,\) instead of \(256,\)"),
        ({"more": torch.zeros(5)}, r"these are the weights of another model: 1 unexpected \(head.more\)"),
    ],
)  # fmt: skip
def test_weights_that_are_wrong(changes, message, saved):
    edit_weights(saved, **changes)
    with pytest.raises(InputError, match=message):
        load(saved)
    refused(saved, WEIGHTS)


def test_weights_that_are_damaged(saved):
    whole = (saved / WEIGHTS).read_bytes()
    for content in (whole[:100], whole[:-4], b"", b"\xff" * 1000):
        (saved / WEIGHTS).write_bytes(content)
        assert "the saved model is damaged" in refused(saved, WEIGHTS)


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_pickles_are_not_run(file, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Bomb()), pickle.dumps(Bomb(), protocol=0)):
        (saved / file).write_bytes(content)
        assert "the saved model is damaged" in refused(saved, file)
    torch.save({"state_dict": Bomb()}, saved / file)
    assert "the saved model is damaged" in refused(saved, file)
    assert not Path("exploded").exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert Path("exploded").exists(), "a bomb that does not explode proves nothing"
