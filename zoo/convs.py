"""PyG convolutions by name, under one call: ``conv(x, edge_index, edge_weight)``.

    x (L,in), edge_index (2,M), edge_weight (M,)  --build_conv("GCNConv", in, out)-->  (L,out)

The weights of a label graph are normalised and hold its self-loops already, so every convolution takes them
as they are: none adds self-loops, none normalises a second time. With S the L x L matrix that the edges spell
(``S[target, source] = edge_weight``), GCNConv is ``S x W`` and nothing else. Where PyG leaves no such choice,
a small subclass here runs the same parameters over the given weights.

``CONVS`` is the whole list; what is known about a convolution stands in its record and nowhere else. Add your
own with ``CONVS["mine"] = ConvSpec(MyConv)``, and ask ``zoo.check_conv("mine")`` whether it keeps the contract.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch_geometric.nn.conv as pyg
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.lookup import InputError, lookup

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

    def forward(
        self, x: Float[Tensor, "L in"], edge_index: Int[Tensor, "2 M"], edge_weight: Float[Tensor, " M"]
    ) -> Float[Tensor, "L out"]:
        """One round of the convolution; weights are used as they are."""
        x = self.resize(x)
        inputs = (x, x) if self.takes_x0 else (x,)
        return self.conv(*inputs, edge_index, edge_weight[:, None] if self.as_edge_attr else edge_weight)


class _GCNConv(pyg.GCNConv):
    """``S x W`` without bias, from ML-GCN's start: W uniform in +-1/sqrt(out).

    The product is taken in the cheaper order: PyG's always propagates at the output width, which for the first
    layer of ML-GCN is 1,024 instead of the 300 (or 50) of the label vectors.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, normalize=False, add_self_loops=False, bias=False)
        bound = out_channels**-0.5
        nn.init.uniform_(self.lin.weight, -bound, bound)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        if self.in_channels < self.out_channels:
            return self.lin(self.propagate(edge_index, x=x, edge_weight=edge_weight))
        return self.propagate(edge_index, x=self.lin(x), edge_weight=edge_weight)


class _SGConv(pyg.SGConv):
    """``S^K x W``; PyG's always normalises S."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        for _ in range(self.K):
            x = self.propagate(edge_index, x=x, edge_weight=edge_weight)
        return self.lin(x)


class _SSGConv(pyg.SSGConv):
    """``(alpha x + (1 - alpha) / K sum_k S^k x) W``; PyG's always normalises S."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        power = x
        for _ in range(self.K):
            power = self.propagate(edge_index, x=power, edge_weight=edge_weight)
            total = total + power
        return self.lin(self.alpha * x + (1 - self.alpha) / self.K * total)


