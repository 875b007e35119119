"""What is known about a convolution, and the module that puts every one of them behind the same call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.lookup import InputError

OPTIONS = ("hops", "attention_heads")


@dataclass(frozen=True)
class ConvSpec:
    """What the zoo knows about one convolution.

    Attributes:
        make: ``make(in_channels, out_channels)`` returns the module. Its options are those of its parameters
            that are named ``hops`` (how many edges away a label still hears another) or ``attention_heads``.
        weight: how the edge weight goes in, as the last argument: ``"edge_weight"`` (M,) or, for convolutions
            with edge features, one-dimensional ``"edge_attr"`` (M, 1).
        keeps_width: the convolution cannot change the width; a linear layer in front does.
        takes_x0: ``forward(x, x_0, edge_index, ...)`` wants the first layer's features too: x itself.
        linear: the whole map is linear in x, apart from a bias.
        local: a label hears from its neighbours only; with nothing but its self-loop it stands alone.
        paper: the citation, short.
        url: where the paper is.
        note: what a user should know before choosing it.
    """

    make: Callable[..., nn.Module]
    weight: Literal["edge_weight", "edge_attr"] = "edge_weight"
    keeps_width: bool = False
    takes_x0: bool = False
    linear: bool = False
    local: bool = True
    paper: str = ""
    url: str = ""
    note: str = ""

    @property
    def options(self) -> dict[str, int]:
        """The named options this convolution has, and their defaults."""
        parameters = inspect.signature(self.make).parameters
        return {name: parameters[name].default for name in OPTIONS if name in parameters}


class AdaptedConv(nn.Module):
    """A convolution behind the one call of this zoo. Made by :func:`build_conv`."""

    def __init__(self, spec: ConvSpec, in_channels: int, out_channels: int, options: dict[str, int]) -> None:
        super().__init__()
        self.resize = nn.Linear(in_channels, out_channels) if spec.keeps_width else nn.Identity()
        self.conv = spec.make(out_channels if spec.keeps_width else in_channels, out_channels, **options)
        if not isinstance(self.conv, nn.Module):
            raise InputError(
                f"a conv is a torch.nn.Module, but {spec.make!r} made {type(self.conv).__name__}"
            )
        self.as_edge_attr = spec.weight == "edge_attr"
        self.takes_x0 = spec.takes_x0
        self.in_channels = in_channels

    def forward(
        self, x: Float[Tensor, "L in"], edge_index: Int[Tensor, "2 M"], edge_weight: Float[Tensor, " M"]
    ) -> Float[Tensor, "L out"]:
        """One round of the convolution; weights are used as they are."""
        x = self.resize(x)
        inputs = (x, x) if self.takes_x0 else (x,)
        return self.conv(*inputs, edge_index, edge_weight[:, None] if self.as_edge_attr else edge_weight)
