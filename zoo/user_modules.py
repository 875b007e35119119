"""Python files of the user's own, which add heads and convolutions to the tables."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from zoo.lookup import InputError

_IMPORTED: dict[Path, None] = {}  # in their order


def import_module_file(path: str | Path) -> ModuleType:
    """Runs a user's Python file as a module, for ``--import my_module.py``.

    The file adds its convolutions or heads to their tables: ``zoo.convs.CONVS["mine"] = ConvSpec(MyConv)``.
    Given twice, it runs once.

    Args:
        path: a file that ends in ``.py``.

    Raises:
        InputError: there is no such file, or it raised; the message has the line.
    """
    path = Path(path).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise InputError(f"cannot import {path}: expected a Python file (.py)")
    name = (
        f"zoo_import_{path.stem}"  # apart from installed modules: a user's zoo.py must not hide this package
    )
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, as dataclasses and pickle look it up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, SyntaxError) and error.filename == str(path):
            line = error.lineno
        else:
            frames = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), None)
        where = f"{path}, line {line}" if line else str(path)  # what is no text at all has no lines
        raise InputError(f"{where}: {type(error).__name__}: {error}") from error
    _IMPORTED[path] = None
    return module


def imported_files() -> list[Path]:
    """The user's files that this process has run, in their order, for processes elsewhere to run too."""
    return list(_IMPORTED)
