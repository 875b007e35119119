"""The command line: from arguments or a YAML file to one of the functions in :mod:`zoo.commands`.

Options come from the functions' signatures: signature, YAML (``--config run.yaml``) and ``--help`` are one thing.
``zoo --help`` imports nothing heavy.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import itertools
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo._version import __version__
from zoo.arguments import parse_arguments
from zoo.commands import compare, convert, evaluate, graph, list_, predict, scan, train
from zoo.lookup import InputError, lookup, message_alone, unknown

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


COMMANDS: dict[str, Callable[..., int | None]] = {
    "compare": compare,
    "list": list_,
    "graph": graph,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "scan": scan,
    "convert": convert,
}
POSITIONAL: dict[str, dict[str, str | None]] = {
    "list": {"kind": "?", "pattern": "?"},
    "predict": {"images": "+"},
    "convert": {"checkpoint": None},
}
# Options that a command takes as one object: parameter -> where its dataclass is, whose fields are the options.
GROUPS: dict[str, dict[str, str]] = {
    "compare": {"protocol": "zoo.protocol.Protocol"},
    "train": {"recipe": "zoo.recipe.Recipe", "runtime": "zoo.runtime.Runtime"},
}
RECIPES = Path(__file__).parent / "recipes"
# What the extra "train" installs, by the names that are imported.
TRAIN_PACKAGES = ("iterstrat", "lightning", "matplotlib", "sklearn", "tensorboard")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: the command's own or 0, 2 for wrong input, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Threads that wait must sleep, not spin: where anything else runs beside them, spinning made heads ten times
    # slower. It has to be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for module in (r"torch\.", r"lightning\."):  # deprecations among libraries say nothing to a user
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(_help())
            return 0
        if arguments[0] == "--version":
            print(_version())
            return 0
        name, *rest = arguments
        function = lookup("command", name, COMMANDS)
        files, rest = _take("--import", rest)
        if files:
            from zoo.user_modules import import_module_file

            for file in files:
                import_module_file(file)
        parser = _parser(name, function)
        rest = _find_recipes(rest)
        _check_options(name, parser, rest)
        values = parse_arguments(parser, _spell_out_flags(name, parser, rest))
        values.pop("config", None)
        for key, group in _groups(name).items():
            values[key] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        status = function(**values) or 0
        sys.stdout.flush()
        return status
    except InputError as error:
        return _fail(message_alone(error))
    except ModuleNotFoundError as error:
        return _fail(_missing(error))
    except BrokenPipeError:  # `zoo list models | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning makes the one of the other
            return _interrupted()
        return int(error.code or 0)  # --help and --print_config


def _fail(message: str) -> int:
    print(f"zoo: {message}", file=sys.stderr)
    return 2


def _interrupted() -> int:
    message = "what is finished is kept: repeat zoo compare as it was, or zoo train with --resume true"
    print(f"zoo: interrupted; {message}", file=sys.stderr)
    return 130


def _missing(error: ModuleNotFoundError) -> str:
    package = (error.name or "tensorboard").partition(".")[0]  # Lightning's message has no name
    if package == "zoo":
        raise error
    source = "'label-graph-zoo[train]'" if package in TRAIN_PACKAGES else package
    return f"this needs the package {package!r}: pip install {source}"


def _help() -> str:
    lines = ["usage: zoo <command> [options]", "", "Label graphs for multi-label image recognition.", ""]
    lines += [f"  {name:10} {_summary(f)}" for name, f in COMMANDS.items()]
    lines += ["", "zoo <command> --help shows its options; every command also takes --config run.yaml,"]
    lines += [
        "and --import my_module.py for heads and convolutions of your own. zoo --version shows versions."
    ]
    return "\n".join(lines)


def _version() -> str:
    import timm
    import torch
    import torch_geometric
    from torch_geometric.typing import WITH_TORCH_SCATTER

    scatter = "in use" if WITH_TORCH_SCATTER else "not installed (optional)"
    return (
        f"label-graph-zoo {__version__}, torch {torch.__version__}, timm {timm.__version__}, "
        f"torch-geometric {torch_geometric.__version__}, torch-scatter {scatter}"
    )


def _summary(function: Callable[..., int | None]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _groups(name: str) -> dict[str, Any]:
    """The dataclasses whose fields are options of a command, by its parameter."""
    places = {key: path.rpartition(".") for key, path in GROUPS.get(name, {}).items()}
    return {key: getattr(importlib.import_module(module), cls) for key, (module, _, cls) in places.items()}


def _find_recipes(arguments: Sequence[str]) -> list[str]:
    """``--config modern`` as the file of the recipe that ships under this name."""
    shipped = {path.stem: str(path) for path in RECIPES.glob("*.yaml")}
    files, rest = _take("--config", arguments)
    for file in files:
        if not Path(file).suffix and not Path(file).exists():
            lookup("recipe", file, shipped)
    # First, so that options on the command line go before them wherever they stand.
    return [f"--config={shipped.get(file, file)}" for file in files] + rest


def _parser(name: str, function: Callable[..., int | None]) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"zoo {name}", description=_summary(function), exit_on_error=False)
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    positional = POSITIONAL.get(name, {})
    documented = dict(re.findall(r"^\s{4,}(\w+): (.+)$", inspect.getdoc(function) or "", re.MULTILINE))
    for key, count in positional.items():
        # Without a default of its own, or that would go before what a YAML file says.
        parser.add_argument(key, nargs=count, help=documented[key], default=argparse.SUPPRESS)
    groups = _groups(name)
    parser.add_function_arguments(function, skip={*positional, *groups}, as_group=False)
    for group in groups.values():
        parser.add_class_arguments(group, as_group=False)
    for action in parser._actions:  # the docstrings' markup is none in a terminal
        action.help = re.sub(r":\w+:`([^`]+)`|``([^`]+)``", r"\1\2", action.help or "")
    return parser


def _check_options(name: str, parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Unknown options, on the command line or in a YAML file, with the nearest known ones."""
    unspoken = {"help", "print_config"}
    known = {action.dest for action in parser._actions} - unspoken
    given = [a[2:].partition("=")[0] for a in arguments if a.startswith("--") and len(a) > 2]
    for option in given:
        if option.rstrip("+") not in known | unspoken:
            raise unknown(f"option of zoo {name}", option, known)
    for file in _take("--config", arguments)[0]:
        _check_config(name, Path(file), known)


