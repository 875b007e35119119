"""``zoo.check_conv``: does a new convolution keep the contract of :mod:`zoo.convs`?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from zoo.convs import ConvSpec, build_conv, conv_name


@dataclass(frozen=True)
class ConvReport:
    """What :func:`check_conv` found: one boolean a check, and advice on each that failed. ``print`` it."""

    name: str
    builds: bool
    shape: bool
    widths: bool
    edge_weights: bool
    gradients: bool
    direction: bool
    equivariance: bool
    export: bool
    state_dict: bool
    float64: bool
    advice: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return not self.advice

    def __str__(self) -> str:
        verdict = "every check passed" if self.ok else f"failed: {', '.join(self.advice)}"
        lines = [f"{self.name}: {verdict}"]
        for check, (what, _, _) in _CHECKS.items():
            mark = "pass" if getattr(self, check) else "FAIL" if check in self.advice else "  - "
            lines.append(f"  {mark}  {check:<13} {what}")
            if check in self.advice:
                lines.append(f"        {self.advice[check]}")
        return "\n".join(lines)


def check_conv(conv: str | ConvSpec | Callable[..., nn.Module]) -> ConvReport:
    """Tries a convolution on a small graph and says what works: for the author of a new one.

    Args:
        conv: what :func:`build_conv` takes.

    Returns:
        The report. A convolution that fails a check, or raises in it, is explained and never raises here. If
        ``builds`` fails, the other checks are not tried and count as not passed.
    """
    passed = dict.fromkeys(_CHECKS, False)
    advice: dict[str, str] = {}
    for check, (_, test, hint) in _CHECKS.items():
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                test(partial(build_conv, conv))
            passed[check] = True
        except _Failed as error:
            advice[check] = f"{error}. {hint}"
        except Exception as error:
            first_line = (str(error).strip() or "no message").splitlines()[0]
            advice[check] = f"It raised {type(error).__name__}: {first_line.rstrip('.')}. {hint}"
        if not passed["builds"]:
            break
    return ConvReport(name=conv_name(conv), **passed, advice=advice)


class _Failed(Exception):
    """A check's finding, in words."""


_Make = Callable[[int, int], nn.Module]


def _example(width: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """x (6, width) and the edges of a graph: the one-way path 0 -> 1 -> ... -> 5, self-loops, 5 -> 2."""
    weights = torch.diag(torch.rand(6) + 0.5) + torch.diag(torch.rand(5) + 0.2, 1)
    weights[5, 2] = 0.4
    edge_index = weights.nonzero().T.contiguous()
    return torch.randn(6, width), edge_index, weights[edge_index[0], edge_index[1]]


def _require(condition: bool, finding: str) -> None:
    if not condition:
        raise _Failed(finding)


def _check_builds(make: _Make) -> None:
    make(8, 12)


def _check_shape(make: _Make) -> None:
    shape = tuple(make(8, 12).eval()(*_example()).shape)
    _require(shape == (6, 12), f"6 labels of width 8 became {shape} instead of (6, 12)")


def _check_widths(make: _Make) -> None:
    for in_channels, out_channels in ((8, 8), (12, 8), (8, 7), (5, 24)):
        shape = tuple(make(in_channels, out_channels).eval()(*_example(in_channels)).shape)
        _require(
            shape == (6, out_channels), f"{in_channels} -> {out_channels} channels gave the shape {shape}"
        )


def _check_edge_weights(make: _Make) -> None:
    conv = make(8, 12).eval()
    x, edge_index, edge_weight = _example()
    heavier = edge_weight + 0.5 * ((edge_index[0] == 0) & (edge_index[1] == 1))
    moved = (conv(x, edge_index, heavier) - conv(x, edge_index, edge_weight)).abs().amax(1)
    _require(moved[1].item() > 0, "label 1 did not move when the weight of the edge 0 -> 1 did")


def _check_gradients(make: _Make) -> None:
    conv = make(8, 12)
    with torch.no_grad():  # so that a layer which starts at zero does not hide those behind it
        for parameter in conv.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    conv(*_example()).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in conv.named_parameters()}
    dead = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
    wild = [
        name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()
    ]
    _require(not dead, f"no gradient reaches {', '.join(dead)}")
    _require(not wild, f"the gradient is not finite at {', '.join(wild)}")


