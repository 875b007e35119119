"""Published checkpoints of ML-GCN as models of this zoo: ``zoo.load_published("coco_checkpoint.pth.tar")``.

    in the file                                              becomes
    features.*               torchvision's ResNet, ResNeXt   the backbone; timm gives its tensors the same names
    gc1.weight, gc2.weight   (E, 1024), (1024, D)            the two GCNConvs of the head, transposed
    A                        (L, L), not yet normalised      edge_index, edge_weight of the label graph
    (nothing)                                                label names and label vectors: the arguments

The model is ``mlgcn``: Chen et al., "Multi-Label Image Recognition with Graph Convolutional Networks", CVPR 2019,
https://arxiv.org/abs/1904.03582.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from zoo.arguments import split_options
from zoo.backbones import Backbone, load_weights
from zoo.data.coco import coco_label_names
from zoo.embeddings import label_embeddings
from zoo.graph import NORMALIZATIONS, check_graph
from zoo.label_spaces import label_counts
from zoo.lookup import InputError, lookup, unknown
from zoo.model import MultiLabelClassifier, assemble
from zoo.weight_files import read_state_dict


@dataclass(frozen=True)
class Layout:
    """How one code base names its tensors, and what it knows without writing it into its checkpoints.

    Attributes:
        prefixes: what keys begin with in the file -> in the backbone.
        first_key: a key that no other layout has.
        backbone: timm name.
        pooling: of the image features.
        img_size: pixels of the square that images were squashed to.
        source: the code.
    """

    prefixes: Mapping[str, str]
    first_key: str
    backbone: str
    pooling: str
    img_size: int
    source: str


LAYOUTS: dict[str, Layout] = {
    # Its pooling window is 14 x 14, and that is the whole feature map of 448 pixels.
    "ml-gcn": Layout(
        prefixes={
            "features.0.": "conv1.",
            "features.1.": "bn1.",
            "features.4.": "layer1.",
            "features.5.": "layer2.",
            "features.6.": "layer3.",
            "features.7.": "layer4.",
        },
        first_key="features.0.weight",
        backbone="resnet101",
        pooling="max",
        img_size=448,
        source="https://github.com/Megvii-Nanjing/ML-GCN",
    ),
    # It puts a sigmoid behind the logits, which has no weights.
    "learnopencv": Layout(
        prefixes={"features.": ""},
        first_key="features.conv1.weight",
        backbone="resnext50_32x4d",
        pooling="avg",
        img_size=256,
        source="https://github.com/spmallick/learnopencv/tree/master/"
        "Graph-Convolutional-Networks-Model-Relations-In-Data",
    ),
}
GRAPH_KEYS = {"gc1.weight": "head.convs.0.conv.lin.weight", "gc2.weight": "head.convs.1.conv.lin.weight"}

# Both evaluate on Pillow's bilinear resize and ImageNet's mean and standard deviation.
PREPROCESSING = {"interpolation": "bilinear", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def load_published(
    path: str | Path,
    labels: str | Sequence[str] = "coco2014",
    *,
    layout: str | None = None,
    backbone: str | None = None,
    embeddings: str | Path | Tensor | np.ndarray = "glove",
) -> MultiLabelClassifier:
    """Loads a checkpoint of the reference ML-GCN, or of LearnOpenCV's tutorial on it.

    Args:
        path: a file of ``torch.save``, the state dict alone or with epoch and score around it, or
            ``.safetensors``. No code in it is ever run.
        labels: the L labels in the checkpoint's order: a shipped label space, whose alphabetical order is
            that of ML-GCN's checkpoints for COCO and VOC, or a list of names; ``coco2014:label_order=category_id``
            for checkpoints of code that orders COCO's labels so. The file cannot tell whether the order is right.
        layout: ``ml-gcn`` or ``learnopencv``; recognised by its keys unless given. See :data:`LAYOUTS`.
        backbone: timm name of another ResNet than the layout's own, for checkpoints of changed code.
        embeddings: the label vectors (L, E) that the checkpoint was trained with, as for
            :func:`zoo.graph.label_graph`. For COCO and VOC the shipped ones are ML-GCN's.

    Returns:
        An ``mlgcn`` model in evaluation mode, which preprocesses images as that code does; it gives logits,
        where the tutorial's gives scores. ``notes["imported_from"]`` says where its weights came from.

    Raises:
        InputError: a file that holds more than tensors and numbers, or that is of neither code base; tensors
            that are missing, left over or of another shape; labels or label vectors that do not fit.
    """
    path = Path(path)
    # DataParallel put "module." before every name.
    tensors = {
        ".".join(part for part in key.split(".") if part != "module"): tensor
        for key, tensor in read_state_dict(path).items()
    }
    layout = _recognise(path, tensors, layout)
    known = LAYOUTS[layout]
    names = list(_label_names(labels) if isinstance(labels, str) else labels)
    graph = _label_graph(path, tensors, names, embeddings)

    network = Backbone(backbone or known.backbone, img_size=known.img_size)
    network.data_config.update(PREPROCESSING)
    model = assemble(network, "mlgcn", graph, widths=[len(tensors["gc2.weight"])], pooling=known.pooling)
    # The graph is in the model already; and before PyTorch 0.4.1, a batch norm did not count its batches.
    own = model.state_dict()
    weights = {key: own[key] for key in own if key.endswith(".num_batches_tracked")}
    weights |= {f"head.{key}": own[f"head.{key}"] for key in ("x", "edge_index", "edge_weight")}
    for key, tensor in tensors.items():
        if key in GRAPH_KEYS:
            weights[GRAPH_KEYS[key]] = tensor.T
        elif key != "A":
            weights[_renamed(key, known.prefixes)] = tensor
    load_weights(model, weights, path)

    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    model.notes["imported_from"] = {
        "file": path.name, "sha256": digest, "layout": layout, "source": known.source
    }  # fmt: skip
    return model.eval()


def _label_names(labels: str) -> tuple[str, ...]:
    """Those of a label space; COCO's also in another order, said as it is said of the data set."""
    space, options = split_options(labels)
    names = label_counts(space).label_names
    known = ["label_order"] if space == "coco2014" else []
    for option in options:
        if option not in known:
            raise unknown(f"option of label space {space!r}", option, known)
    return coco_label_names(options["label_order"]) if options else names


