"""The heads, by name. Add your own with ``HEADS["mine"] = MyHead``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch_geometric.data import Data

from zoo.graph import unlinked_labels
from zoo.heads.addgcn import AddGCNHead
from zoo.heads.agcn import AGCNHead
from zoo.heads.cma import CMAHead
from zoo.heads.coupled import CoupledHead
from zoo.heads.csra import CSRAHead
from zoo.heads.gatn import GATNHead
from zoo.heads.graph_head import GraphHead
from zoo.heads.head import Head, Standardize
from zoo.heads.linear import LinearHead
from zoo.heads.logitgcn import LogitGCNHead
from zoo.heads.mldecoder import MLDecoderHead, MLDecoderWordsHead
from zoo.heads.mlp import MLPHead
from zoo.heads.q2l import Query2LabelHead
from zoo.heads.ssgrl import SSGRLHead
from zoo.lookup import InputError, lookup, unknown

HEADS: dict[str, Callable[..., Head]] = {
    "addgcn": AddGCNHead,
    "agcn": AGCNHead,
    "appnp": partial(GraphHead, conv="APPNP", mlp_widths=(1024,), widths=(), hops=10),
    "cheb": partial(GraphHead, conv="ChebConv", hops=2),
    "cma": CMAHead,
    "coupled": CoupledHead,
    "csra": CSRAHead,
    "gat": partial(GraphHead, conv="GATConv", attention_heads=4),
    "gatn": GATNHead,
    "gatv2": partial(GraphHead, conv="GATv2Conv", attention_heads=4),
    "linear": LinearHead,
    "logitgcn": LogitGCNHead,
    "mldecoder": MLDecoderHead,
    "mldecoder_words": MLDecoderWordsHead,
    "mlgcn": GraphHead,
    "mlp": MLPHead,
    "q2l": Query2LabelHead,
    "sgc": partial(GraphHead, conv="SGConv", widths=(), hops=2),
    "ssgc": partial(GraphHead, conv="SSGConv", widths=(), hops=16),
    "ssgrl": SSGRLHead,
    "transformer": partial(GraphHead, conv="TransformerConv", attention_heads=4),
}


def list_heads() -> list[str]:
    """Names of the heads."""
    return sorted(HEADS)


def head_options(name: str) -> dict[str, Any]:
    """The options of a head with their defaults, as its signature (and its entry in the table) gives them."""
    _, _, *options = inspect.signature(lookup("head", name, HEADS)).parameters.values()
    return {option.name: option.default for option in options}


def uses_graph(name: str) -> bool:
    """Whether a head reads the edges or the vectors of the label graph."""
    return getattr(head_class(name), "uses_graph", False)


def graph_edges(name: str) -> str:
    """The kind of label graph that a head wants: a name in :data:`zoo.graph.EDGES`."""
    return getattr(head_class(name), "edges", Head.edges)


def head_class(name: str) -> Any:
    """The class behind an entry, whatever options the entry sets; of a function it is the function itself."""
    entry = lookup("head", name, HEADS)
    return getattr(entry, "func", entry)


def overrides(head: Any, attribute: str) -> bool:
    """Whether a class of heads has an attribute of its own, not :class:`Head`'s; of a function nothing is known."""
    inherited = getattr(Head, attribute)
    return getattr(head, attribute, inherited) is not inherited


def heads_that_override(attribute: str) -> str:
    """Their names, for the error of a head that does not."""
    return ", ".join(sorted(name for name in HEADS if overrides(head_class(name), attribute)))


def build_head(name: str, num_features: int | Sequence[int], labels: Data, /, **options: Any) -> Head:
    """Builds a head by name.

    Args:
        name: an entry of :data:`HEADS`.
        num_features: D, channels of the feature map; of each level's map for a head with several ``levels``.
        labels: the label graph.
        options: of that head; see :func:`head_options`.

    Raises:
        InputError: no such head, or an option that it does not have.
    """
    known = head_options(name)
    for option in options:
        if option not in known:
            raise unknown(f"option of head {name!r}", option, known)
    return HEADS[name](num_features, labels, **options)


def fold_head(head: Head) -> LinearHead:
    """The linear head with the classifiers that this head generates: the same logits, without the graph.

    Raises:
        InputError: the head reasons about each image, so it cannot be folded.
    """
    if not overrides(type(head), "classifiers"):
        raise InputError(
            f"{type(head).__name__} reasons about each image, so it cannot be folded into one linear layer. "
            f"Heads that can: {heads_that_override('classifiers')}"
        )
    head.check_foldable()
    with torch.no_grad():
        classifiers, bias = head.classifiers(), head.classifier_bias()
        if isinstance(head.norm, Standardize):  # W (x - mean) / std + b = (W / std) x + (b - (W / std) mean)
            classifiers = classifiers / head.norm.std
            shift = classifiers @ head.norm.mean
            bias = -shift if bias is None else bias - shift
        if head.offset is not None:
            bias = head.offset if bias is None else bias + head.offset
    folded = LinearHead(
        head.num_features,
        unlinked_labels(head.label_names),
        pooling=head.pooling,
        dropout=head.dropout.p,
        bias=bias is not None,
    )
    with torch.no_grad():
        folded.linear.weight.copy_(classifiers)
        if bias is not None:
            folded.linear.bias.copy_(bias)
    folded.pool.load_state_dict(head.pool.state_dict())
    return folded.to(classifiers).train(head.training)


def check_reasons(head: Head) -> None:
    """Whether a head reasons from known labels to others.

    Raises:
        InputError: it does not; the message names those that do.
    """
    if not overrides(type(head), "refine"):
        raise InputError(
            f"{type(head).__name__} does not reason from known labels to others. "
            f"Heads that do: {heads_that_override('refine')}"
        )