def _check_direction(make: _Make) -> None:
    conv = make(8, 12).eval()
    x, edge_index, edge_weight = _example()
    changed = x.clone()
    changed[0] += 1
    moved = (conv(changed, edge_index, edge_weight) - conv(x, edge_index, edge_weight)).abs().amax(1)
    _require(moved[1].item() > 0, "label 1 did not move when label 0 did, the source of the edge 0 -> 1")


def _check_equivariance(make: _Make) -> None:
    conv = make(8, 12).eval()
    x, edge_index, edge_weight = _example()
    order = torch.randperm(6)
    renamed = order.argsort()[edge_index]
    by_source = (renamed[0] * 6 + renamed[1]).argsort()
    permuted = conv(x[order], renamed[:, by_source], edge_weight[by_source])
    gap = (permuted - conv(x, edge_index, edge_weight)[order]).abs().max().item()
    _require(gap < 1e-4, f"permuting the labels changed their outputs by up to {gap:.2g}")


def _check_export(make: _Make) -> None:
    conv = make(8, 12).eval()
    inputs = _example()
    gap = (torch.export.export(conv, inputs).module()(*inputs) - conv(*inputs)).abs().max().item()
    _require(gap < 1e-4, f"the exported program differs by up to {gap:.2g}")


def _check_state_dict(make: _Make) -> None:
    conv, other = make(8, 12).eval(), make(8, 12).eval()
    inputs = _example()
    conv(*inputs)  # what the first call leaves behind must be saved too
    other.load_state_dict(conv.state_dict())
    _require(
        torch.equal(conv(*inputs), other(*inputs)),
        "a second module with the same state_dict gave another result",
    )


def _check_float64(make: _Make) -> None:
    x, edge_index, edge_weight = _example()
    dtype = make(8, 12).double().eval()(x.double(), edge_index, edge_weight.double()).dtype
    _require(dtype == torch.float64, f"float64 came out as {dtype}")


# field of ConvReport -> (what is checked, how, what to do about it)
# fmt: off
_CHECKS: dict[str, tuple[str, Callable[[_Make], None], str]] = {
    "builds": ("conv(in_channels, out_channels) makes a module", _check_builds,
        "Give a class or function of two widths whose modules have forward(x, edge_index, edge_weight)."),
    "shape": ("x (L, in) becomes (L, out)", _check_shape,
        "forward(x, edge_index, edge_weight) returns one row a label, out_channels wide."),
    "widths": ("any pair of widths works", _check_widths,
        "If it cannot change the width, ConvSpec(MyConv, keeps_width=True) puts a linear layer in front."),
    "edge_weights": ("the output depends on the edge weights", _check_edge_weights,
        "Multiply messages by edge_weight[:, None]. With edge features: ConvSpec(MyConv, 'edge_attr')."),
    "gradients": ("every parameter gets a finite gradient", _check_gradients,
        "Remove parameters that forward does not use, and look for detach(), 0/0 and sqrt(0)."),
    "direction": ("messages flow from edge_index[0] to edge_index[1]", _check_direction,
        "Aggregate at the target, edge_index[1]: PyG's flow='source_to_target'."),
    "equivariance": ("permuting the labels permutes the output", _check_equivariance,
        "No parameter, mask or noise may belong to a position among the labels."),
    "export": ("torch.export works", _check_export,
        "Avoid Python branches on tensor values, .item(), and shapes that depend on values."),
    "state_dict": ("state_dict holds all there is", _check_state_dict,
        "Register tensors as parameters or buffers, and never set cached=True."),
    "float64": ("follows the dtype of its input", _check_float64,
        "Make new tensors with x.new_zeros(...) and the like."),
}
# fmt: on