def _recognise(path: Path, tensors: dict[str, Tensor], layout: str | None) -> str:
    """The layout whose keys are all there; of the given one alone, if there is one."""
    candidates = LAYOUTS if layout is None else {layout: lookup("layout", layout, LAYOUTS)}
    expected = {name: [known.first_key, *GRAPH_KEYS, "A"] for name, known in candidates.items()}
    for name, keys in expected.items():
        if tensors.keys() >= {*keys}:
            return name
    told = " or ".join(f"{', '.join(keys)} ({name})" for name, keys in expected.items())
    raise InputError(f"{path}: expected the keys {told}; it holds {', '.join([*tensors][:4])}, ...")


def _renamed(key: str, prefixes: Mapping[str, str]) -> str:
    """The model's name of a backbone tensor; a key that the layout does not know stays, and will be left over."""
    for theirs, ours in prefixes.items():
        if key.startswith(theirs):
            return f"backbone.model.{ours}{key.removeprefix(theirs)}"
    return key


def _label_graph(
    path: Path, tensors: dict[str, Tensor], names: list[str], embeddings: str | Path | Tensor | np.ndarray
) -> Data:
    """A as a label graph: A[i, j] is what j receives from i, and ML-GCN's normalisation comes on top."""
    matrix = tensors["A"].double().numpy()
    if matrix.shape != (len(names), len(names)):
        shape = " x ".join(map(str, matrix.shape))
        raise InputError(
            f"{path}: its label graph A is {shape}, but there are {len(names)} labels: "
            "give the names of its labels, in its order, as labels"
        )
    if not (np.isfinite(matrix).all() and (matrix >= 0).all() and (matrix.diagonal() > 0).all()):
        raise InputError(f"{path}: A must be finite and not negative, and every label its own neighbour")
    vectors = label_embeddings(names, embeddings)
    size, given = len(tensors["gc1.weight"]), vectors.vectors.size(1)
    if size != given:
        raise InputError(
            f"{path}: trained on label vectors of {size} numbers, but those of {vectors.source} have {given}: "
            "give the ones that it was trained with as embeddings, such as glove.6B.300d.txt"
        )
    source, target = matrix.nonzero()
    weight = NORMALIZATIONS["mlgcn"](source, target, matrix[source, target], len(names))
    graph = Data(
        x=vectors.vectors,
        edge_index=torch.from_numpy(np.stack([source, target])),
        edge_weight=torch.from_numpy(weight.astype(np.float32)),
        label_names=names,
        recipe={"imported_from": path.name, "normalization": "mlgcn", "embeddings": vectors.source},
    )
    return check_graph(graph)
