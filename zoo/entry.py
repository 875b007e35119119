"""Entries of a comparison: a model's name with options, written as one string, and the controls that go with it.

``mlgcn-resnet18:conv=GATConv:graph.p=0.5:graph=shuffled``: options of the head, of its label graph, and a control.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch_geometric.data import Data

from zoo.arguments import option_names, parse_options, split_options
from zoo.controls import CONTROLS
from zoo.data import ImageDataset
from zoo.data.dataset import shorten
from zoo.graph import label_graph, unlinked_labels
from zoo.graph_files import load_graph
from zoo.heads import HEADS, graph_edges, head_options, uses_graph
from zoo.lookup import InputError, unknown
from zoo.model import split_name

# Its ImageNet weights install from the package registry, so that it works offline.
BACKBONE = "tf_efficientnet_lite0"
DEFAULT_HEADS = ("linear", "linear:pooling=max", "mlp", "mlgcn", "sgc", "gat")


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: a model, its options, and the label graph that it is given.

    Attributes:
        model: canonical name, ``<head>-<timm name>``.
        options: of the head, as given.
        graph: ``real``, or a control's name.
        graph_options: of the label graph, as given; the others are the protocol's. See :func:`graph_options`.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    graph: str = "real"
    graph_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Reads ``mlgcn-resnet18:conv=GATConv:graph=shuffled``: a model, then options, each after a colon.

        Raises:
            InputError: an unknown head, backbone, option or control, with the nearest names, or a value of
                another type than the option has.
        """
        name, given = split_options(text)
        head, backbone = split_name(name)
        graph = given.pop("graph", "real")
        if graph not in ("real", *CONTROLS):
            raise unknown("graph", graph, ("real", *CONTROLS))
        if graph != "real" and not uses_graph(head):
            raise InputError(f"{text!r}: head {head!r} uses no label graph that could be {graph!r}")
        of_graph = {key: given.pop(key) for key in list(given) if key.startswith("graph.")}
        if of_graph and not uses_graph(head):
            raise InputError(
                f"{text!r}: head {head!r} uses no label graph that {', '.join(of_graph)} could change"
            )
        known = [f"graph.{key}" for key in option_names(graph_options)]
        for key in of_graph:
            if key not in known:
                raise unknown("option of the label graph", key, known)
        for key in given:
            if key not in head_options(head):
                raise unknown(f"option of head {head!r}", key, [*head_options(head), "graph", *known])
        # All but num_features and labels, which come first.
        options = parse_options(f"head {head!r}", HEADS[head], given, skip={2})
        short = {key.removeprefix("graph."): value for key, value in of_graph.items()}
        chosen = parse_options("the label graph", graph_options, short, skip=set())
        return cls(f"{head}-{backbone}", options, graph, graph_options(**chosen))

    @property
    def name(self) -> str:
        """The entry as :meth:`parse` reads it."""
        pairs = {key: v if isinstance(v, str) else _compact(v) for key, v in self.options.items()}
        pairs |= {
            f"graph.{key}": v if isinstance(v, str) else _compact(v) for key, v in self.graph_options.items()
        }
        if self.graph != "real":
            pairs["graph"] = self.graph
        return ":".join([self.model, *(f"{key}={value}" for key, value in pairs.items())])

    @property
    def settings(self) -> str:
        """Every option of the head as JSON, those left at their defaults too."""
        return _compact(head_options(self.model.partition("-")[0]) | self.options)

    @property
    def kind(self) -> str:
        """``baseline`` (no graph), ``graph`` or ``control``."""
        if self.graph != "real":
            return "control"
        return "graph" if uses_graph(self.model.partition("-")[0]) else "baseline"