def _check_config(name: str, path: Path, known: set[str]) -> None:
    import yaml

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected one option: value a line")
    for key in content:
        if key not in known:
            raise InputError(f"{path}: {unknown(f'option of zoo {name}', key, known)}")


def _spell_out_flags(name: str, parser: ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """``--verbose`` as ``--verbose=true``: what is true or false may be given by its name alone, anywhere."""
    kinds = {f"--{action.dest}": getattr(action, "_typehint", None) for action in parser._actions}
    flags = {option for option, kind in kinds.items() if kind is bool or kind == bool | Literal["auto"]}
    spelt, rest = [], []
    for argument, following in itertools.pairwise([*arguments, "--"]):
        # Where a word may stand for itself, only true and false are the flag's.
        alone = following.startswith("--") or (name in POSITIONAL and following not in ("true", "false"))
        if argument in flags and alone:
            spelt.append(f"{argument}=true")
        else:
            rest.append(argument)
    return rest + spelt  # apart, because argparse takes no words from both sides of an option


def _take(flag: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The values of a flag, written ``--flag value`` or ``--flag=value``, and the arguments without it."""
    values, rest, waiting = [], [], iter(arguments)
    for argument in waiting:
        if argument == flag:
            value = next(waiting, None)
            if value is None:
                raise InputError(f"{flag} needs a file")
            values.append(value)
        elif argument.startswith(f"{flag}="):
            values.append(argument.partition("=")[2])
        else:
            rest.append(argument)
    return values, rest


if __name__ == "__main__":
    sys.exit(main())
