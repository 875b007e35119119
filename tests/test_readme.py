"""The README says what is so: its snippets run, its tables are the results, its names exist."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from small_heads import entry_class

from zoo.cli import COMMANDS, _check_options, _find_recipes, _parser, _spell_out_flags
from zoo.convs import CONVS
from zoo.data import DATASETS
from zoo.edges import EDGES
from zoo.embeddings import EMBEDDINGS, GRAPH_EMBEDDINGS
from zoo.heads import HEADS, uses_graph
from zoo.heads.head import Head
from zoo.losses import LOSSES

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


def test_there_are_six_snippets():
    assert len(SNIPPETS) == 6


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_lines_parse(line):
    name, *rest = shlex.split(line)
    parser, rest = _parser(name, COMMANDS[name]), _find_recipes(rest)
    _check_options(name, parser, rest)
    parser.parse_args(_spell_out_flags(name, parser, rest))


@pytest.mark.parametrize(("title", "entries"), [("Heads", HEADS), ("Losses", LOSSES)])
def test_every_entry_stands_in_its_table_once(title, entries):
    section = README.partition(f"## {title}\n")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", section, flags=re.MULTILINE)) == sorted(entries)


def test_every_data_set_stands_in_its_table_once():
    section = README.partition("## Data sets\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(DATASETS)


@pytest.mark.parametrize(
    "names", [EDGES, EMBEDDINGS, GRAPH_EMBEDDINGS], ids=["edges", "vectors", "vectors of graphs"]
)
def test_kinds_of_edges_and_vectors_are_named(names):
    section = README.partition("## Label graphs\n")[2].partition("\n## ")[0]
    assert {name for name in names if not re.search(rf"`{name}\b", section)} == set()


def test_sources_of_heads_and_losses_are_those_of_their_docstrings():
    tables = README.partition("## Heads\n")[2].partition("## How")[0]
    rows = re.findall(r"^\| `([\w-]+)` \|.*\]\((http\S+)\) \|$", tables, flags=re.MULTILINE)
    assert len(rows) == len(HEADS) + len(LOSSES) - 4  # linear, mlp, coupled and bce have none
    for name, url in rows:
        entry = HEADS.get(name) or LOSSES[name]
        entry = getattr(entry, "func", entry)
        assert url in f"{sys.modules[entry.__module__].__doc__} {entry.__doc__}", name


def test_heads_are_grouped_by_what_they_read_and_whether_they_fold():
    tables = re.findall(r"(?:^\|.*\n)+", README.partition("## Heads\n")[2], re.MULTILINE)
    without, folding, reasoning = tables[:3]
    for name in HEADS:
        head = entry_class(name)
        folds = head.classifiers is not Head.classifiers and head.check_foldable is Head.check_foldable
        group = (folding if folds else reasoning) if uses_graph(name) else without
        assert f"| `{name}` |" in group, name


def test_counts_of_convolutions_and_backbones_are_right():
    import timm

    assert f"any of {len(CONVS)} [PyG]" in README
    checked = (ROOT / "benchmarks" / "results" / "coverage.csv").read_text().count(",ok,")
    assert f"image-models)'s {checked:,} backbones" in README
    assert len(timm.list_models()) >= checked


@pytest.fixture
def readme(benchmark_module):
    return benchmark_module("readme")


def test_tables_are_the_results_on_disk(readme):
    assert readme.rendered(README) == README, "run python benchmarks/readme.py"
    assert README.count("| `linear` | baseline |") >= 2


def test_pictures_are_drawn_from_the_results_on_disk(readme):
    shown = set(re.findall(r"!\[[^]]*\]\(benchmarks/results/(.*?)\)", README))
    assert shown == {*readme.PICTURES}
    for name, (rows_of, _) in readme.PICTURES.items():
        picture = ROOT / "benchmarks" / "results" / name
        assert readme.drawn_from(picture) == readme.digest(rows_of()), "run python benchmarks/readme.py"


def test_a_picture_is_drawn_again_where_its_rows_changed(readme, tmp_path, monkeypatch):
    readme.draw(tmp_path)
    first = {name: (tmp_path / name).read_bytes() for name in readme.PICTURES}
    changed = [row | {"gain_over_baseline": "0.3"} for row in readme.PICTURES["overview.png"][0]()]
    monkeypatch.setitem(
        readme.PICTURES, "overview.png", (lambda: changed, readme.PICTURES["overview.png"][1])
    )
    readme.draw(tmp_path)
    second = {name: (tmp_path / name).read_bytes() for name in readme.PICTURES}
    assert {name for name in first if first[name] != second[name]} == {"overview.png"}


def test_files_that_it_links_to_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
