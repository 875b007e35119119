"""Entries of a comparison: a model's name with options, written as one string, and the controls that go with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from zoo.controls import CONTROLS
from zoo.heads import head_options, uses_graph
from zoo.lookup import InputError, unknown
from zoo.model import split_name

BACKBONE = (
    "tf_efficientnet_lite0"  # its ImageNet weights install from the package registry, so it works offline
)
DEFAULT_HEADS = ("linear", "linear:pooling=max", "mlp", "mlgcn", "sgc", "gat")


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: a model, its options, and the label graph that it is given.

    Attributes:
        model: canonical name, ``<head>-<timm name>``.
        options: of the head, as given.
        graph: ``real``, or a control's name.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    graph: str = "real"

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Reads ``mlgcn-resnet18:conv=GATConv:graph=shuffled``: a model, then options, each after a colon.

        Raises:
            InputError: an unknown head, backbone, option or control, with the nearest names.
        """
        name, *pairs = text.strip().split(":")
        head, backbone = split_name(name)
        options: dict[str, Any] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals:
                raise InputError(f"{text!r}: expected option=value after each colon, not {pair!r}")
            options[key] = yaml.safe_load(value)
        graph = options.pop("graph", "real")
        if graph not in ("real", *CONTROLS):
            raise unknown("graph", graph, ("real", *CONTROLS))
        for key in options:
            if key not in head_options(head):
                raise unknown(f"option of head {head!r}", key, [*head_options(head), "graph"])
        return cls(f"{head}-{backbone}", dict(sorted(options.items())), graph)

    @property
    def name(self) -> str:
        """The entry as :meth:`parse` reads it."""
        pairs = [f"{key}={json.dumps(value).strip(chr(34))}" for key, value in self.options.items()]
        pairs += [f"graph={self.graph}"] if self.graph != "real" else []
        return ":".join([self.model, *pairs]).replace(" ", "")

    @property
    def kind(self) -> str:
        """``baseline`` (no graph), ``graph`` or ``control``."""
        if self.graph != "real":
            return "control"
        return "graph" if uses_graph(self.model.partition("-")[0]) else "baseline"


def default_entries(backbone: str = BACKBONE, controls: bool = True) -> list[Entry]:
    """The comparison that answers "does a label graph help?": baselines, graph heads, and controls of ``mlgcn``."""
    texts = []
    for entry in DEFAULT_HEADS:
        head, colon, options = entry.partition(":")
        texts.append(f"{head}-{backbone}{colon}{options}")
    return with_controls([Entry.parse(text) for text in texts]) if controls else [*map(Entry.parse, texts)]


def with_controls(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with what they have to beat: baselines of each backbone, controls of its first graph head."""
    added: dict[str, Entry] = {}
    for backbone in dict.fromkeys(entry.model.partition("-")[2] for entry in entries):
        graph_heads = [e for e in entries if e.kind == "graph" and e.model.endswith(f"-{backbone}")]
        if graph_heads:
            baselines = (f"linear-{backbone}", f"linear-{backbone}:pooling=max", f"mlp-{backbone}")
            added |= {text: Entry.parse(text) for text in baselines}
            first = graph_heads[0]
            for name in CONTROLS:
                entry = Entry(first.model, first.options, name)
                added[entry.name] = entry
    given = {entry.name: entry for entry in entries}
    return list((given | added).values())
