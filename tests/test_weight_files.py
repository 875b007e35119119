from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from zoo.lookup import InputError
from zoo.weight_files import WRAPPERS, read_state_dict

WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.zeros(2)}


def same(read: dict[str, torch.Tensor]) -> bool:
    return read.keys() == WEIGHTS.keys() and all(torch.equal(read[key], WEIGHTS[key]) for key in WEIGHTS)


def test_every_form(tmp_path):
    safetensors.torch.save_file(WEIGHTS, tmp_path / "w.safetensors")
    torch.save(WEIGHTS, tmp_path / "w.pth")
    torch.save(WEIGHTS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for file in ("w.safetensors", "w.pth", "old.pt"):
        assert same(read_state_dict(tmp_path / file))


@pytest.mark.parametrize("key", WRAPPERS)
def test_what_is_wrapped_around_it_goes(tmp_path, key):
    content = {key: WEIGHTS, "epoch": 3, "best_score": np.float64(0.5), "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / "w.pth")
    assert same(read_state_dict(tmp_path / "w.pth"))


def test_the_average_goes_before_the_last_step(tmp_path):
    last = {key: value + 1 for key, value in WEIGHTS.items()}
    torch.save({"state_dict": last, "state_dict_ema": WEIGHTS}, tmp_path / "w.pth")
    assert same(read_state_dict(tmp_path / "w.pth"))


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_is_not_run(tmp_path):
    torch.save({"state_dict": WEIGHTS, "x": Bomb(tmp_path / "made")}, tmp_path / "w.pth")
    with pytest.raises(
        InputError, match=r"w\.pth: refused, .* holds \w+\.mkdir, and reading that would run code"
    ):
        read_state_dict(tmp_path / "w.pth")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable file of weights"),
        (b"PK\x03\x04", "not a readable file of weights"),
        ({"epoch": 3}, "holds no state dict"),
        ({0: torch.ones(2)}, "holds no state dict"),
        ([torch.ones(2)], "holds no state dict"),
    ],
)
def test_what_is_none(tmp_path, content, message):
    path = tmp_path / "w.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError, match=f"w.pth: {message}"):
        read_state_dict(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"w\.pth: no such file"):
        read_state_dict(tmp_path / "w.pth")
