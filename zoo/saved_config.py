"""``config.json`` of a saved model: its keys, what each must be, and the formats there have been.

Format 1, of versions 0.1 and 0.2, has no thresholds, and NaN among its metrics.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zoo._version import __version__
from zoo.counts import check_names
from zoo.lookup import InputError

FORMAT = 2
MAX_SIDE = 2**14  # pixels of an image; beyond it, an input would be gigabytes


def _is_size(value: Any) -> bool:
    return _are_numbers(value, 2) and all(type(side) is int and 1 <= side <= MAX_SIDE for side in value)


def _are_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(type(v) in (int, float) for v in value)


Check = tuple[Callable[[Any], bool], str]
OBJECT: Check = (lambda value: isinstance(value, dict), "an object")
TEXT: Check = (lambda value: isinstance(value, str), "text")

KEYS: dict[str, Check] = {
    "name": TEXT,
    "options": OBJECT,
    "label_names": (lambda value: isinstance(value, list), "a list of names"),
    "recipe": OBJECT,
    "img_size": (
        lambda value: value is None or _is_size(value),
        f"null or [height, width] in 1..{MAX_SIDE:,}",
    ),
    "input": OBJECT,
    "notes": OBJECT,
}
KEYS_OF_FORMAT: dict[int, dict[str, Check]] = {
    1: KEYS,
    2: KEYS
    | {
        "thresholds": (lambda value: value is None or isinstance(value, dict), "null or an object"),
        "versions": OBJECT,
    },
}
# What zoo.Backbone.data_config holds: any other setting of timm's could ask for code that is not this package's.
INPUT: dict[str, Check] = {
    "input_size": (
        lambda value: isinstance(value, list) and value[:1] == [3] and _is_size(value[1:]),
        f"[3, height, width] in 1..{MAX_SIDE:,}",
    ),
    "interpolation": TEXT,
    "mean": (lambda value: _are_numbers(value, 3), "three numbers"),
    "std": (lambda value: _are_numbers(value, 3) and min(value) > 0, "three numbers above 0"),
    "crop_pct": (lambda value: type(value) in (int, float) and value > 0, "a number above 0"),
    "crop_mode": TEXT,
}


def config_text(config: Mapping[str, Any]) -> str:
    """A config as JSON. NaN and infinity, which JSON does not have, become null: a metric without positives, say.

    Raises:
        TypeError, ValueError, RecursionError: it holds what JSON cannot.
    """
    return json.dumps(_finite(config), indent=1, allow_nan=False)


def read_config(path: Path) -> dict[str, Any]:
    """A config of any format that this version knows, checked.

    Raises:
        InputError: a newer format, keys that are missing, there twice or of another type, NaN or infinity.
        ValueError, RecursionError: no JSON.
    """
    config = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_duplicates)
    _check_format(config)
    _check_keys(config, KEYS_OF_FORMAT[config["format"]], "")
    _check_keys(config["input"], INPUT, "input: ")
    if extra := config["input"].keys() - INPUT.keys():
        raise InputError(f"input: unknown {min(extra)!r}. Known: {', '.join(INPUT)}")
    for key, value in config.items():
        # Metrics in the notes of format 1 may be NaN.
        if _finite(value) != value and not (key == "notes" and config["format"] == 1):
            raise InputError(f"{key!r} holds NaN or infinity")
    names = check_names(config["label_names"], len(config["label_names"]))
    if (named := config.get("thresholds")) is not None and named.keys() != {*names}:
        raise InputError("'thresholds' must name every label, and no other")
    return config


def _check_format(config: Any) -> None:
    found = config.get("format") if isinstance(config, dict) else type(config).__name__
    if type(found) is int and found in KEYS_OF_FORMAT:
        return
    reads = f"this version, {__version__}, reads {' and '.join(map(str, KEYS_OF_FORMAT))}"
    if type(found) is not int or found < FORMAT:
        raise InputError(f"format {found!r}; {reads}")
    versions = config.get("versions")
    writer = versions.get("zoo") if isinstance(versions, dict) else None
    raise InputError(
        f"format {found}, written by version {writer or 'unknown'} of this package; {reads}: "
        "upgrade with pip install --upgrade label-graph-zoo"
    )


def _check_keys(values: dict[str, Any], checks: dict[str, Check], where: str) -> None:
    if missing := [key for key in checks if key not in values]:
        raise InputError(f"{where}the saved model is damaged ({', '.join(missing)} missing)")
    for key, (holds, expected) in checks.items():
        if not holds(values[key]):
            raise InputError(f"{where}{key!r} must be {expected}, not {str(values[key])[:60]}")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise InputError(f"{key!r} is there twice")
        content[key] = value
    return content


def _finite(value: Any) -> Any:
    """A value of JSON's types with None in the place of NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [*map(_finite, value)] if isinstance(value, list | tuple) else value
