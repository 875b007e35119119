"""Tables of measurements: CSV files with what was measured where, in which a new row takes the place of the old one."""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo._version import __version__, commit

Row = dict[str, str]
LIBRARIES = ("torch", "torch-geometric", "timm", "numpy", "scipy")


def provenance(libraries: Sequence[str] = LIBRARIES) -> dict[str, Any]:
    """Machine, versions, date. No library is imported: a measured process is forked from this one."""
    return {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),  # of the last minute: what else ran beside
        "zoo": __version__,
        "commit": commit(),
        **{library: importlib.metadata.version(library) for library in libraries},
        "date": datetime.date.today().isoformat(),
    }


def read_rows(path: Path) -> list[Row]:
    """All rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def record(
    measured: Iterable[dict[str, Any]],
    path: Path | None,
    made: dict[str, Any],
    same: Sequence[str],
    columns: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Prints each row as soon as it is measured, and puts it into a table.

    Args:
        measured: the rows.
        path: of the table; None: it is not kept.
        made: :func:`provenance`, which follows each row.
        same: see :func:`replace_rows`.
        columns: likewise.

    Yields:
        The rows.
    """
    for row in measured:
        print(", ".join(f"{key} {value}" for key, value in row.items() if value != ""), flush=True)
        if path:
            replace_rows(path, [row | made], same, columns)
        yield row


def replace_rows(
    path: Path, measured: list[dict[str, Any]], same: Sequence[str], columns: Sequence[str] = ()
) -> None:
    """Puts rows into a table in the place of those that agree with one of them in the columns of ``same``.

    Args:
        path: a CSV file, which is made where there is none.
        measured: the rows.
        same: names of columns.
        columns: which of them come first; the others follow in the order in which they are met.
    """
    kept: list[dict[str, Any]] = []
    if path.is_file():
        kept = [*read_rows(path)]
    replaced = {tuple(row[key] for key in same) for row in measured}
    table = [row for row in kept if tuple(row[key] for key in same) not in replaced] + measured
    names = dict.fromkeys([*columns, *(key for row in table for key in row)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
