"""Python files of the user's own: run once, and what is wrong in them is named by its line."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from zoo.convs import CONVS, build_conv
from zoo.lookup import InputError
from zoo.user_modules import import_module_file


@pytest.fixture
def user_file(tmp_path):
    yield tmp_path / "own_convs.py"
    sys.modules.pop("zoo_import_own_convs", None)


def test_it_runs_once(user_file, tmp_path, monkeypatch):
    user_file.write_text(
        "import torch_geometric.nn as pyg\n"
        "from zoo.convs import CONVS, ConvSpec\n"
        "CONVS['own'] = ConvSpec(lambda i, o: pyg.GraphConv(i, o, aggr='mean'))\n"
    )
    monkeypatch.setitem(CONVS, "own", None)  # takes it out again afterwards
    module = import_module_file(str(user_file))
    edges = torch.tensor([[0, 0, 1], [0, 1, 1]])
    assert build_conv("own", 6, 8)(torch.randn(2, 6), edges, torch.ones(3)).shape == (2, 8)
    CONVS["own"] = None
    monkeypatch.chdir(tmp_path)
    assert import_module_file(user_file.name) is module
    assert CONVS["own"] is None


def test_two_files_of_one_name_are_two_modules(user_file, tmp_path):
    user_file.write_text("name = 'one'\n")
    other = tmp_path / "elsewhere" / user_file.name
    other.parent.mkdir()
    other.write_text("name = 'another'\n")
    assert [import_module_file(path).name for path in (user_file, other, user_file)] == [
        "one",
        "another",
        "one",
    ]


def test_dataclasses_find_their_module(user_file):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass A:\n    x: int\n"
    user_file.write_text(text)
    assert import_module_file(user_file).A(3).x == 3


def test_a_file_of_an_installed_name_hides_nothing(tmp_path):
    (tmp_path / "zoo.py").write_text("HERE = True\n")
    try:
        assert import_module_file(tmp_path / "zoo.py").HERE
        assert not hasattr(sys.modules["zoo"], "HERE")
    finally:
        del sys.modules["zoo_import_zoo"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n\nx / 0\n", "own_convs.py, line 3: ZeroDivisionError: division by zero"),
        ("x = 1\ndef f(:\n", "own_convs.py, line 2: SyntaxError"),
        (
            "def f():\n    import nothing_of_that_name\n\nf()\n",
            "own_convs.py, line 2: ModuleNotFoundError: No module",
        ),
        ("import sys\nsys.exit(3)\n", "own_convs.py, line 2: SystemExit: 3"),
        ("import json\njson.loads('{')\n", "own_convs.py, line 2: JSONDecodeError"),
        ("x = '\0'\n", "own_convs.py: SyntaxError: source code string cannot contain null bytes"),
    ],
)
def test_an_error_names_the_line(user_file, text, message):
    user_file.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        import_module_file(user_file)
    assert "zoo_import_own_convs" not in sys.modules


def test_what_is_no_python_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot import .*nowhere\.py: expected a Python file"):
        import_module_file(tmp_path / "nowhere.py")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"notes\.txt: expected a Python file \(\.py\)"):
        import_module_file(tmp_path / "notes.txt")
