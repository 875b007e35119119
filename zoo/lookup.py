"""One function: a name to its entry of a table, with "did you mean" for a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """Something the user gave is wrong. The message names it, says what was expected and the way out.

    The command line prints the message alone; every other exception is a bug and keeps its traceback.
    """


def message_alone(error: InputError) -> str:
    """The message without what a DataLoader adds: a worker sends its error as text, with the traceback before it."""
    return str(error).rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2]


def unknown(kind: str, name: object, known: Iterable[str], show: int = 12) -> InputError:
    """The error for a name that is not among the known ones.

    Args:
        kind: what the name stands for, in words: ``"head"``, ``"column"``.
        name: the name that was given.
        known: every name that would have been right.
        show: how many known names the message lists at most.

    Returns:
        An error to raise: ``unknown head 'mlgnc'. Did you mean mlgcn? Known: csra, gat, ...``.
    """
    names = sorted(map(str, known))
    # Case slips are the most common ones, and difflib counts them as wrong letters.
    by_case = {n.lower(): n for n in names}
    given = str(name).lower()
    # What begins as it was written comes first: difflib finds SGConv as near to "GCN" as GCNConv.
    begins = sorted((n for n in by_case if given and n.startswith(given)), key=len)
    close = (begins or difflib.get_close_matches(given, list(by_case), n=3, cutoff=0.6))[:3]
    message = f"unknown {kind} {str(name)!r}."
    if close:
        message += f" Did you mean {' or '.join(by_case[c] for c in close)}?"
    if names:
        rest = f", ... ({len(names)} in all)" if len(names) > show else ""
        message += f" Known: {', '.join(names[:show])}{rest}"
    return InputError(message)


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Returns ``table[name]``, or raises :func:`unknown`.

    Args:
        kind: what the table holds, in words.
        name: the entry that is wanted.
        table: a plain dict; users add their own entries to it.

    Raises:
        InputError: no entry has that name.
    """
    try:
        return table[name]
    except KeyError:
        raise unknown(kind, name, table) from None
