"""What the outside sees: every name resolves, and nothing heavy is imported before it is asked for."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import zoo


def test_every_name_resolves():
    for name in zoo.__all__:
        assert getattr(zoo, name) is not None, name
    namespace: dict[str, object] = {}
    exec("from zoo import *", namespace)
    assert set(zoo.__all__) <= set(namespace)


def test_the_three_lists_of_names_agree():
    """What type checkers see, what is imported on demand, and what is public."""
    tree = ast.parse(Path(zoo.__file__).read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.name: statement.module.removeprefix("zoo.")
        for statement in checked.body
        for alias in statement.names
    }
    assert homes == zoo._HOME
    assert sorted({*homes, "__version__"}) == sorted(zoo.__all__)
    assert len(set(zoo.__all__)) == len(zoo.__all__)


def test_names_are_the_ones_of_their_modules():
    for name, home in zoo._HOME.items():
        assert getattr(zoo, name) is getattr(importlib.import_module(f"zoo.{home}"), name)


def test_no_module_bears_the_name_of_a_function():
    modules = {path.stem for path in Path(zoo.__file__).parent.iterdir() if path.stem != "__init__"}
    assert not modules & set(zoo.__all__)


def test_dir_and_unknown_names():
    assert dir(zoo) == sorted(zoo.__all__)
    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'biuld'"):
        _ = zoo.biuld


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_is_light():
    heavy = "('torch', 'timm', 'torch_geometric', 'lightning', 'numpy', 'scipy', 'PIL')"
    assert (
        run(f"import sys, zoo; dir(zoo), zoo.__version__; print([m for m in {heavy} if m in sys.modules])")
        == "[]"
    )


def test_rooms_are_there_after_a_bare_import():
    """Asked for as Python does where no import has put the module there yet."""
    for room in (
        "convs",
        "data",
        "embeddings",
        "graph",
        "heads",
        "label_spaces",
        "losses",
        "metrics",
        "model",
    ):
        assert zoo.__getattr__(room) is importlib.import_module(f"zoo.{room}")
