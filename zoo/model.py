"""A model is a backbone and a head: ``logits = head(backbone(images))``.

zoo.build("mlgcn-resnext50")    head name, hyphen, timm name
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from zoo.backbones import Backbone, list_backbones, resolve
from zoo.graph import check_graph, unlinked_labels
from zoo.heads import HEADS, Head, build_head, check_reasons, fold_head, graph_edges, head_options
from zoo.label_spaces import label_space
from zoo.larger_graphs import Edges, Vectors
from zoo.lookup import InputError, lookup
from zoo.new_labels import Frequency, add_labels
from zoo.predict_inputs import (
    THRESHOLD,
    Known,
    Thresholds,
    image_list,
    image_tensor,
    known_labels,
    label_thresholds,
)


class MultiLabelClassifier(nn.Module):
    """Images (B, 3, H, W) to logits (B, L). Made by :func:`build` or :func:`zoo.load`.

    Attributes:
        backbone: images to feature map.
        head: feature map to logits.
        name: ``<head>-<timm name>``.
        options: what was given to the head, beside its defaults.
        recipe: how the label graph was made.
        notes: anything JSON can hold that should travel with the weights (metrics, provenance).
    """

    def __init__(
        self, backbone: Backbone, head: Head, *, name: str, options: dict[str, Any], recipe: dict[str, Any]
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.name, self.options, self.recipe = name, options, recipe
        self.notes: dict[str, Any] = {}
        self._thresholds: Tensor | None = None

    def forward(
        self, images: Float[Tensor, "B 3 H W"], known: Int[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B L"]:
        """The logits of a batch.

        Args:
            images: resized and normalised.
            known: what is known of the labels already, 1 present, 0 absent, -1 not known; see :meth:`predict`.
        """
        if known is None:
            return self.head(self.backbone(images))
        check_reasons(self.head)
        return self.head(self.backbone(images), known)

    @property
    def label_names(self) -> list[str]:
        """The L labels, in the order of the logits."""
        return self.head.label_names

    @property
    def thresholds(self) -> Float[Tensor, " L"] | None:
        """The score from which on each label is predicted, (L,) in 0..1 on the CPU; None for 0.5 throughout.

        Set it to a number for all labels, to L of them, or to label and number, where labels left out have 0.5. It is
        saved with the model.

        Raises:
            InputError: when set, to an unknown label, another number of thresholds, a threshold out of 0..1.
        """
        return self._thresholds

    @thresholds.setter
    def thresholds(self, value: Thresholds | None) -> None:
        self._thresholds = None if value is None else label_thresholds(value, self.label_names)

    @torch.inference_mode()
    def scores(
        self, images: Any, batch_size: int = 32, *, known: Known | None = None
    ) -> Float[Tensor, "N L"]:
        """sigmoid(logits) of images, and of known labels, in any form that :meth:`predict` takes, on the CPU."""
        transform, parameter = self.backbone.transform(), next(self.parameters())
        training = self.training
        self.eval()
        try:
            pictures, rows = image_list(images), []
            facts = None if known is None else known_labels(known, self.label_names, len(pictures))
            for start in range(0, len(pictures), batch_size):
                batch = [image_tensor(picture, transform) for picture in pictures[start : start + batch_size]]
                if len(sizes := {tuple(tensor.shape[1:]) for tensor in batch}) > 1:
                    raise InputError(f"float tensors of one call must be of one size, not {sorted(sizes)}")
                # to(parameter): to its device and its precision
                inputs = torch.stack(batch).to(parameter)
                some = None if facts is None else facts[start : start + batch_size].to(parameter.device)
                rows.append(self(inputs, some).float().sigmoid().cpu())
            return torch.cat(rows) if rows else torch.empty(0, len(self.label_names))
        finally:
            self.train(training)

    def predict(
        self,
        images: Any,
        *,
        known: Known | None = None,
        threshold: Thresholds | None = None,
        top_k: int | None = None,
        batch_size: int = 32,
    ) -> list[dict[str, float]]:
        """The labels of each image with their scores, best first.

        Args:
            images: one or several: paths, PIL images, uint8 arrays (H, W, 3), or float tensors (3, H, W) that
                are already resized and normalised; a tensor (B, 3, H, W) is B of them.
            known: labels that are known already, for a head that reasons from them (``coupled``, ``logitgcn``):
                ``{"beach": True, "snow": False}``, the same for all images or one for each.
            threshold: labels at or above this score are returned; one for all labels, or in any form that
                :attr:`thresholds` takes. The model's own unless given, 0.5 where it has none.
            top_k: return this many labels whatever their scores, instead.
            batch_size: images at a time.

        Returns:
            One dict an image: ``[{"person": 0.98, "dog": 0.71}, ...]``.

        Raises:
            InputError: an image that does not decode, or of a type that is not one of these; known labels that
                the model does not have, or that its head cannot reason from;
                a threshold out of its range.
        """
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k must be at least 1, not {top_k}")
        limits = label_thresholds(self.thresholds if threshold is None else threshold, self.label_names)
        results = []
        for row in self.scores(images, batch_size, known=known):
            order = row.argsort(descending=True, stable=True)
            best = order[(row >= limits)[order]] if top_k is None else order[:top_k]
            results.append({self.label_names[i]: row[i].item() for i in best.tolist()})
        return results

    def add_labels(
        self,
        names: Sequence[str] | Data,
        *,
        edges: Edges | None = None,
        embeddings: Vectors = "glove",
        unknown_words: str = "error",
        frequency: Frequency | None = None,
    ) -> MultiLabelClassifier:
        """Extends the trained model, in place, to labels that it never saw an image of.

        For heads that generate what they know of a label from its vector and its neighbours. The labels that are there
        hear nothing from the new ones, so their logits stay as they are; the new ones come last. Where the model has
        thresholds, theirs are 0.5.

        Args:
            names: of the K new labels. Or a label graph of all the model's labels and new ones, whose edges and vectors
                are taken for all of them: then the logits of the model's own labels may change.
            edges: what the new labels hear: ``("horse", "zebra", 1.0)`` lets zebra hear horse. See
                :func:`zoo.larger_graphs.extended_graph` for what the weight means; without edges, a label hears itself
                alone.
            embeddings: vectors of the new labels, made as the model's own were (``recipe["embeddings"]``): as for
                :func:`zoo.label_graph`, or an array (K, E). A head that reads none needs none.
            unknown_words: as for :func:`zoo.label_graph`.
            frequency: share of images that have a new label, for all or by name. It counts where logits hold the
                labels' log-odds: in the offset of a head that was trained on frozen features, and in a graph of
                couplings. Without it, they are the mean of the other labels', or what a label graph of couplings
                given as ``names`` says.

        Returns:
            This model.

        Raises:
            InputError: a head with parameters for each label, labels that are there already, edges to or from unknown
                labels, vectors that do not fit the model's, a frequency out of its range or without effect.
        """
        self.recipe = add_labels(
            self.head,
            self.recipe,
            names,
            edges=edges,
            embeddings=embeddings,
            unknown_words=unknown_words,
            frequency=frequency,
        )
        if self.thresholds is not None:
            new = len(self.label_names) - len(self.thresholds)
            self.thresholds = F.pad(self.thresholds, (0, new), value=THRESHOLD)
        return self

    def fold(self) -> MultiLabelClassifier:
        """The same model with the graph baked into one linear layer: same logits, cost of the backbone.

        Raises:
            InputError: the head reasons about each image; the message names the heads that fold.
        """
        head = fold_head(self.head)
        folded = MultiLabelClassifier(
            self.backbone,
            head,
            name=f"linear-{self.backbone.name}",
            options={
                "pooling": head.pooling,
                "dropout": head.dropout.p,
                "bias": head.linear.bias is not None,
            },
            recipe={},
        )
        # One that is folded already keeps what it was at first.
        origin = {"name": self.name, **_plain(self.options), **self.recipe}
        folded.notes = {"folded_from": origin, **self.notes}
        folded.thresholds = self.thresholds
        return folded.train(self.training)

    def save(self, directory: str | Path) -> Path:
        """Writes ``model.safetensors`` and ``config.json``; see :mod:`zoo.saved_model`.

        Raises:
            InputError: an option that JSON cannot hold, such as a class of your own as ``conv``.
        """
        from zoo.saved_model import save_model

        return save_model(self, directory)


def build(
    name: str,
    labels: str | Data | Sequence[str] = "coco2014",
    *,
    pretrained: bool | str | Path = False,
    img_size: int | tuple[int, int] | None = None,
    **options: Any,
) -> MultiLabelClassifier:
    """Builds a model by name.

    Args:
        name: ``<head>-<timm name>``, split at the first hyphen, such as ``mlgcn-resnext50`` or
            ``sgc-convnext_tiny.fb_in22k``; see :func:`list_models`.
        labels: a label space by name, a label graph, or plain label names (for heads without a graph).
        pretrained: the backbone's weights: from timm, or a local file.
        img_size: for backbones of a fixed input size.
        options: of the head (``conv``, ``widths``, ``pooling``, ...); see :func:`zoo.heads.head_options`.

    Raises:
        InputError: an unknown head, backbone, label space or option, with the nearest names.
    """
    head_name, backbone_name = split_name(name)
    if isinstance(labels, str):
        graph = label_space(labels, edges=graph_edges(head_name))
    elif isinstance(labels, Data):
        graph = check_graph(labels)
    else:
        graph = unlinked_labels(list(labels))
    return assemble(
        Backbone(backbone_name, pretrained=pretrained, img_size=img_size), head_name, graph, **options
    )


def assemble(backbone: Backbone, head_name: str, graph: Data, /, **options: Any) -> MultiLabelClassifier:
    """A head by name on a backbone that is there already; otherwise as :func:`build`.

    A head with several ``levels`` gets as many feature maps from the same backbone.
    """
    known = head_options(head_name)
    levels = (known | options)["levels"] if "levels" in known else 1
    backbone = backbone.with_levels(levels)
    head = build_head(
        head_name, backbone.num_features if levels == 1 else backbone.level_features, graph, **options
    )
    name = f"{head_name}-{backbone.name}"
    return MultiLabelClassifier(backbone, head, name=name, options=options, recipe=dict(graph.recipe))


def list_models(pattern: str = "*") -> list[str]:
    """Names of models that :func:`build` knows, filtered by a shell pattern such as ``*gcn-resnext*``."""
    backbones = list_backbones()
    names = (f"{head}-{backbone}" for head in sorted(HEADS) for backbone in backbones)
    return fnmatch.filter(names, pattern)


def split_name(name: str) -> tuple[str, str]:
    """A model's name as head and canonical timm name.

    Raises:
        InputError: no hyphen, an unknown head or an unknown backbone.
    """
    head, hyphen, backbone = name.partition("-")
    if not hyphen:
        hint = f"linear-{name}" if name in set(list_backbones()) else "mlgcn-resnext50"
        raise InputError(f"a model's name is <head>-<timm name>, such as {hint!r}; {name!r} has no hyphen")
    lookup("head", head, HEADS)
    return head, resolve(backbone)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value if isinstance(value, str | int | float | bool) else str(value)
        for key, value in options.items()
    }
