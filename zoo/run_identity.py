"""A run of a comparison, and what makes it another run: whatever its outcome depends on."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo._version import __version__
from zoo.convs import conv_spec
from zoo.entry import Entry
from zoo.heads import HEADS, head_options
from zoo.lookup import InputError
from zoo.losses import LOSSES, parse_loss
from zoo.protocol import Protocol

_SEARCH = ("trials", "seeds", "lr", "weight_decay")  # how many runs and which, but not what a run does


@dataclass(frozen=True)
class RunRequest:
    """One training of an entry; those of the search (``test`` is False) never see the test split."""

    entry: Entry
    lr: float
    weight_decay: float
    seed: int
    test: bool


def run_identity(request: RunRequest, protocol: Protocol, fingerprint: str, weights: str) -> dict[str, Any]:
    """Everything that a run's outcome depends on, and under ``run`` the key that is made of it.

    Args:
        request: the run.
        protocol: what is the same for all.
        fingerprint: of the data.
        weights: which ones the backbone begins with.
    """
    identity = {
        "entry": request.entry.name,
        "settings": request.entry.settings,
        "lr": request.lr,
        "weight_decay": request.weight_decay,
        "seed": request.seed,
        "test": request.test,
        "data": fingerprint,
        "pretrained": weights,
        "zoo": __version__,
        "user_code": [*_user_code(request.entry, protocol.loss), *_graph_file(request.entry)],
        **{key: value for key, value in asdict(protocol).items() if key not in _SEARCH},
    }
    if not request.test:  # one search serves all that is asked at test time
        del identity["known"]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return {"run": key, **identity}


def _graph_file(entry: Entry) -> list[str]:
    return [file_digest(Path(entry.graph_options["file"]))] if "file" in entry.graph_options else []


def file_digest(file: Path) -> str:
    """16 hexadecimal digits that name a file's content.

    Raises:
        InputError: there is no such file.
    """
    if not file.is_file():
        raise InputError(f"pretrained={str(file)!r}: no such file of weights")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _user_code(entry: Entry, loss: str) -> list[str]:
    """Digests of the files that define an entry's head, its convolution and the loss, where they are the user's own.

    Their author changes them and compares again: that must not give the old results.
    """
    head = entry.model.partition("-")[0]
    makers: list[Callable[..., Any]] = [HEADS[head]]
    if conv := (head_options(head) | entry.options).get("conv"):
        makers.append(conv_spec(conv).make)
    makers.append(LOSSES[parse_loss(loss)[0]])
    modules = [sys.modules.get(getattr(maker, "func", maker).__module__) for maker in makers]
    files = [getattr(m, "__file__", None) for m in modules if m and not m.__name__.startswith("zoo.")]
    return [file_digest(Path(file)) for file in files if file]
