"""No module opens a file in a way that lets the file run code. Crafted files are tested with what reads them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo

# An unpickler of arrays of numbers, which refuses every other global; see tests/test_graph_files.py.
UNPICKLER = "graph_files.py"
PICKLES = ("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
RUN = {
    "eval",
    "exec",
    "torch.jit.load",
    "torch.hub.load",
    "torch.package.PackageImporter",
    "pandas.read_pickle",
}


def unsafe_reads(tree: ast.AST) -> Iterator[str]:
    """What in a module hands the content of a file to something that runs it: ``line: what``."""
    full = {}  # the name in this module -> what it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {
                a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            full |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call | ast.Attribute | ast.Name):
            continue
        name = ast.unparse(node.func if isinstance(node, ast.Call) else node)
        root, dot, rest = name.partition(".")
        name = full.get(root, root) + dot + rest
        if isinstance(node, ast.Call):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if (
                (name == "torch.load" and given.get("weights_only") != "True")
                or (name.startswith("numpy.") and given.get("allow_pickle", "False") != "False")
                or (name.startswith("yaml.") and "load" in name and not name.startswith("yaml.safe_load"))
                or name in RUN
            ):
                yield f"{node.lineno}: {name}"
        elif name.partition(".")[0] in PICKLES and name != "pickle.Unpickler" and "." in name:
            yield f"{node.lineno}: {name}"


MODULES = sorted(Path(zoo.__file__).parent.rglob("*.py"))


def test_the_package_reads_no_file_that_runs_code():
    found = {path.name: [*unsafe_reads(ast.parse(path.read_text(encoding="utf-8")))] for path in MODULES}
    assert {name: reads for name, reads in found.items() if reads} == {}


def test_one_module_alone_unpickles():
    users = [path.name for path in MODULES if "pickle.Unpickler" in path.read_text(encoding="utf-8")]
    assert users == [UNPICKLER]


@pytest.mark.parametrize(
    "text",
    [
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "from torch import load as read; read(path)",
        "import torch as t; t.load(path, weights_only=trusted)",
        "import torch.jit; torch.jit.load(path)",
        "import pickle; pickle.load(file)",
        "from pickle import loads; loads(content)",
        "import pickle; read = pickle.loads",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import yaml; yaml.load(text)",
        "import yaml; yaml.load(text, Loader=yaml.SafeLoader); yaml.full_load(text)",
        "eval(text)",
    ],
)
def test_what_runs_code_is_found(text):
    assert [*unsafe_reads(ast.parse(text))]


def test_what_runs_none_is_not():
    text = "import torch, numpy as np, yaml; torch.load(p, weights_only=True); np.load(p); yaml.safe_load(t); m.eval()"
    assert not [*unsafe_reads(ast.parse(text))]
