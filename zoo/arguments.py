"""Arguments typed by signatures: jsonargparse, with this project's errors in place of argparse's."""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.lookup import InputError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def parse_arguments(parser: ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """What the arguments say, each value as its parameter's annotation types it.

    Args:
        parser: made with ``exit_on_error=False``.
        arguments: as on the command line: ``["--epochs", "3", "--lr=1e-3"]``.

    Raises:
        InputError: in one line: ``epochs: expected int, not 'three'``.
    """
    try:
        return parser.parse_args(arguments).as_dict()
    except ArgumentError as error:
        raise InputError(_in_one_line(str(error))) from None


def _in_one_line(message: str) -> str:
    """jsonargparse's message without what it says about its own insides."""
    key = re.search(r'Parser key "([\w.]+)"', message)
    expected = re.findall(r"Expected an? (?:<class '(?:\w+\.)*(\w+)'>|([^.\n]+))", message)
    value = re.search(r"(?:Got value|Given value): (.*)", message)
    if not (key and expected and value):
        return " ".join(message.split())
    kinds = dict.fromkeys(kind or phrase for kind, phrase in expected)
    named = " or ".join({"NoneType": "null", "Sequence": "list"}.get(kind, kind) for kind in kinds)
    return f"{key[1]}: expected {named}, not {value[1]!r}"
