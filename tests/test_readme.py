"""The README says what is so: its snippets run, its tables are the results, its names exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from zoo.cli import COMMANDS, _check_options, _parser
from zoo.convs import CONVS
from zoo.heads import HEADS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMAND_LINES = re.findall(r"^zoo (.+?)(?: +#.*)?$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[str(i) for i in range(len(SNIPPETS))])
def test_snippets_run(snippet, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    known = {**CONVS}
    try:
        exec(compile(snippet, "README.md", "exec"), {"__name__": "readme"})
    finally:  # what a snippet adds goes again
        CONVS.clear()
        CONVS.update(known)
    if "check_conv" in snippet:
        assert "every check passed" in capsys.readouterr().out


def test_there_are_five_snippets():
    assert len(SNIPPETS) == 5


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_lines_parse(line):
    name, *rest = shlex.split(line)
    parser = _parser(name, COMMANDS[name])
    _check_options(name, parser, rest)
    parser.parse_args(rest)


def test_every_head_stands_in_the_table():
    assert set(re.findall(r"^\| `(\w+)` \|", README.partition("## Heads")[2], flags=re.MULTILINE)) == set(
        HEADS
    )


def test_counts_of_convolutions_and_backbones_are_right():
    import timm

    assert f"any of {len(CONVS)} [PyG]" in README
    checked = (ROOT / "benchmarks" / "results" / "coverage.csv").read_text().count(",ok,")
    assert f"image-models)'s {checked:,} backbones" in README
    assert len(timm.list_models()) >= checked


def test_tables_are_the_results_on_disk():
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "benchmarks" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.rendered(README) == README, "run python benchmarks/readme.py"
    assert README.count("| `linear` | baseline |") >= 2


def test_files_that_it_links_to_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
