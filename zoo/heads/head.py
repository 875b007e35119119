"""What every head is: pooling, dropout, then a classifier.

    feature map (B,D,h,w) --pool--> features (B,D) --norm, dropout--> classify --> refine --> logits (B,L)

Pooling, folding and the question which features can be cached are answered here, once, for all heads.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.graph import unlinked_labels
from zoo.lookup import InputError, lookup


class AvgPool(nn.Module):
    """Mean over positions, by the operations of timm's own classifiers: a folded model costs what those do."""

    def forward(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D"]:
        return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)


class MaxPool(nn.Module):
    """Maximum over positions: an object may be anywhere, and small. ML-GCN's choice."""

    def forward(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D"]:
        return feature_map.amax(dim=(2, 3))


class GeMPool(nn.Module):
    """Generalised mean ``mean(x^p)^(1/p)`` with a learned p, between average (1) and maximum (infinity).

    Radenović et al., 2018, Eq. 3 (https://arxiv.org/abs/1711.02512). Features below 1e-6 are raised to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D"]:
        x = feature_map.float().clamp(min=1e-6)
        # Divided out and multiplied in again: p-th powers leave float32's range, at p = 8 those of 1e-6.
        largest = x.detach().amax(dim=(2, 3), keepdim=True)
        mean = (x / largest).pow(self.p).mean(dim=(2, 3))
        return (largest[:, :, 0, 0] * mean.pow(1 / self.p)).to(feature_map.dtype)


class NoPool(nn.Module):
    """The feature map itself, for heads that look at positions."""

    def forward(self, feature_map: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        return feature_map


POOLINGS: dict[str, type[nn.Module]] = {"avg": AvgPool, "max": MaxPool, "gem": GeMPool, "none": NoPool}


class Standardize(nn.Module):
    """``(features - mean) / std``, channel by channel, with the moments of frozen training features.

    A linear probe needs it to converge in few steps: pooled activations share a large common direction.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Float[Tensor, " D"], std: Float[Tensor, " D"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def forward(self, features: Tensor) -> Tensor:
        shape = (-1, *(1,) * (features.dim() - 2))
        return (features - self.mean.view(shape)) / self.std.view(shape)


def label_vectors(labels: Data) -> Float[Tensor, "L E"]:
    """The label vectors of a label graph, for a head that cannot do without.

    Raises:
        InputError: it has none.
    """
    if labels.x is None:
        raise InputError(
            "this head needs label vectors, and this label space has none: "
            "make a label graph with zoo.label_graph(targets, label_names, embeddings='glove')"
        )
    return labels.x


def with_means(values: Float[Tensor, " K"], num_labels: int) -> Float[Tensor, " L"]:
    """One number a label, continued with the mean to ``num_labels`` of them."""
    values = values.detach()
    return torch.cat([values, values.mean().expand(num_labels - len(values))])


class Head(nn.Module):
    """Feature map in, logits out.

    A new head implements :meth:`classifiers` if they are the same for every image, else :meth:`classify`; one that
    draws conclusions from some labels to others implements :meth:`refine` too, and one that can do with labels it was
    not trained on :meth:`take_graph`.

    Args:
        num_features: D, channels of the backbone's feature map.
        labels: the label graph (or a label space without edges); it gives L and the label names.
        pooling: ``avg``, ``max``, ``gem`` or ``none``.
        dropout: share of the pooled features dropped in training.

    Attributes:
        uses_graph: whether the head reads the edges or the vectors of the label graph; a comparison then adds
            its controls.
        edges: the kind of label graph that it wants: see :data:`zoo.graph.EDGES`.
        uses_positions: whether the head takes the feature map itself, with pooling ``none``.

    Raises:
        InputError: an unknown pooling, no pooling where the head needs one, or a dropout out of its range.
    """

    uses_graph = False
    uses_positions = False
    edges = "conditional"

    def __init__(self, num_features: int, labels: Data, *, pooling: str, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), not {dropout}")
        self.num_features = num_features
        self.label_names: list[str] = list(labels.label_names)
        self.num_labels = len(self.label_names)
        self.pooling = pooling
        self.pool = lookup("pooling", pooling, POOLINGS)()
        if pooling == "none" and not self.uses_positions:
            raise InputError(f"{type(self).__name__} takes pooled features: choose pooling avg, max or gem")
        self.norm: nn.Module = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.offset: Tensor | None
        self.register_buffer("offset", None)

    def forward(
        self, feature_map: Float[Tensor, "B D h w"], known: Int[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B L"]:
        """The logits of a batch.

        Args:
            feature_map: (B, D, h, w).
            known: what is known of the labels already, 1 present, 0 absent, -1 not known; for heads that can
                conclude from it (:meth:`refine`).
        """
        return self.from_pooled(self.pool(feature_map), known)

    def from_pooled(self, features: Tensor, known: Int[Tensor, "B L"] | None = None) -> Float[Tensor, "B L"]:
        """The rest of :meth:`forward`, for features (B, D) that were pooled before."""
        features = self.norm(features)
        if self.dropout.p:  # or an exported model would hold an operation that does nothing
            features = self.dropout(features)
        logits = self.classify(features)
        return self.refine(logits if self.offset is None else logits + self.offset, known)

    def standardize(
        self, mean: Float[Tensor, " D"], std: Float[Tensor, " D"], log_odds: Float[Tensor, " L"]
    ) -> None:
        """Gives the head the start that a probe of frozen features needs, whatever the head.

        From now on pooled features are standardised, and the labels' log-odds are added to the logits, so that
        training has only to tell images apart (as Lin et al., 2017, section 4.1, https://arxiv.org/abs/1708.02002).
        All of it is saved with the weights, and folds away.
        """
        self.norm, self.offset = Standardize(mean, std), log_odds.clone()

    def classify(self, features: Tensor) -> Float[Tensor, "B L"]:
        """Pooled features (B, D), or the feature map of a head without pooling, to logits (B, L)."""
        return F.linear(features, self.classifiers(), self.classifier_bias())

    def refine(self, logits: Float[Tensor, "B L"], known: Int[Tensor, "B L"] | None) -> Float[Tensor, "B L"]:
        """The last step of :meth:`forward`: what the labels of an image say of each other; by default nothing.

        Raises:
            InputError: labels are known, and this head draws no conclusions from them.
        """
        if known is not None:
            raise InputError(f"{type(self).__name__} does not reason from known labels to others")
        return logits

    def own_graph(self) -> Data:
        """What the head keeps of its label graph, as one; labels without edges where it keeps none."""
        graph = unlinked_labels(self.label_names, getattr(self, "x", None))
        if hasattr(self, "edge_index"):
            graph.edge_index, graph.edge_weight = self.edge_index, self.edge_weight
        return graph

    def take_graph(self, labels: Data, *, keep_logits: bool) -> None:
        """Takes a larger label graph in the place of its own; see :mod:`zoo.new_labels`.

        For a head that can give logits to labels it was not trained on, because it has no parameters of their own for
        them, or knows what to put there. Names, ``num_labels`` and ``offset`` are not its concern.

        Args:
            labels: the first of them are the head's own, in their order.
            keep_logits: whether these hear and see what they did before, and nothing else.

        Raises:
            InputError: it is not such a head, or cannot keep the logits.
        """
        raise InputError(f"{type(self).__name__} cannot take labels that it was not trained on")

    def classifiers(self) -> Float[Tensor, "L D"]:
        """One classifier a label, the same for every image.

        Raises:
            InputError: this head reasons about each image, so it has none and cannot be folded.
        """
        raise InputError(f"{type(self).__name__} has no classifiers that are the same for every image")

    def classifier_bias(self) -> Float[Tensor, " L"] | None:
        """What is added to the logits whatever the image, if anything."""
        return None

    def check_foldable(self) -> None:
        """For a head that has classifiers and yet may reason about each image.

        Raises:
            InputError: it does.
        """

    def penalty(self) -> Float[Tensor, ""]:
        """A term that training adds to the loss; zero unless a head says otherwise."""
        return next(self.parameters()).new_zeros(())

    def begin_training(self, targets: Int[Tensor, "N L"]) -> None:
        """Called before training, with the targets {1, 0, -1} of the training split.

        A head takes from them what it wants to know, and forgets what :meth:`finish_training` set.
        """

    def finish_training(self, logits: Float[Tensor, "N L"], targets: Int[Tensor, "N L"]) -> None:
        """Called after training, for what is better fitted on images that the head was not trained on.

        Args:
            logits: of the validation split, by the best weights.
            targets: of {1, 0, -1}.
        """
