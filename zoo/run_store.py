"""Finished runs of a comparison on disk, so that none is ever run twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch


class RunStore:
    """A folder with a row (JSON), scores and weights of each run, under the run's key.

    The row is written last and in one step: where it stands, the rest is there and whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> dict[str, Any] | None:
        """The row of a run, or None if it has not finished."""
        file = self.folder / f"{key}.json"
        return json.loads(file.read_text()) if file.is_file() else None

    def put(
        self, row: dict[str, Any], scores: torch.Tensor | None, weights: dict[str, torch.Tensor] | None
    ) -> None:
        """Keeps a run: its row (with its key under ``run``), test scores (N, L) and weights, if there are any."""
        file = self.folder / f"{row['run']}.json"
        if scores is not None:
            np.save(file.with_suffix(".npy"), scores.numpy())
        if weights is not None:
            tensors = {key: value.contiguous() for key, value in weights.items()}
            safetensors.torch.save_file(tensors, file.with_suffix(".safetensors"))
        part = file.with_suffix(".part")
        part.write_text(json.dumps(row, indent=1))
        os.replace(part, file)

    def scores(self, row: dict[str, Any]) -> torch.Tensor:
        """Test scores (N, L) of a finished run."""
        return torch.from_numpy(np.load(self.folder / f"{row['run']}.npy"))

    def weights(self, row: dict[str, Any]) -> Path:
        """The file with a finished run's weights."""
        return self.folder / f"{row['run']}.safetensors"
