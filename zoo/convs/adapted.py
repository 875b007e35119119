"""PyG's convolutions where PyG insists on a normalisation or call of its own: same parameters, given weights.

None bears the name of its base class: PyG reads the source of both by name, and would take one for the other.
"""

from __future__ import annotations

import torch
import torch_geometric.nn.conv as pyg
from torch import Tensor, nn

from zoo.convs.spread import SpreadThenLinear
from zoo.lookup import InputError


class PlainGCNConv(SpreadThenLinear, pyg.GCNConv):
    """``S x W`` without bias, from ML-GCN's start: W uniform in +-1/sqrt(out).

    The product is taken in the cheaper order: PyG's always propagates at the output width, which for the first
    layer of ML-GCN is 1,024 instead of the 300 (or 50) of the label vectors.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, normalize=False, add_self_loops=False, bias=False)
        bound = out_channels**-0.5
        nn.init.uniform_(self.lin.weight, -bound, bound)

    def spread(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x, edge_weight=edge_weight)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        if self.in_channels < self.out_channels:
            return super().forward(x, edge_index, edge_weight)
        return self.spread(self.lin(x), edge_index, edge_weight)


class PlainSGConv(SpreadThenLinear, pyg.SGConv):
    """``S^K x W``; PyG's always normalises S."""

    def spread(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        for _ in range(self.K):
            x = self.propagate(edge_index, x=x, edge_weight=edge_weight)
        return x


class PlainSSGConv(SpreadThenLinear, pyg.SSGConv):
    """``(alpha x + (1 - alpha) / K sum_k S^k x) W``; PyG's always normalises S."""

    def spread(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        power = x
        for _ in range(self.K):
            power = self.propagate(edge_index, x=power, edge_weight=edge_weight)
            total = total + power
        return self.alpha * x + (1 - self.alpha) / self.K * total


class PlainChebConv(pyg.ChebConv):
    """Chebyshev polynomials of the scaled Laplacian ``2 L / lambda_max - I``.

    With ``L = I - S`` and the bound ``lambda_max = 2`` of a normalised graph (Kipf & Welling 2017, eq. 6) it
    is ``-S``: finite for any weights, where PyG's own normalisation is not when some are negative.
    """

    def __norm__(  # PyG's hook; every argument but these two belongs to the normalisation that is left out
        self, edge_index: Tensor, num_nodes: int, edge_weight: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        return edge_index, -edge_weight


class PlainARMAConv(pyg.ARMAConv):
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


class PlainMixHopConv(pyg.MixHopConv):
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


class PlainDNAConv(pyg.DNAConv):
    """PyG's attends over the outputs (L, layers, channels) of all earlier layers; here there is one."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        return super().forward(x[:, None], edge_index, edge_weight)


class PlainGPSConv(pyg.GPSConv):
    """PyG's takes the edge weight by name only."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        return super().forward(x, edge_index, edge_weight=edge_weight)
