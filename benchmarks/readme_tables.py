"""Rows of ``benchmarks/results``, and Markdown tables of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from table import Row, read_rows

RESULTS = Path(__file__).parent / "results"


def read(name: str, **values: str) -> list[Row]:
    """The rows of a table of the results that have these values in the columns of that name."""
    rows = read_rows(RESULTS / f"{name}.csv")
    return [row for row in rows if all(row[key] == value for key, value in values.items())]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def short(entry: str) -> str:
    """An entry without the backbone, which is the same in all of a table."""
    return re.sub(r"^(\w+)-[^:]+", r"\1", entry)


def interval(row: Row, metric: str = "mAP") -> str:
    """Mean and half width."""
    return f"{float(row[metric]):.3f} ± {float(row[f'{metric}_half_width']):.3f}"


def gain(row: Row, digits: int = 3) -> str:
    """Over the best baseline; a dash for that one."""
    if not row["gain_over_baseline"]:
        return "-"
    return f"{float(row['gain_over_baseline']):+.{digits}f} ± {float(row['gain_half_width']):.{digits}f}"
