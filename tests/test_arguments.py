from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Literal

import pytest
from jsonargparse import ArgumentParser
from torch import Tensor

from zoo.arguments import parse_arguments, parse_options, split_options
from zoo.lookup import InputError


def train(
    model: str,
    epochs: int = 20,
    lr: float = 1e-3,
    resume: bool = False,
    img_size: int | None = None,
    pretrained: bool | str = True,
    widths: Sequence[int] = (1024,),
    search: tuple[float, float] = (1e-4, 1e-1),
    version: Literal["v6", "v7"] = "v7",
) -> None:
    """What the arguments are for."""


@pytest.fixture
def parser():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(train, as_group=False)
    return parser


def test_values_are_typed_by_the_signature(parser):
    line = "--model 3 --lr=1e-4 --resume true --img_size=64 --pretrained false --widths=[512,256] --search [1e-3,1]"
    values = parse_arguments(parser, line.split())
    assert values == {
        "model": "3",
        "epochs": 20,
        "lr": 1e-4,
        "resume": True,
        "img_size": 64,
        "pretrained": False,
        "widths": [512, 256],
        "search": (1e-3, 1.0),
        "version": "v7",
    }
    assert parse_arguments(parser, ["--model=a", "--pretrained=w.pth"])["pretrained"] == "w.pth"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs=three"], "epochs: expected int, not 'three'"),
        (["--epochs=1.5"], "epochs: expected int, not '1.5'"),
        (["--lr=fast"], "lr: expected float, not 'fast'"),
        (["--resume=maybe"], "resume: expected bool, not 'maybe'"),
        (["--img_size=large"], "img_size: expected int or null, not 'large'"),
        (["--widths=512"], "widths: expected list, not '512'"),
        (["--widths=[a]"], "widths: expected int, not 'a'"),
        (["--search=[1]"], "search: expected tuple with 2 elements, not '[1]'"),
        (["--version=V6"], "unknown version 'V6'. Did you mean v6? Known: v6, v7"),
        (["--model"], "argument --model: expected one argument"),
        (["a.jpg"], "unrecognized arguments: a.jpg"),
        ([], "the following arguments are required: model"),
    ],
)
def test_errors_are_one_line(parser, arguments, message):
    given = arguments if "--model" in arguments or not arguments else ["--model=a", *arguments]
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        parse_arguments(parser, given)


def test_options_follow_a_name():
    assert split_options("bce") == ("bce", {})
    assert split_options(" mlp:widths=[64,32]:note=a=b ") == ("mlp", {"widths": "[64,32]", "note": "a=b"})
    with pytest.raises(InputError, match=r"^'a:b': expected option=value after each colon, not 'b'$"):
        split_options("a:b")
    with pytest.raises(InputError, match=r"^'a:b=1:b=2': option 'b' is given twice$"):
        split_options("a:b=1:b=2")


def scale(targets: Tensor, weight: float | Tensor = 1.0, untyped=None, *, power: int = 2) -> None:
    """Options to be written as text."""


@pytest.mark.parametrize("skip", [{1}, {"targets"}])
@pytest.mark.parametrize("function", [scale, partial(scale, power=3)])
def test_options_are_typed_by_the_signature(function, skip):
    given = {"weight": "2", "power": "3"}
    assert parse_options("the scale", function, given, skip=skip) == {"power": 3, "weight": 2.0}
    assert parse_options("the scale", function, {}, skip=skip) == {}, "what is not given stays at its default"
    for key, message in (("power", "expected int, not 'x'"), ("weight", "expected float, not 'x'")):
        with pytest.raises(InputError, match=f"^option of the scale: {key}: {message}$"):
            parse_options("the scale", function, {key: "x"}, skip=skip)
