"""State dicts from files that others made: safetensors, or torch's own format without its code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from zoo.lookup import InputError

# Checkpoints of training scripts keep the weights under one of these names, the average before the last step.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")


class _Ignored:
    """Stands in for what NumPy pickles a number with. Nothing of NumPy's own is handed to a file's pickle."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


# The best score of a training run is often such a number. torch knows a class by its module and its name.
NUMPY_NUMBERS = [
    type(name, (_Ignored,), {"__module__": module})
    for module, name in (
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("_codecs", "encode"),  # how protocol 2 writes the number's bytes
    )
]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The names and tensors in a file, without what a training script wrapped around them.

    Args:
        path: ``.safetensors``, or anything that ``torch.load`` reads; never is code in it run.

    Raises:
        InputError: no such file, no file of weights, objects beside tensors and numbers, or no state dict.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals([*NUMPY_NUMBERS]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle can fail in any way
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path}: refused, beside tensors and numbers the file holds {refused[1]}, and reading that would "
                "run code. Save its state dict alone, best as .safetensors"
            ) from error
        raise InputError(f"{path}: not a readable file of weights ({type(error).__name__})") from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise InputError(f"{path}: holds no state dict, that is names and their tensors")
    return content
