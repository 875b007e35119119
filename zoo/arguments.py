"""Arguments and options typed by signatures: jsonargparse, with this project's errors in place of argparse's."""

from __future__ import annotations

import inspect
import re
from argparse import ArgumentError
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.lookup import InputError, unknown

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


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """Takes ``mlgcn-resnet18:conv=GATConv:bias=true`` apart: a name, then options, each after a colon.

    Raises:
        InputError: no equals sign after a colon, or an option twice.
    """
    name, *pairs = text.strip().split(":")
    given: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"{text!r}: expected option=value after each colon, not {pair!r}")
        if key in given:
            raise InputError(f"{text!r}: option {key!r} is given twice")
        given[key] = value
    return name, given


def option_names(function: Callable[..., Any]) -> list[str]:
    """A function's parameters by keyword."""
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def parse_options(
    owner: str, function: Callable[..., Any], given: Mapping[str, str], *, skip: set[str | int]
) -> dict[str, Any]:
    """Options that were written as text, in alphabetical order, each value as the function's signature types it.

    Args:
        owner: what has these options, in the words of errors: ``"head 'mlgcn'"``.
        function: a function or a class, or a partial of one. A user's own may leave its options untyped.
        given: option to text; every option must be a parameter.
        skip: parameters that are no options, by name, or the number of those that come first.

    Raises:
        InputError: ``option of head 'mlp': dropout: expected float, not 'much'``.
    """
    from jsonargparse import ArgumentParser

    function = getattr(function, "func", function)
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if isinstance(function, type) else parser.add_function_arguments
    add(function, skip=skip, as_group=False, fail_untyped=False)
    try:
        values = parse_arguments(parser, [f"--{key}={value}" for key, value in given.items()])
    except InputError as error:
        raise InputError(f"option of {owner}: {error}") from None
    return {key: values[key] for key in sorted(given)}


def _in_one_line(message: str) -> str:
    """jsonargparse's message without what it says about its own insides."""
    key = re.search(r'Parser key "([\w.]+)"', message)
    expected = re.findall(r"Expected an? (?:<class '(?:\w+\.)*(\w+)'>|([^.\n]+))", message)
    value = re.search(r"(?:Got value|Given value): (.*)", message)
    if key and value and (choices := re.search(r"Literal\[(.+?)\]", message)):
        return str(unknown(key[1], value[1], re.findall(r"'([^']+)'", choices[1])))
    if not (key and expected and value):
        return " ".join(message.split())
    # What a class stands for on the command line, a tensor say, is nothing that anyone means to write there.
    phrases = dict.fromkeys(kind or phrase for kind, phrase in expected)
    kinds = [phrase for phrase in phrases if not phrase.startswith("dot import path")]
    named = " or ".join({"NoneType": "null", "Sequence": "list"}.get(kind, kind) for kind in kinds)
    return f"{key[1]}: expected {named}, not {value[1]!r}"
