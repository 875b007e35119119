"""The command line: from arguments or a YAML file to one of the functions in :mod:`zoo.commands`.

Options come from the functions' signatures: signature, YAML (``--config run.yaml``) and ``--help`` are one thing.
``zoo --help`` imports nothing heavy.
"""

from __future__ import annotations

import inspect
import itertools
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo._version import __version__
from zoo.commands import compare, evaluate, graph, list_, predict, train
from zoo.lookup import InputError, lookup, unknown

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


COMMANDS = {
    "compare": compare,
    "list": list_,
    "graph": graph,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
}
POSITIONAL = {"list": {"kind": "?", "pattern": "?"}, "predict": {"images": "+"}}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 2 for wrong input, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
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
        rest = _import_modules(rest)
        parser = _parser(name, function)
        _check_options(name, parser, rest)
        values = parser.parse_args(rest).as_dict()
        values.pop("config", None)
        function(**values)
        return 0
    except InputError as error:
        print(f"zoo: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        print(
            f"zoo: this needs the package {error.name!r}: pip install 'label-graph-zoo[train]'",
            file=sys.stderr,
        )
    except OSError as error:
        print(f"zoo: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(
            "zoo: interrupted; what was finished is kept, the same command goes on from there",
            file=sys.stderr,
        )
        return 130
    return 2


def _help() -> str:
    lines = ["usage: zoo <command> [options]", "", "Label graphs for multi-label image recognition.", ""]
    lines += [f"  {name:10} {inspect.getdoc(f).splitlines()[0]}" for name, f in COMMANDS.items()]  # type: ignore[union-attr]
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


def _parser(name: str, function: Any) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"zoo {name}", description=inspect.getdoc(function).split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    positional = POSITIONAL.get(name, {})
    skipped = set(positional)
    documented = dict(re.findall(r"^\s{4,}(\w+): (.+)$", inspect.getdoc(function) or "", re.MULTILINE))
    for key, count in positional.items():
        default = inspect.signature(function).parameters[key].default
        parser.add_argument(
            key, nargs=count, help=documented[key], **({} if count == "+" else {"default": default})
        )
    parser.add_function_arguments(function, skip=skipped, as_group=False)
    return parser


def _check_options(name: str, parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Unknown options, on the command line or in a YAML file, with the nearest known ones."""
    known = {action.dest for action in parser._actions} - {"help"}
    given = [a[2:].partition("=")[0] for a in arguments if a.startswith("--") and len(a) > 2]
    for option in given:
        if option not in known | {"help", "print_config"}:
            raise unknown(f"option of zoo {name}", option, known)
    for flag, value in itertools.pairwise(arguments):
        if flag == "--config":
            _check_config(name, Path(value), known)


def _check_config(name: str, path: Path, known: set[str]) -> None:
    import yaml

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected one option: value a line")
    for key in content:
        if key not in known:
            raise InputError(f"{path}: {unknown(f'option of zoo {name}', key, known)}")


def _import_modules(arguments: list[str]) -> list[str]:
    rest = list(arguments)
    while "--import" in rest:
        i = rest.index("--import")
        if i + 1 == len(rest):
            raise InputError("--import needs a Python file")
        from zoo.user_modules import import_module_file

        import_module_file(rest[i + 1])
        del rest[i : i + 2]
    return rest


if __name__ == "__main__":
    sys.exit(main())
