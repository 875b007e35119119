"""Files of records (CSV, TSV, JSON, JSON Lines, Parquet) read as one thing: columns, some thousand rows at a time.

file --its suffix--> reader --> Batch(columns, numbers of the rows), Batch, ...
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from zoo.data.dataset import shorten
from zoo.data.problems import Problems
from zoo.lookup import InputError, lookup

# At most, of a batch: all that is held of a file at once, but for JSON's text. So few rows, since Python looks through
# everything for garbage whenever some thousand lists are alive, which took most of the time of a million rows.
ROWS, CELLS = 256, 2**20
BLANKS = re.compile(r"[ \t\n\r]*")


class _Missing:
    def __repr__(self) -> str:
        return "missing"


MISSING = _Missing()  # the value of a key that other records have, and this one not: less than null


@dataclass(frozen=True)
class Batch:
    """Some rows of a file, column by column.

    Attributes:
        file: where they stand.
        unit: what is counted there: ``line``, ``record`` or ``row``.
        numbers: that of each row, from 1.
        columns: name to as many values as there are rows: text in CSV and TSV, elsewhere whatever was written.
        done: how much of the file has been read, from 0 to 1.
    """

    file: Path
    unit: str
    numbers: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    done: float

    def where(self, row: int) -> str:
        """Names a row, for messages: ``labels.csv line 5``."""
        return f"{self.file.name} {self.unit} {self.numbers[row]}"


def read_records(file: Path, problems: Problems) -> Iterator[Batch]:
    """Reads a file by its suffix, one of :data:`FORMATS`.

    The first batch of a table (CSV, TSV, Parquet) has no rows: it names the columns.

    Args:
        file: text in UTF-8, or Parquet.
        problems: gets the rows that cannot be read, which are left out.

    Raises:
        InputError: the file as a whole cannot be read: another encoding, wrong syntax, a column without a name.
    """
    read = lookup("format of label files", file.suffix.lower(), FORMATS)
    try:
        yield from read(file, problems)
    except UnicodeDecodeError as error:
        format = file.suffix[1:].upper()
        raise InputError(f"{file} is not UTF-8 ({error.reason}): save it as {format} UTF-8") from None


def _read_csv(file: Path, problems: Problems) -> Iterator[Batch]:
    with _open_text(file) as (stream, done):
        first = stream.readline()
        reader = csv.reader(chain([first], stream), delimiter=_delimiter(file, first))
        try:
            names = [name.strip() for name in next(reader, [])]
            if not names:
                raise InputError(f"{file} is empty; its first line must name the columns")
            _check_names(file, names)
            yield Batch(file, "line", (), dict.fromkeys(names, ()), 0.0)
            filled = filter(None, reader)
            while chunk := [(reader.line_num, row) for row in islice(filled, _rows(len(names)))]:
                if whole := _whole_rows(file, chunk, len(names), problems):
                    lines, rows = zip(*whole, strict=True)
                    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
                    yield Batch(file, "line", lines, columns, done())
        except csv.Error as error:
            raise InputError(f"{file} line {reader.line_num}: {error}") from None


@contextmanager
def _open_text(file: Path) -> Iterator[tuple[TextIO, Callable[[], float]]]:
    """The text, and a function that tells how much of it has been read, from 0 to 1."""
    size = file.stat().st_size
    # Excel starts its files with a byte order mark; csv wants the ends of lines as they are.
    with open(file, "rb") as raw, TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream:
        yield stream, lambda: raw.tell() / size


def _whole_rows(
    file: Path, chunk: list[tuple[int, list[str]]], width: int, problems: Problems
) -> list[tuple[int, list[str]]]:
    if all(len(row) == width for _, row in chunk):
        return chunk
    for line, row in chunk:
        if len(row) != width:
            problems.add(
                f"row(s) without the header's {width} columns", f"{file.name} line {line} has {len(row)}"
            )
    return [(line, row) for line, row in chunk if len(row) == width]


def _delimiter(file: Path, first: str) -> str:
    """By the suffix; but Excel writes a .csv with semicolons where commas stand in decimal numbers."""
    return next((mark for mark in ",;\t" if mark in first), ",") if file.suffix.lower() == ".csv" else "\t"


def _rows(num_columns: int, most: int = ROWS) -> int:
    return max(1, min(most, CELLS // num_columns))


def _check_names(file: Path, names: list[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{file}: more than one column named {', '.join(map(repr, twice))}")
    if "" in names:
        raise InputError(f"{file}: column {names.index('') + 1} has no name (an index column? leave it out)")


def _read_json(file: Path, problems: Problems) -> Iterator[Batch]:
    """A list of records, or ``{image: [labels]}``."""
    text = file.read_text(encoding="utf-8-sig")
    is_list = text.startswith("[", _skip_blanks(text, 0))
    records = _elements(file, text) if is_list else _images_with_labels(file, text)
    try:
        yield from _batches(file, "record", records, problems)
    except json.JSONDecodeError as error:
        raise InputError(f"{file} line {error.lineno} column {error.colno}: {error.msg}") from None


def _elements(file: Path, text: str) -> Iterator[tuple[int, Any, float]]:
    """The elements of a list one by one: a million records at once would be gigabytes of Python objects."""
    number, at = 0, _skip_blanks(text, text.index("[") + 1)
    while number or not text.startswith("]", at):
        number += 1
        try:
            element, at = JSON.raw_decode(text, at)
        except InputError as error:
            raise InputError(f"{file} record {number}: {error}") from None
        yield number, element, at / len(text)
        at = _skip_blanks(text, at)
        if text.startswith("]", at):
            break
        if not text.startswith(",", at):
            raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
        at = _skip_blanks(text, at + 1)
    if (at := _skip_blanks(text, at + 1)) < len(text):
        raise json.JSONDecodeError("Extra data", text, at)


def _images_with_labels(file: Path, text: str) -> Iterator[tuple[int, Any, float]]:
    try:
        labels_of = JSON.decode(text)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    if not isinstance(labels_of, dict):
        raise InputError(f"{file}: expected {RECORDS}")
    if {"samples", "labels"} <= labels_of.keys():
        raise InputError(
            f"{file} is in the format of samples_json: --data samples_json:root={file.parent}:train={file.name}"
        )
    for number, (image, labels) in enumerate(labels_of.items(), 1):
        if not isinstance(labels, list | str):
            raise InputError(f"{file}: expected {RECORDS}; but {image!r} has no list")
        yield number, {"image": image, "labels": labels}, number / len(labels_of)


def _skip_blanks(text: str, at: int) -> int:
    match = BLANKS.match(text, at)
    return match.end() if match else at


def _read_json_lines(file: Path, problems: Problems) -> Iterator[Batch]:
    def records() -> Iterator[tuple[int, Any, float]]:
        for number, line in enumerate(stream, 1):
            try:
                if line.strip():
                    yield number, JSON.decode(line), done()
            except json.JSONDecodeError as error:
                where = f"{file.name} line {number} column {error.colno}"
                problems.add("line(s) that are not JSON", f"{where}: {error.msg}")
            except InputError as error:
                problems.add("record(s) that contradict themselves", f"{file.name} line {number}: {error}")

    with _open_text(file) as (stream, done):
        yield from _batches(file, "line", records(), problems)


def _batches(
    file: Path, unit: str, records: Iterable[tuple[int, Any, float]], problems: Problems
) -> Iterator[Batch]:
    """Columns of what should be records; those of a batch are its own and all before."""
    records = iter(records)
    names: dict[str, None] = {}
    while chunk := list(islice(records, _rows(max(len(names), 1)))):
        for number, record, _ in chunk:
            if not isinstance(record, dict):
                kind = "record(s) that are no objects, {...}"
                problems.add(kind, f"{json.dumps(record)[:40]} ({file.name} {unit} {number})")
        whole = [(number, record) for number, record, _ in chunk if isinstance(record, dict)]
        names.update(dict.fromkeys(name for _, record in whole for name in record))
        _check_names(file, list(names))
        columns = {name: [record.get(name, MISSING) for _, record in whole] for name in names}
        yield Batch(file, unit, [number for number, _ in whole], columns, chunk[-1][2])


def _different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which a key that comes twice is no longer silently the last of them."""
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise InputError(f"more than once in one object: {shorten([repr(key) for key in twice], 3)}")
    return record


def _read_parquet(file: Path, problems: Problems) -> Iterator[Batch]:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(f"{file} needs pyarrow: pip install 'label-graph-zoo[data]'") from None
    try:
        with ParquetFile(file) as parquet:
            names, num_rows = parquet.schema_arrow.names, parquet.metadata.num_rows
            _check_names(file, names)
            yield Batch(file, "row", (), dict.fromkeys(names, ()), 0.0)
            row = 1
            for part in parquet.iter_batches(_rows(len(names), most=16 * ROWS)):
                numbers = range(row, row + part.num_rows)
                row = numbers.stop
                columns = {name: part[name].to_pylist() for name in names}
                yield Batch(file, "row", numbers, columns, (row - 1) / num_rows)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet: {str(error).splitlines()[0]}") from None


JSON = json.JSONDecoder(object_pairs_hook=_different_keys)
RECORDS = 'a list of records, [{"image": ..., "labels": [...]}, ...], or an object {image: [labels], ...}'
FORMATS: dict[str, Callable[[Path, Problems], Iterator[Batch]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".tab": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
