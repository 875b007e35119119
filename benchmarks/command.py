"""The command line of a script."""

from __future__ import annotations

from collections.abc import Callable

from jsonargparse import auto_cli

from zoo.lookup import InputError


def run_command(function: Callable[..., None]) -> None:
    """Calls the function with the options of the command line; what is wrong with them is one line, under its name."""
    try:
        auto_cli(function, as_positional=False)
    except InputError as error:
        raise SystemExit(f"{function.__name__}: {error}") from None
