"""What there is by name, with what is to be known of it: the tables of ``zoo list --verbose``."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import track

from zoo.augment import AUGMENTATIONS
from zoo.convs import conv_spec
from zoo.cost import backbone_size, head_cost
from zoo.heads import HEADS, graph_edges, head_class, overrides, uses_graph
from zoo.label_spaces import LABEL_SPACES, label_counts, label_space
from zoo.losses import LOSSES
from zoo.tables import show_rows


def describe_heads(names: list[str], backbone: str, labels: str, map_size: int) -> None:
    """What they are, what they read and can do, their parameters and FLOPs: asked of the heads, or counted."""
    num_features, num_parameters = backbone_size(backbone)
    graphs = {edges: label_space(labels, edges=edges) for edges in {graph_edges(name) for name in names}}
    terminal = sys.stderr.isatty()  # a bar in a file is noise
    rows: list[dict[str, Any]] = []
    for name in track(names, "counting", console=Console(stderr=True), transient=True, disable=not terminal):
        head = head_class(name)
        reads = "map" if overrides(head, "uses_positions") else "pooled"
        folds = "at times" if overrides(head, "check_foldable") else "yes"
        cost = head_cost(name, num_features, graphs[graph_edges(name)], map_size)
        rows.append(
            {
                "head": name,
                "reads": f"{reads}, graph" if uses_graph(name) else reads,
                "known labels": "used" if overrides(head, "refine") else "-",
                "folds": folds if overrides(head, "classifiers") else "-",
                "parameters, M": cost.parameters / 1e6,
                "MFLOPs an image": cost.flops_image / 1e6,
                "once": cost.flops_once / 1e6,
            }
        )
    say_what_it_is("head", names, HEADS)
    print(
        f"\nOn {backbone} ({num_parameters / 1e6:,.1f} M parameters): {num_features:,} channels at "
        f"{map_size} x {map_size} positions, {labels} labels.\n"
        "FLOPs are those of products and of sums over edges; once: whatever the number of images.\n"
    )
    show_rows(rows)


def describe_convs(names: list[str]) -> None:
    """Options, paper, and what to know before choosing one."""
    specs = [(name, conv_spec(name)) for name in names]
    show_rows(
        [
            {"conv": name, "options": _assigned(spec.options), "paper": spec.paper, "note": spec.note}
            for name, spec in specs
        ]
    )


def describe_label_spaces(names: list[str]) -> None:
    """How many labels and images, what was counted, whose annotations they are."""
    rows: list[dict[str, Any]] = []
    for name in names:
        space = LABEL_SPACES[name]
        rows.append(
            {
                "label space": name,
                "labels": len(label_counts(name).label_names),
                "images": space.num_images,
                "counted": space.protocol,
                "source": space.source,
            }
        )
    show_rows(rows)


def describe_losses(names: list[str]) -> None:
    """Options with their defaults, and what they are."""
    _describe_functions("loss", names, LOSSES, given="label_counts")


def describe_augmentations(names: list[str]) -> None:
    """Options with their defaults, and what they are."""
    _describe_functions("augmentation", names, AUGMENTATIONS, given="data_config")


def _describe_functions(kind: str, names: list[str], table: Mapping[str, Any], given: str) -> None:
    """Of entries that are called with options, and with one argument that is none."""
    rows: list[dict[str, Any]] = []
    for name in names:
        parameters = inspect.signature(table[name]).parameters.values()
        options = {option.name: option.default for option in parameters if option.name != given}
        rows.append({kind: name, "options": _assigned(options), "what it is": _first_line(table[name])})
    show_rows(rows)


def say_what_it_is(kind: str, names: list[str], table: Mapping[str, Any]) -> None:
    """The first line of what each entry says of itself or, where it is another with options set, which and what."""
    rows: list[dict[str, Any]] = []
    for name in names:
        entry = table[name]
        if isinstance(entry, functools.partial):
            base = next((other for other in table if table[other] is entry.func), entry.func.__name__)
            text = f"{base} with {_assigned(entry.keywords)}"
        else:
            text = _first_line(entry)
            if text.startswith("See the module's docstring"):
                text = _first_line(sys.modules[entry.__module__])
        rows.append({kind: name, "what it is": text})
    show_rows(rows)


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]


def _assigned(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={getattr(value, '__name__', value)}" for name, value in options.items())
