"""PyG convolutions by name, under one call: ``conv(x, edge_index, edge_weight)``.

    x (L,in), edge_index (2,M), edge_weight (M,)  --build_conv("GCNConv", in, out)-->  (L,out)

The weights of a label graph are normalised and hold its self-loops already, so every convolution takes them
as they are: none adds self-loops, none normalises a second time. With S the L x L matrix that the edges spell
(``S[target, source] = edge_weight``), GCNConv is ``S x W`` and nothing else. Where PyG leaves no such choice,
a small subclass (``adapted.py``) runs the same parameters over the given weights.

``CONVS`` (``table.py``) is the whole list; what is known about a convolution stands in its record and nowhere
else. Add your own with ``CONVS["mine"] = ConvSpec(MyConv)``, and ask ``zoo.check_conv("mine")`` whether it
keeps the contract.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch_geometric.nn.conv as pyg
from torch import nn

from zoo.convs.spec import AdaptedConv, ConvSpec
from zoo.convs.table import CONVS, REFUSED
from zoo.lookup import InputError, lookup

__all__ = [
    "CONVS",
    "REFUSED",
    "AdaptedConv",
    "ConvSpec",
    "build_conv",
    "conv_name",
    "conv_spec",
    "list_convs",
]


def list_convs() -> list[str]:
    """The names that ``build_conv`` knows, sorted."""
    return sorted(CONVS)


def conv_spec(conv: str | ConvSpec | Callable[..., nn.Module]) -> ConvSpec:
    """The record of a convolution.

    Args:
        conv: a name of ``CONVS``, a record, or your own class or function ``conv(in_channels, out_channels)``
            whose modules have the call ``forward(x, edge_index, edge_weight)``. A bare class of PyG's stands
            for its name: built as it is, most would normalise the weights again.

    Raises:
        InputError: the name is unknown, or that convolution cannot use edge weights.
    """
    if isinstance(conv, ConvSpec):
        return conv
    if isinstance(conv, str):
        if conv in REFUSED and conv not in CONVS:
            raise InputError(
                f"conv {conv!r} cannot use edge weights: {REFUSED[conv]}. "
                f"Convolutions that can: {', '.join(list_convs())}"
            )
        entry = lookup("conv", conv, CONVS)
        return entry if isinstance(entry, ConvSpec) else ConvSpec(entry)  # users may put in a bare class
    name = getattr(conv, "__name__", "")
    if name in pyg.__all__ and getattr(pyg, name) is conv:
        return conv_spec(name)
    if isinstance(conv, nn.Module):
        raise InputError(
            f"conv wants the class or a function (in_channels, out_channels), not a built {conv_name(conv)}"
        )
    return ConvSpec(conv)


def build_conv(
    conv: str | ConvSpec | Callable[..., nn.Module],
    in_channels: int,
    out_channels: int,
    *,
    hops: int | None = None,
    attention_heads: int | None = None,
) -> AdaptedConv:
    """Builds a convolution that is called as ``conv(x, edge_index, edge_weight)``.

    Args:
        conv: a name of ``CONVS``, or your own: see :func:`conv_spec`.
        in_channels: width of x (L, in_channels).
        out_channels: width of the result (L, out_channels).
        hops: how many edges away a label still hears another; None: the convolution's default.
        attention_heads: they share ``out_channels`` and are concatenated where it can be divided by their
            number, otherwise each has the full width and they are averaged; None: the convolution's default.

    Returns:
        A module; ``forward`` takes x (L, in), edge_index (2, M) and edge_weight (M,) and returns (L, out).

    Raises:
        InputError: the convolution is unknown, cannot use edge weights, lacks the option or has another call.
    """
    spec = conv_spec(conv)
    given = {"hops": hops, "attention_heads": attention_heads}
    options = {option: value for option, value in given.items() if value is not None}
    for option, value in options.items():
        if option not in spec.options:
            known = [name for name in list_convs() if option in conv_spec(name).options]
            raise InputError(
                f"conv {conv_name(conv)!r} has no option {option}. Those that have it: {', '.join(known)}"
            )
        if value < 1:
            raise InputError(f"conv {conv_name(conv)!r}: {option} must be at least 1, not {value}")
    _require_call(spec.make, f"{conv_name(conv)}(in_channels, out_channels)", 2)
    module = AdaptedConv(spec, in_channels, out_channels, options)
    call = (
        "forward(x, x_0, edge_index, edge_weight)" if spec.takes_x0 else "forward(x, edge_index, edge_weight)"
    )
    _require_call(module.conv.forward, f"{conv_name(conv)}.{call}", 3 + spec.takes_x0)
    return module


def conv_name(conv: object) -> str:
    """What to call a convolution in messages."""
    return conv if isinstance(conv, str) else getattr(conv, "__name__", type(conv).__name__)


def _require_call(function: Callable[..., object], call: str, arguments: int) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(*range(arguments))
    except TypeError:
        raise InputError(f"a conv is called as {call}, but this one takes {signature}") from None
