"""Every YAML under configs/ is a run that can start: options exist, models build, headers have the command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

import zoo
from zoo.cli import COMMANDS, _check_options, _parser
from zoo.comparison import Protocol
from zoo.data import DATASETS
from zoo.entry import Entry

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def parsed(config: Path):
    """The command in the header, and the options as the command line reads them."""
    command = re.search(r"^#\s+zoo (.+)$", config.read_text(), flags=re.MULTILINE)
    assert command, f"{config}: the header names the command"
    name, *rest = shlex.split(command[1])
    assert (ROOT / rest[-1]).samefile(config)
    parser = _parser(name, COMMANDS[name])
    rest[-1] = str(config)
    _check_options(name, parser, rest)
    return name, parser.parse_args(rest)


@pytest.mark.parametrize("config", CONFIGS, ids=[c.stem for c in CONFIGS])
def test_config_is_a_run_that_can_start(config):
    name, options = parsed(config)
    # Most data sets are not on every disk, but all are in the table.
    assert options.data.partition(":")[0] in DATASETS
    if name == "train":
        assert config.stem == Entry.parse(options.model).model
        with torch.device("meta"):
            entry = Entry.parse(options.model)
            model = zoo.build(entry.model, labels="voc2007", **entry.options)
        assert model.name == config.stem


def test_the_demo_is_the_default_comparison():
    _, options = parsed(ROOT / "configs" / "openmoji" / "compare.yaml")
    defaults = Protocol()
    for key in (
        "trials",
        "seeds",
        "epochs",
        "batch_size",
        "loss",
        "freeze_backbone",
        "threshold",
        "p",
        "embeddings",
    ):
        assert options[key] == getattr(defaults, key), key
