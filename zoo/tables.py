"""Tables in the terminal: numbers to the right, nothing cut off, names as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def show_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A table with a column for each key; numbers stand to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right", overflow="fold")
    formats = {int: "{:,}", float: "{:,.2f}"}
    for row in rows:
        table.add_row(*(formats.get(type(value), "{}").format(value) for value in row.values()))
    show(table)


def show(table: Table) -> None:
    """Prints a table of rich's."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)  # names are names, also in [brackets]
    if not console.is_terminal:
        console.width = 100  # a file has no width of its own, and rich's 80 would cut numbers
    console.print(table)


def show_metrics(metrics: dict[str, float]) -> None:
    """Names and values, one a line."""
    from rich.table import Table

    table = Table("metric", box=None, pad_edge=False)
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}")
    show(table)
