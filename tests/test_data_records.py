from __future__ import annotations

import json

import pytest

from zoo.data.problems import Problems
from zoo.data.records import CELLS, MISSING, ROWS, read_records
from zoo.lookup import InputError


def read(path, text, problems=None):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    batches = list(read_records(path, problems or Problems()))
    columns = {
        name: [value for b in batches for value in b.columns.get(name, ())] for name in batches[-1].columns
    }
    places = [batch.where(row) for batch in batches for row in range(len(batch.numbers))]
    return columns, places, batches


@pytest.mark.parametrize(
    ("name", "text", "unit"),
    [
        ("a.csv", "x,y\n1,a\n2,b\n", "line"),
        ("a.csv", "x;y\n1;a\n2;b\n", "line"),
        ("a.csv", "x\ty\n1\ta\n2\tb\n", "line"),
        ("a.TSV", "x\ty\n1\ta\n2\tb\n", "line"),
        ("a.tab", "x\ty\n1\ta\n2\tb", "line"),
        ("a.json", '\n [ {"x": "1", "y": "a"} ,{"y": "b", "x": "2"}]\n', "record"),
        ("a.jsonl", '{"x": "1", "y": "a"}\n{"x": "2", "y": "b"}', "line"),
        ("a.ndjson", '\ufeff{"x": "1", "y": "a"}\n{"x": "2", "y": "b"}\n', "line"),
    ],
)
def test_formats(tmp_path, name, text, unit):
    columns, places, batches = read(tmp_path / name, text)
    assert columns == {"x": ["1", "2"], "y": ["a", "b"]}
    first = 1 if "json" in name else 2  # after a header
    assert places == [f"{name} {unit} {first}", f"{name} {unit} {first + 1}"]
    assert batches[-1].done == pytest.approx(1, abs=0.1)


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow.parquet import write_table

    table = pa.table({"x": range(5000), "y": [["a"], []] * 2500, "z": [None, float("nan")] * 2500})
    write_table(table, tmp_path / "a.parquet", row_group_size=4500)
    batches = list(read_records(tmp_path / "a.parquet", Problems()))
    assert [value for batch in batches for value in batch.columns["x"]] == list(range(5000))
    assert batches[1].columns["y"][:2] == [["a"], []]
    assert batches[-1].where(len(batches[-1].numbers) - 1) == "a.parquet row 5000"
    assert batches[-1].done == 1
    (tmp_path / "b.parquet").write_text("image,labels\n")
    with pytest.raises(InputError, match=r"b\.parquet cannot be read as Parquet: "):
        list(read_records(tmp_path / "b.parquet", Problems()))


def test_numbers_of_lines_across_batches_blank_lines_and_quoted_breaks(tmp_path):
    text = "x,y\n" + "\n" + '1,"a\nb"\n' + "2,c\n" * ROWS
    columns, places, batches = read(tmp_path / "a.csv", text)
    assert len(batches) == 3, "the header, and two of rows"
    assert places[:2] == ["a.csv line 4", "a.csv line 5"]
    assert places[-1] == f"a.csv line {ROWS + 4}"
    assert columns["y"][:2] == ["a\nb", "c"]


def test_a_wide_table_comes_in_batches_of_bounded_size(tmp_path):
    width = CELLS // 4
    rows = [",".join(["1"] * width)] * 10
    _, _, batches = read(tmp_path / "a.csv", "\n".join([",".join(map(str, range(width))), *rows]))
    assert [len(batch.numbers) for batch in batches] == [0, 4, 4, 2]


def test_keys_that_only_some_records_have(tmp_path):
    records = [{"x": 1}] * ROWS + [{"y": None}]
    _, _, batches = read(tmp_path / "a.json", json.dumps(records))
    assert list(batches[0].columns) == ["x"]
    assert batches[1].columns == {"x": [MISSING], "y": [None]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '[\n{"x": 1},\n{"x" 2}]', r"a\.json line 3 column 6: Expecting ':' delimiter"),
        ("a.json", '[{"x": 1}\n {"x": 2}]', r"a\.json line 2 column 2: Expecting ',' or '\]'"),
        ("a.json", '[{"x": 1}, ]', r"a\.json line 1 column 12: Expecting value"),
        ("a.json", '[{"x": 1}', r"a\.json line 1 column 10: Expecting ',' or '\]'"),
        ("a.json", '[{"x": 1}]\n\n]', r"a\.json line 3 column 1: Extra data"),
        ("a.json", '{"a.jpg": ["dog"]', r"a\.json line 1 column 18: Expecting ',' delimiter"),
        ("a.json", "", r"a\.json line 1 column 1: Expecting value"),
        ("a.json", "3", r"a\.json: expected a list of records"),
        ("a.json", '{"a.jpg": {"labels": []}}', r"a\.json: expected a list of records.*'a\.jpg' has no list"),
        ("a.json", '{"a.jpg": ["dog"], "a.jpg": []}', r"a\.json: more than once in one object: 'a\.jpg'"),
        ("a.json", '[{}, {"x": 1, "x": 2}]', r"a\.json record 2: more than once in one object: 'x'"),
        ("a.json", '{"samples": [], "labels": []}', r"samples_json:root=.*:train=a\.json"),
        ("a.json", '[{"": 1}]', "column 1 has no name"),
        ("a.json", '[{"größe": 1}]'.encode("latin-1"), r"a\.json is not UTF-8 .*save it as JSON UTF-8"),
        ("a.csv", "x,x\n", "more than one column named 'x'"),
        ("a.txt", "x,y\n", r"unknown format of label files '\.txt'.*Known: \.csv"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path / name, text)


def test_rows_that_cannot_be_read_are_problems(tmp_path):
    problems = Problems()
    columns, places, _ = read(tmp_path / "a.csv", "x,y\n1\n2,b\n1,2,3\n", problems)
    assert (columns, places) == ({"x": ["2"], "y": ["b"]}, ["a.csv line 3"])
    text = '{"x": 1}\n{"x" 1}\n[1]\n\n{"x": 1, "x": 1}\n{"x": 2}\n'
    columns, places, _ = read(tmp_path / "a.jsonl", text, problems)
    assert (columns, places) == ({"x": [1, 2]}, ["a.jsonl line 1", "a.jsonl line 6"])
    read(tmp_path / "a.json", '[{"x": 1}, null]', problems)
    with pytest.raises(InputError) as error:
        problems.raise_any("a")
    for line in (
        "2 row(s) without the header's 2 columns: a.csv line 2 has 1; a.csv line 4 has 3",
        "1 line(s) that are not JSON: a.jsonl line 2 column 6: Expecting ':' delimiter",
        "2 record(s) that are no objects, {...}: [1] (a.jsonl line 3); null (a.json record 2)",
        "1 record(s) that contradict themselves: a.jsonl line 5: more than once in one object: 'x'",
    ):
        assert line in str(error.value)
