"""Every YAML under configs/ and zoo/recipes/ is a run that can start, and its header says whose it is.

Models are built for images of their own size, by shapes alone; on photos of 64 pixels they then make one real training
step. Giants make it at their own size, but on the meta device, without numbers.
"""

from __future__ import annotations

import functools
import re
import shlex
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.nn import functional as F

from zoo import cli
from zoo.augment import build_augmentation
from zoo.backbones import Backbone
from zoo.comparison import Protocol
from zoo.data import open_dataset
from zoo.entry import Entry
from zoo.graph import label_graph, unlinked_labels
from zoo.heads import graph_edges, uses_graph
from zoo.heads.cma import VECTORS
from zoo.lookup import InputError
from zoo.losses import build_loss
from zoo.model import MultiLabelClassifier, assemble
from zoo.recipe import Recipe, build_optimizer, build_schedule

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
RUNS = [config for config in CONFIGS if config.parent.name != "openmoji"] + [
    ROOT / "configs/openmoji/mlgcn-tf_efficientnet_lite0.yaml"
]
RECIPES = sorted(cli.RECIPES.glob("*.yaml"))
# Data set -> its labels, and the dimensions of the GloVe vectors that there are of all of them.
LABELS = {
    "coco2014": (80, 300),
    "nuswide": (81, 50),
    "nuswide27": (27, 50),
    "openimages": (9605, 50),
    "openmoji": (96, 50),
    "vg500": (500, 50),
    "voc2007": (20, 300),
}
GIANT = 80_000_000  # parameters
SMALL = 64  # pixels
METRIC = r"(?:mAP|[CO](?:P|R|F1)|(?:macro|micro|samples) F1) \d\d(?:\.\d)?"
EXPECTED = rf"^# expected: (?:{METRIC}(?:, {METRIC})* \(.+\)|nothing published; .+)$"


def name_of(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def called_with(*arguments: str) -> dict[str, Any]:
    """What the command line calls a command's function with."""
    given: dict[str, Any] = {}
    command = arguments[0]
    with pytest.MonkeyPatch.context() as patch:
        instead = functools.wraps(cli.COMMANDS[command])(lambda **options: given.update(options))
        patch.setitem(cli.COMMANDS, command, instead)
        assert cli.main(arguments) == 0
    return given


@functools.cache
def options_of(file: Path) -> dict[str, Any]:
    """Those of the command in a file's header, run from the root of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return called_with(*command_of(file))


def command_of(file: Path) -> list[str]:
    command = re.search(r"^#   zoo (.+)$", file.read_text(), flags=re.MULTILINE)
    assert command, f"{file}: the header names the command"
    return shlex.split(command[1])


@pytest.mark.parametrize("file", [*CONFIGS, *RECIPES], ids=name_of)
def test_what_a_file_says_is_what_the_command_gets(file):
    text = file.read_text()
    content, options = yaml.safe_load(text), options_of(file)
    for group in ("recipe", "runtime", "protocol"):
        if group in options:
            options = options | asdict(options[group])
    assert {key: options[key] for key in content} == content
    assert len(re.findall(r"^\w+:", text, flags=re.MULTILINE)) == len(content), "an option stands there twice"


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_the_header_of_a_config_says_whose_it_is(config):
    header, _, _ = config.read_text().partition("\ndata:")
    command, flag, path = command_of(config)
    assert flag == "--config"
    assert ROOT / path == config
    assert command == ("compare" if config.stem == "compare" else "train")
    assert re.search(r"https://(arxiv\.org/abs/\d|learnopencv\.com|openmoji\.org)", header), "a citation"
    expected = re.search(EXPECTED, header, flags=re.MULTILINE)
    assert expected, "one line of what is expected, in the one form"
    assert ("nothing published" in expected[0]) != ("has not measured it." in header)


@pytest.mark.parametrize("config", RUNS, ids=name_of)
def test_a_config_is_named_after_its_model(config):
    options = options_of(config)
    entry = Entry.parse(options["model"])
    model, suffix = config.stem[: len(entry.model)], config.stem[len(entry.model) :]
    assert model == entry.model
    # Two settings of one model differ by what stands behind its name: the size, or an option's value.
    assert suffix in ("", *(f"-{value}" for value in (options["img_size"], *entry.options.values())))
    assert config.parent.name == options["data"].partition(":")[0]


@pytest.mark.parametrize("config", [c for c in RUNS if c.parent.name != "openmoji"], ids=name_of)
def test_its_data_set_has_its_options(config, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match=f"{tmp_path}/\\S+ does not exist; it must hold"):
        open_dataset(options_of(config)["data"])


@functools.cache
def backbone(name: str, img_size: int | None, device: str) -> Backbone:
    """One for all configs that share it. No fixed-size network is among them: weights know no size of images."""
    with torch.device(device):
        return Backbone(name, pretrained=False, img_size=img_size)


def build(config: Path, device: str) -> MultiLabelClassifier:
    """The model, for labels of which random targets tell."""
    options = options_of(config)
    entry = Entry.parse(options["model"])
    head, _, timm_name = entry.model.partition("-")
    num_labels, embedding = LABELS[config.parent.name]
    names = [f"label {i}" for i in range(num_labels)]
    labels = unlinked_labels(names)
    if uses_graph(head):
        labels = label_graph(
            np.random.default_rng(0).random((200, num_labels)) < 0.1,
            names,
            edges=options["edges"] or graph_edges(head),
            threshold=options["threshold"],
            p=options["p"],
            embeddings=torch.randn(num_labels, embedding, generator=torch.Generator().manual_seed(0)),
        )
    body = backbone(timm_name, options["img_size"] if device == "meta" else None, device)
    with torch.device(device), pytest.MonkeyPatch.context() as patch:
        # Fitting them to the graph takes ten seconds.
        patch.setitem(VECTORS, "asge", lambda labels, dim: torch.randn(num_labels, dim))
        model = assemble(body, head, labels, **entry.options)
    return model.to(device)


@functools.cache
def meta_maps(name: str, img_size: int | None, levels: int) -> Any:
    """The backbone's feature map, or maps, of two images of its size."""
    body = backbone(name, img_size, "meta").with_levels(levels)
    with torch.no_grad():
        return body(torch.zeros(2, *body.data_config["input_size"], device="meta"))


def photos(config: Path) -> torch.Tensor:
    """Two augmented ones, of the size that the config asks for."""
    options = options_of(config)
    timm_name = Entry.parse(options["model"]).model.partition("-")[2]
    data_config = backbone(timm_name, options["img_size"], "meta").data_config
    augment = build_augmentation(options["recipe"].augment, data_config)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 90, 120, 3), dtype=np.uint8)
    augmented = torch.stack([augment(Image.fromarray(photo)) for photo in pixels])
    assert list(augmented.shape[1:]) == list(data_config["input_size"])
    return augmented


