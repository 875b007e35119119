"""Edges that somebody knows, beside those that are counted: from a file or a list.

source,target,weight
horse,meadow,             meadow hears horse
bird,sky,2.5              sky hears bird, and more
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from zoo.edges import Edges
from zoo.lookup import InputError, unknown

Row: TypeAlias = Sequence[str | int | float]  # source, target, and a weight or none
Knowledge: TypeAlias = str | Path | Iterable[Row]


def add_knowledge(
    edges: Edges, knowledge: Knowledge, label_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Adds known edges to counted ones, or puts them in their place where a pair is both.

    Args:
        edges: source (M,), target (M,) and weight (M,) of the counted ones. The unit of known weights is their mean
            absolute weight, in which all leave here.
        knowledge: as for :func:`read_knowledge`.
        label_names: of the label graph.

    Returns:
        source, target, weight, and what was added, in words.

    Raises:
        InputError: as :func:`read_knowledge`.
    """
    known = read_knowledge(knowledge, label_names)
    place, known_place = (ends[0].astype(np.int64) * len(label_names) + ends[1] for ends in (edges, known))
    kept = ~np.isin(place, known_place)
    unit = np.abs(edges[2]).mean() if len(place) else 1.0
    words = f"{len(known_place):,} edges"
    if isinstance(knowledge, str | Path):
        words += f" of {Path(knowledge).name}"
    if replaced := len(place) - int(kept.sum()):
        words += f", {replaced:,} in place of counted ones"
    return (
        np.concatenate([edges[0][kept], known[0]]),
        np.concatenate([edges[1][kept], known[1]]),
        np.concatenate([edges[2][kept] / unit, known[2]]),
        words,
    )


def read_knowledge(
    knowledge: Knowledge, label_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Known edges as numbers.

    Args:
        knowledge: a CSV or TSV file (UTF-8) with the columns ``source``, ``target`` and, if wanted, ``weight``; or such
            tuples. The target hears the source; without a weight, it is 1.
        label_names: of the label graph.

    Returns:
        source (K,), target (K,), weight (K,).

    Raises:
        InputError: no such file, other columns, no edges; or all that is wrong with the edges, by line: unknown labels
            with the nearest name, labels that hear themselves, edges that are there twice, weights that are none.
    """
    if isinstance(knowledge, str | Path):
        whole, rows = str(knowledge), _rows_of_file(Path(knowledge))
    else:
        whole, rows = "knowledge", _rows_of_list(knowledge)
    column = {name: i for i, name in enumerate(label_names)}
    edges: dict[tuple[int, int], tuple[float, str]] = {}  # weight and place
    strange: list[tuple[str, str]] = []  # apart: to look for the nearest name of each would take too long
    problems: defaultdict[str, list[str]] = defaultdict(list)
    for place, row in rows:
        if not 2 <= len(row) <= 3:
            problems["edge(s) that are not source, target, weight"].append(f"{place}: {row!r}")
            continue
        source, target, written = (*map(str, row), "1")[:3]
        if new := [(place, name) for name in (source, target) if name not in column]:
            strange += new
            continue
        pair, weight = (column[source], column[target]), _number(written)
        if source == target:
            problems["label(s) that hear themselves, which all do anyway"].append(f"{place}: {source!r}")
        elif not math.isfinite(weight) or weight == 0:
            problems["weight(s) that are 0 or no number"].append(f"{place}: {written!r}")
        elif pair in edges:
            problems["edge(s) listed again"].append(f"{place}: {source!r} -> {target!r}, as {edges[pair][1]}")
        else:
            edges[pair] = weight, place
    if strange or problems or not edges:
        wrong = [(len(found), kind, found[:3]) for kind, found in problems.items()]
        if strange:
            nearest = [f"{place}: {unknown('label', name, column)}" for place, name in strange[:3]]
            examples = [words.partition(" Known:")[0] for words in nearest]
            wrong.append((len(strange), "end(s) that are no label of the graph", examples))
        lines = [f"{n:,} {kind}: {'; '.join(some)}{'; ...' if n > 3 else ''}" for n, kind, some in wrong]
        raise InputError("\n  ".join([f"{whole} cannot be used:", *(lines or ["it has no edges"])]))
    ends = np.array([*edges], dtype=np.int64)
    return ends[:, 0], ends[:, 1], np.array([weight for weight, _ in edges.values()])


def _rows_of_file(file: Path) -> Iterator[tuple[str, Row]]:
    """Each row of a file and where it stands."""
    if not file.is_file():
        raise InputError(f"{file}: no such file of known edges")
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:  # Excel starts its files with a BOM
            delimiter = "\t" if "\t" in stream.readline() else ","
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=delimiter, skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            if sorted(columns) not in (["source", "target"], ["source", "target", "weight"]):
                raise InputError(
                    f"{file} line 1: expected the columns source, target and, if there are weights, weight, "
                    f"not {', '.join(map(repr, columns)) or 'nothing'}"
                )
            reader.fieldnames = columns
            for cells in reader:
                row = [cells[name] for name in ("source", "target", "weight") if name in columns]
                row += cells.get(None, [])  # where a row has more than the header
                yield (
                    f"{file.name} line {reader.line_num}",
                    [cell.strip() for cell in row if cell is not None],
                )
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 ({error.reason}): save it as CSV UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{file} line {reader.line_num}: {error}") from None


def _rows_of_list(edges: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    for number, edge in enumerate(edges, start=1):
        yield f"edge {number}", edge if isinstance(edge, tuple | list) else (str(edge),)


def _number(written: str) -> float:
    try:
        return float(written or "1")
    except ValueError:
        return math.nan