class _ChebConv(pyg.ChebConv):
    """Chebyshev polynomials of the scaled Laplacian ``2 L / lambda_max - I``.

    With ``L = I - S`` and the bound ``lambda_max = 2`` of a normalised graph (Kipf & Welling 2017, eq. 6) it
    is ``-S``: finite for any weights, where PyG's own normalisation is not when some are negative.
    """

    def __norm__(  # PyG's hook; every argument but these two belongs to the normalisation that is left out
        self, edge_index: Tensor, num_nodes: int, edge_weight: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        return edge_index, -edge_weight


class _ARMAConv(pyg.ARMAConv):
    """``x_t+1 = relu(S x_t W_t + x_0 V_t + b_t)``; PyG's always normalises S."""

    def __init__(self, in_channels: int, out_channels: int, num_layers: int) -> None:
        super().__init__(in_channels, out_channels, num_layers=num_layers)
        if num_layers == 1:  # PyG allocates the weight of a second layer all the same, and never uses it
            self.register_parameter("weight", None)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        x_0 = x[None]  # (stacks, L, channels): PyG's parameters have room for parallel stacks
        out = x_0
        for t in range(self.num_layers):
            weight = self.init_weight if t == 0 else self.weight[t - 1]
            out = self.propagate(edge_index, x=out @ weight, edge_weight=edge_weight)
            out = self.act(out + x_0 @ self.root_weight[t] + self.bias[t])
        return out.mean(0)


class _MixHopConv(pyg.MixHopConv):
    """``[x W_0, S x W_1, S^2 x W_2, ...] + b``; PyG's always normalises S, and each power has the full width.

    Here the powers share the output width among themselves.
    """

    def __init__(self, in_channels: int, out_channels: int, hops: int) -> None:
        if out_channels <= hops:
            raise InputError(
                f"conv 'MixHopConv' shares its {out_channels} output channels among {hops + 1} powers "
                f"(hops + 1): choose hops below {out_channels}"
            )
        super().__init__(in_channels, out_channels, powers=list(range(hops + 1)), add_self_loops=False)
        widths = [len(part) for part in torch.arange(out_channels).tensor_split(hops + 1)]
        self.lins = nn.ModuleList(nn.Linear(in_channels, width, bias=False) for width in widths)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        parts = [self.lins[0](x)]
        for lin in self.lins[1:]:
            x = self.propagate(edge_index, x=x, edge_weight=edge_weight)
            parts.append(lin(x))
        return torch.cat(parts, dim=1) + self.bias


class _DNAConv(pyg.DNAConv):
    """PyG's attends over the outputs (L, layers, channels) of all earlier layers; here there is one."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        return super().forward(x[:, None], edge_index, edge_weight)


class _GPSConv(pyg.GPSConv):
    """PyG's takes the edge weight by name only."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        return super().forward(x, edge_index, edge_weight=edge_weight)


def _attention(
    conv: Callable[..., nn.Module], in_channels: int, out_channels: int, attention_heads: int = 1
) -> nn.Module:
    """Attention heads that keep the output at ``out_channels``.

    They share the width and are concatenated where it can be divided by their number; otherwise each has the
    full width and they are averaged.
    """
    concat = out_channels % attention_heads == 0
    width = out_channels // attention_heads if concat else out_channels
    return conv(in_channels, width, heads=attention_heads, concat=concat, edge_dim=1)


def _pna(in_channels: int, out_channels: int) -> nn.Module:
    aggregators = ["mean", "min", "max", "std"]
    unused_degrees = torch.ones(2)
    return pyg.PNAConv(in_channels, out_channels, aggregators, ["identity"], unused_degrees, edge_dim=1)


def _mlp(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(in_channels, out_channels), nn.ReLU(), nn.Linear(out_channels, out_channels)
    )


# In the lambdas, i and o are in_channels and out_channels. Hyperparameters are the papers', where given.
# fmt: off
CONVS: dict[str, ConvSpec] = {
    # S x, one hop or several, and linear maps: no nonlinearity.
    "GCNConv": ConvSpec(
        _GCNConv, linear=True, note="ML-GCN's layer: no bias, its initial weights",
        paper="Kipf & Welling, ICLR 2017", url="https://arxiv.org/abs/1609.02907"),
    "SGConv": ConvSpec(
        lambda i, o, hops=2: _SGConv(i, o, K=hops), linear=True,
        paper="Wu et al., ICML 2019", url="https://arxiv.org/abs/1902.07153"),
    "SSGConv": ConvSpec(
        lambda i, o, hops=16: _SSGConv(i, o, alpha=0.05, K=hops), linear=True,
        paper="Zhu & Koniusz, ICLR 2021", url="https://openreview.net/forum?id=CYO5T-YjWZV"),
    "APPNP": ConvSpec(
        lambda i, o, hops=10: pyg.APPNP(hops, alpha=0.1, normalize=False), keeps_width=True, linear=True,
        paper="Klicpera et al., ICLR 2019", url="https://arxiv.org/abs/1810.05997"),
    "ChebConv": ConvSpec(
        lambda i, o, hops=2: _ChebConv(i, o, K=hops + 1), linear=True, note="scaled Laplacian -S",
        paper="Defferrard et al., NeurIPS 2016", url="https://arxiv.org/abs/1606.09375"),
    "TAGConv": ConvSpec(
        lambda i, o, hops=2: pyg.TAGConv(i, o, K=hops, normalize=False), linear=True,
        paper="Du et al., 2017", url="https://arxiv.org/abs/1710.10370"),
    "MixHopConv": ConvSpec(
        lambda i, o, hops=2: _MixHopConv(i, o, hops), linear=True, note="the powers share the output width",
        paper="Abu-El-Haija et al., ICML 2019", url="https://arxiv.org/abs/1905.00067"),
    "LGConv": ConvSpec(
        lambda i, o: pyg.LGConv(normalize=False), keeps_width=True, linear=True,
        paper="He et al., SIGIR 2020", url="https://arxiv.org/abs/2002.02126"),
    "SimpleConv": ConvSpec(
        lambda i, o: pyg.SimpleConv(aggr="sum"), keeps_width=True, linear=True,
        note="on weights taken as they are, the same map as LGConv",
        paper="PyTorch Geometric", url="https://pytorch-geometric.readthedocs.io"),
    "GCN2Conv": ConvSpec(
        lambda i, o: pyg.GCN2Conv(o, alpha=0.1, theta=0.5, layer=1, normalize=False),
        keeps_width=True, takes_x0=True, linear=True,
        paper="Chen et al., ICML 2020", url="https://arxiv.org/abs/2007.02133"),
    "GraphConv": ConvSpec(
        lambda i, o: pyg.GraphConv(i, o), linear=True,
        paper="Morris et al., AAAI 2019", url="https://arxiv.org/abs/1810.02244"),
    "LEConv": ConvSpec(
        lambda i, o: pyg.LEConv(i, o), linear=True,
        paper="Ranjan et al., AAAI 2020", url="https://arxiv.org/abs/1911.07979"),
    "WLConvContinuous": ConvSpec(
        lambda i, o: pyg.WLConvContinuous(), keeps_width=True, linear=True,
        note="divides by the sum of the incoming weights, by definition: unstable when some are negative",
        paper="Togninalli et al., NeurIPS 2019", url="https://arxiv.org/abs/1906.01277"),
    # Linear in x still, with messages that a network makes from the edge weight.
    "PDNConv": ConvSpec(
        lambda i, o: pyg.PDNConv(i, o, 1, hidden_channels=16, normalize=False),
        weight="edge_attr", linear=True,
        paper="Rozemberczki et al., WWW 2021", url="https://arxiv.org/abs/2010.12878"),
    "GMMConv": ConvSpec(
        lambda i, o: pyg.GMMConv(i, o, dim=1, kernel_size=4), weight="edge_attr", linear=True,
        note="the mean over incoming edges, by definition",
        paper="Monti et al., CVPR 2017", url="https://arxiv.org/abs/1611.08402"),
    "NNConv": ConvSpec(
        lambda i, o: pyg.NNConv(i, o, nn.Linear(1, i * o)), weight="edge_attr", linear=True,
        note="holds one in x out matrix per edge: for narrow layers",
        paper="Gilmer et al., ICML 2017", url="https://arxiv.org/abs/1704.01212"),
    "GeneralConv": ConvSpec(
        lambda i, o: pyg.GeneralConv(i, o, in_edge_channels=1), weight="edge_attr", linear=True,
        paper="You et al., NeurIPS 2020", url="https://arxiv.org/abs/2011.08843"),
    # Attention over the incoming edges.
    "GATConv": ConvSpec(
        partial(_attention, partial(pyg.GATConv, add_self_loops=False)), weight="edge_attr",
        paper="Velickovic et al., ICLR 2018", url="https://arxiv.org/abs/1710.10903"),
    "GATv2Conv": ConvSpec(
        partial(_attention, partial(pyg.GATv2Conv, add_self_loops=False)), weight="edge_attr",
        paper="Brody et al., ICLR 2022", url="https://arxiv.org/abs/2105.14491"),
    "TransformerConv": ConvSpec(
        partial(_attention, pyg.TransformerConv), weight="edge_attr",
        paper="Shi et al., IJCAI 2021", url="https://arxiv.org/abs/2009.03509"),
    "FAConv": ConvSpec(
        lambda i, o: pyg.FAConv(o, normalize=False), keeps_width=True, takes_x0=True,
        paper="Bo et al., AAAI 2021", url="https://arxiv.org/abs/2101.00797"),
    "DNAConv": ConvSpec(
        lambda i, o: _DNAConv(o, normalize=False), keeps_width=True,
        paper="Fey, ICLR-W 2019", url="https://arxiv.org/abs/1904.04849"),
    "GPSConv": ConvSpec(
        lambda i, o: _GPSConv(o, _GCNConv(o, o), norm="layer_norm"), keeps_width=True, local=False,
        note="GCNConv beside attention over all labels, edges or not",
        paper="Rampasek et al., NeurIPS 2022", url="https://arxiv.org/abs/2205.12454"),
    # Gates, aggregators and networks.
    "ARMAConv": ConvSpec(
        lambda i, o, hops=2: _ARMAConv(i, o, num_layers=hops),
        paper="Bianchi et al., TPAMI 2021", url="https://arxiv.org/abs/1901.01343"),
    "GatedGraphConv": ConvSpec(
        lambda i, o, hops=2: pyg.GatedGraphConv(o, num_layers=hops), keeps_width=True,
        paper="Li et al., ICLR 2016", url="https://arxiv.org/abs/1511.05493"),
    "ResGatedGraphConv": ConvSpec(
        lambda i, o: pyg.ResGatedGraphConv(i, o, edge_dim=1), weight="edge_attr",
        paper="Bresson & Laurent, 2017", url="https://arxiv.org/abs/1711.07553"),
    "GINEConv": ConvSpec(
        lambda i, o: pyg.GINEConv(_mlp(i, o), train_eps=True, edge_dim=1), weight="edge_attr",
        paper="Hu et al., ICLR 2020", url="https://arxiv.org/abs/1905.12265"),
    "GENConv": ConvSpec(
        lambda i, o: pyg.GENConv(i, o, norm="layer", edge_dim=1), weight="edge_attr",
        paper="Li et al., 2020", url="https://arxiv.org/abs/2006.07739"),
    "CGConv": ConvSpec(
        lambda i, o: pyg.CGConv(o, dim=1), weight="edge_attr", keeps_width=True,
        paper="Xie & Grossman, PRL 2018", url="https://doi.org/10.1103/PhysRevLett.120.145301"),
    "PNAConv": ConvSpec(
        _pna, weight="edge_attr", note="no degree scalers: they would need the graph at construction",
        paper="Corso et al., NeurIPS 2020", url="https://arxiv.org/abs/2004.05718"),
    "AntiSymmetricConv": ConvSpec(
        lambda i, o: pyg.AntiSymmetricConv(o, _GCNConv(o, o)), keeps_width=True,
        paper="Gravina et al., ICLR 2023", url="https://openreview.net/forum?id=J3Y7cgZOOS"),
}
# fmt: on

REFUSED: dict[str, str] = {
    "MessagePassing": "it is the base class of the others",
    # No argument for a weight.
    "SAGEConv": "it aggregates neighbours without weights",
    "GINConv": "it sums neighbours without weights (GINEConv takes them)",
    "AGNNConv": "its attention comes from the cosine of two labels alone",
    "MFConv": "it sums neighbours without weights, one matrix per degree",
    "EdgeConv": "its messages come from the two labels alone",
    "FeaStConv": "its attention comes from the two labels alone",
    "SuperGATConv": "its attention comes from the two labels alone",
    "ClusterGCNConv": "it normalises by the degree and has no argument for weights",
    "FiLMConv": "its messages come from the two labels and a relation type",
    "EGConv": "it normalises by the degree and has no argument for weights",
    "PANConv": "its path weights are learned, one per path length",
    "WLConv": "it hashes discrete colours and has no gradient",
    "DirGNNConv": "its forward hands the wrapped convolution no weights",
    "SignedConv": "it splits edges into positive and negative ones and weighs none",
    # Another kind of graph.
    "HypergraphConv": "its weights belong to hyperedges",
    "RGCNConv": "it expects edge types",
    "FastRGCNConv": "it expects edge types",
    "RGATConv": "it expects edge types; with a single type it is GATConv",
    "HEATConv": "it expects node and edge types; with single types it is GATConv",
    "HGTConv": "it expects node and edge types",
    "HANConv": "it expects node and edge types",
    "HeteroConv": "it wraps one convolution per edge type",
    # Points in space.
    "GravNetConv": "it finds neighbours by itself, from x alone",
    "DynamicEdgeConv": "it finds neighbours by itself, from x alone",
    "XConv": "it expects positions in space",
    "PointNetConv": "it expects positions in space",
    "PPFConv": "it expects positions in space and surface normals",
    "PointTransformerConv": "it expects positions in space",
    "PointGNNConv": "it expects positions in space",
    "MeshCNNConv": "it expects the edges of a triangle mesh",
    # Compiled extensions.
    "SplineConv": "its kernels need the compiled pyg-lib, and weights within [0, 1]",
    "FusedGATConv": "it needs the CUDA extension dgNN and has no argument for weights",
    "CuGraphSAGEConv": "it needs RAPIDS and has no argument for weights",
    "CuGraphGATConv": "it needs RAPIDS; GATConv is the same layer",
    "CuGraphRGCNConv": "it needs RAPIDS and edge types",
}


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