@pytest.mark.parametrize("config", RUNS, ids=name_of)
def test_its_model_makes_a_training_step(config):
    options = options_of(config)
    recipe, num_labels = options["recipe"], LABELS[config.parent.name][0]
    model = build(config, "meta")
    giant = sum(parameter.numel() for parameter in model.parameters()) > GIANT
    if not giant:
        maps = meta_maps(model.backbone.name, options["img_size"], model.backbone.levels)
        assert model.head(maps).shape == (2, num_labels)
        model = build(config, "cpu")
    images = photos(config).to("meta") if giant else F.interpolate(photos(config), SMALL)
    targets = torch.zeros(2, num_labels, dtype=torch.int8)
    targets[:, ::3] = 1

    model.train()
    model.backbone.requires_grad_(not options["freeze_backbone"])
    model.head.begin_training(targets)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = {parameter: parameter.detach().clone() for parameter in trained}
    optimizer = build_optimizer(model, recipe)
    if giant:
        for group in optimizer.param_groups:  # fused kernels are for numbers
            group["fused"] = False
    schedule = build_schedule(optimizer, recipe, 1000)
    logits = model(images)
    loss = build_loss(recipe.loss, targets)(logits, targets.to(logits.device)) + model.head.penalty()
    loss.backward()
    optimizer.step()
    schedule.step()

    assert logits.shape == (2, num_labels)
    assert all(parameter.grad is not None for parameter in trained)
    if not giant:
        assert loss.isfinite()
        for part in (model.head,) if options["freeze_backbone"] else (model.head, model.backbone):
            # Not each of them: a residual branch whose last norm starts at zero lets no gradient through at first.
            assert any(parameter.grad.any() for parameter in part.parameters())
            assert any(not torch.equal(parameter, before[parameter]) for parameter in part.parameters())
    model.zero_grad()


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_is_whole_and_found_by_its_name(recipe):
    assert re.search(r"https://\S+", recipe.read_text()), "a source"
    lines = [line for line in recipe.read_text().splitlines() if re.match(r"\w+:", line)]
    command, flag, name, *_ = command_of(recipe)
    assert (command, flag, name) == ("train", "--config", recipe.stem)
    # What the data and the user decide is not in it; of all else, no default is left to change under it.
    left_open = {"resample", "patience", "seed"}
    assert {line.partition(":")[0] for line in lines} == {field.name for field in fields(Recipe)} - left_open


def test_a_misspelt_option_gives_the_nearest(tmp_path, capsys):
    config = tmp_path / "run.yaml"
    good = (ROOT / "configs/voc2007/csra-resnet101.tv_in1k.yaml").read_text()
    config.write_text(good.replace("backbone_lr_ratio:", "backbone_lr_ration:"))
    assert cli.main(["train", "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert str(config) in error
    assert "Did you mean backbone_lr_ratio?" in error


def test_the_demo_is_the_default_comparison():
    options = options_of(ROOT / "configs/openmoji/compare.yaml")
    assert options["protocol"] == Protocol()
    assert (options["controls"], options["pretrained"], options["models"]) == (True, True, None)