def graph_options(
    *,
    annotations: Literal["training", "all"] | None = None,
    edges: str | None = None,
    threshold: float | None = None,
    p: float | None = None,
    normalization: str | None = None,
    embeddings: str | None = None,
    file: str | None = None,
) -> dict[str, Any]:
    """Options of an entry's label graph, those that are given.

    Args:
        annotations: what is counted: those of the photos that the regime leaves to train on, or of all that the
            training split holds (``all``): labels without pixels cost less than photos.
        edges: kind of the edges, :data:`zoo.edges.EDGES`, with its options at their defaults.
        threshold: as :func:`zoo.label_graph` has it, like the next three.
        p: likewise.
        normalization: likewise.
        embeddings: likewise.
        file: a label graph that ``zoo graph`` saved, in the place of one that is counted.

    Raises:
        InputError: a file, and options of a graph that is counted.
    """
    given = {key: value for key, value in locals().items() if value is not None}
    if file is not None and len(given) > 1:
        raise InputError(
            f"graph.file={file} is a whole label graph: {', '.join(sorted(given.keys() - {'file'}))} cannot change it"
        )
    return dict(sorted(given.items()))


def entry_graph(entry: Entry, data: ImageDataset, defaults: Mapping[str, Any]) -> Data:
    """The label graph that an entry's head asks for, no control applied; labels without edges for a baseline.

    Args:
        entry: its graph options stand over the defaults.
        data: whose labels are counted, where they have to be.
        defaults: options of :func:`zoo.label_graph`, or ``file``, of a graph that is there.

    Raises:
        InputError: the file holds a graph of other labels; what :func:`zoo.label_graph` refuses.
    """
    head = entry.model.partition("-")[0]
    if not uses_graph(head):
        return unlinked_labels(data.label_names)
    options = {**({} if "file" in entry.graph_options else defaults), **entry.graph_options}
    if file := options.get("file"):
        graph = load_graph(file)
        if {*graph.label_names} != {*data.label_names}:
            raise InputError(
                f"{file} is a graph of other labels than those of {data.name}: "
                f"{shorten(graph.label_names, 3)}, not {shorten(data.label_names, 3)}"
            )
        return graph
    options.pop("annotations", None)
    return label_graph(data.label_counts(), **{"edges": graph_edges(head), **options})


def default_entries(backbone: str = BACKBONE, controls: bool = True) -> list[Entry]:
    """The comparison that answers "does a label graph help?": baselines, graph heads, and controls of ``mlgcn``."""
    texts = []
    for entry in DEFAULT_HEADS:
        head, colon, options = entry.partition(":")
        texts.append(f"{head}-{backbone}{colon}{options}")
    entries = parse_entries(texts)
    return with_controls(entries) if controls else entries


def split_names(text: str) -> list[str]:
    """``a,b`` as a list. Commas inside brackets belong to an option: ``mlp-resnet18:widths=[512,512]``."""
    return [name for name in re.split(r",(?![^\[]*\])", text) if name.strip()]


def parse_entries(models: str | Sequence[str]) -> list[Entry]:
    """Entries from a list of them, or from what :func:`split_names` makes one."""
    texts = split_names(models) if isinstance(models, str) else models
    return _distinct([Entry.parse(text) for text in texts])


def with_controls(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with what they have to beat: baselines of each backbone, controls of its first graph head."""
    added: list[Entry] = []
    for backbone in dict.fromkeys(entry.model.partition("-")[2] for entry in entries):
        graph_heads = [e for e in entries if e.kind == "graph" and e.model.endswith(f"-{backbone}")]
        if graph_heads:
            baselines = (f"linear-{backbone}", f"linear-{backbone}:pooling=max", f"mlp-{backbone}")
            added += map(Entry.parse, baselines)
            first = graph_heads[0]
            added += [Entry(first.model, first.options, name, first.graph_options) for name in CONTROLS]
    return _distinct([*entries, *added])


def _distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Without those that say once more what an earlier one says, be it by writing a default out."""
    meanings: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        meaning = (entry.model, entry.graph, entry.settings, _compact(entry.graph_options))
        meanings.setdefault(meaning, entry)
    return list(meanings.values())


def _compact(value: Any) -> str:
    def name(unwritable: Any) -> str:  # a class as conv; its repr may hold an address
        return getattr(unwritable, "__qualname__", type(unwritable).__qualname__)

    return json.dumps(value, separators=(",", ":"), sort_keys=True, default=name)
