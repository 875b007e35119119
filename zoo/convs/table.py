"""Every convolution of PyG's: how it is built and what is known of it, or why it is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch_geometric.nn.conv as pyg
from torch import nn

from zoo.convs.adapted import (
    PlainARMAConv,
    PlainChebConv,
    PlainDNAConv,
    PlainGCNConv,
    PlainGPSConv,
    PlainMixHopConv,
    PlainSGConv,
    PlainSSGConv,
)
from zoo.convs.spec import ConvSpec


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
        PlainGCNConv, linear=True, note="ML-GCN's layer: no bias, its initial weights",
        paper="Kipf & Welling, ICLR 2017", url="https://arxiv.org/abs/1609.02907"),
    "SGConv": ConvSpec(
        lambda i, o, hops=2: PlainSGConv(i, o, K=hops), linear=True,
        paper="Wu et al., ICML 2019", url="https://arxiv.org/abs/1902.07153"),
    "SSGConv": ConvSpec(
        lambda i, o, hops=16: PlainSSGConv(i, o, alpha=0.05, K=hops), linear=True,
        paper="Zhu & Koniusz, ICLR 2021", url="https://openreview.net/forum?id=CYO5T-YjWZV"),
    "APPNP": ConvSpec(
        lambda i, o, hops=10: pyg.APPNP(hops, alpha=0.1, normalize=False), keeps_width=True, linear=True,
        paper="Klicpera et al., ICLR 2019", url="https://arxiv.org/abs/1810.05997"),
    "ChebConv": ConvSpec(
        lambda i, o, hops=2: PlainChebConv(i, o, K=hops + 1), linear=True, note="scaled Laplacian -S",
        paper="Defferrard et al., NeurIPS 2016", url="https://arxiv.org/abs/1606.09375"),
    "TAGConv": ConvSpec(
        lambda i, o, hops=2: pyg.TAGConv(i, o, K=hops, normalize=False), linear=True,
        paper="Du et al., 2017", url="https://arxiv.org/abs/1710.10370"),
    "MixHopConv": ConvSpec(
        lambda i, o, hops=2: PlainMixHopConv(i, o, hops), linear=True, note="the powers share the output width",
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
        lambda i, o: PlainDNAConv(o, normalize=False), keeps_width=True,
        paper="Fey, ICLR-W 2019", url="https://arxiv.org/abs/1904.04849"),
    "GPSConv": ConvSpec(
        lambda i, o: PlainGPSConv(o, PlainGCNConv(o, o), norm="layer_norm"), keeps_width=True, local=False,
        note="GCNConv beside attention over all labels, edges or not",
        paper="Rampasek et al., NeurIPS 2022", url="https://arxiv.org/abs/2205.12454"),
    # Gates, aggregators and networks.
    "ARMAConv": ConvSpec(
        lambda i, o, hops=2: PlainARMAConv(i, o, num_layers=hops),
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
        lambda i, o: pyg.AntiSymmetricConv(o, PlainGCNConv(o, o)), keeps_width=True,
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
