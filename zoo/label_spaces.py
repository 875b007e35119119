"""The label spaces that ship: names, counts and co-occurrence of the field's data sets.

zoo.label_space("voc2007", threshold=0.4) -> the label graph of ML-GCN's paper
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from torch import Tensor
from torch_geometric.data import Data

from zoo.counts import LabelCounts
from zoo.graph import label_graph
from zoo.knowledge import Knowledge
from zoo.lookup import lookup


@dataclass(frozen=True)
class LabelSpace:
    """A shipped table of counts, and where it comes from.

    Attributes:
        file: its table in the package.
        num_images: the images that were counted.
        protocol: which annotations were counted, and how.
        source: whose annotations they are.
        licence: of the annotations; counts of them are facts.
    """

    file: str
    num_images: int
    protocol: str
    source: str
    licence: str


LABEL_SPACES: dict[str, LabelSpace] = {
    "coco2014": LabelSpace(
        file="coco2014.json",
        num_images=82_081,
        protocol="train2014, images with at least one of the 80 labels; labels in alphabetical order",
        source="Lin et al., Microsoft COCO, ECCV 2014, https://arxiv.org/abs/1405.0312",
        licence="annotations CC BY 4.0",
    ),
    "miml_scenes": LabelSpace(
        file="miml_scenes.json",
        num_images=2_000,
        protocol="all images; labels in alphabetical order",
        source="Zhou et al., Multi-Instance Multi-Label Learning, Artificial Intelligence 2012, "
        "https://arxiv.org/abs/0808.3231",
        licence="annotations for academic use",
    ),
    "openmoji": LabelSpace(
        file="openmoji.json",
        num_images=2_391,
        protocol="all pictures of OpenMoji 17.0.0 that have one of the 96 code points on at least 10 pictures, flags "
        "left out; labels in the order of their code points",
        source="OpenMoji, https://openmoji.org",
        licence="pictures CC BY-SA 4.0",
    ),
    "ucmerced": LabelSpace(
        file="ucmerced.json",
        num_images=2_100,
        protocol="all images; labels in alphabetical order",
        source="Yang & Newsam, ACM GIS 2010, https://doi.org/10.1145/1869790.1869829, annotated by Chaudhuri et al., "
        "IEEE TGRS 2018, https://doi.org/10.1109/TGRS.2017.2760909",
        licence="annotations published for research",
    ),
    "voc2007": LabelSpace(
        file="voc2007.json",
        num_images=5_011,
        protocol="trainval, difficult objects not counted; labels in alphabetical order",
        source="Everingham et al., The PASCAL VOC Challenge, IJCV 2010, https://doi.org/10.1007/s11263-009-0275-4",
        licence="published for research; photos from Flickr",
    ),
}


def label_counts(name: str) -> LabelCounts:
    """The counts of a shipped label space.

    Raises:
        InputError: no label space has that name.
    """
    space = lookup("label space", name, LABEL_SPACES)
    table = json.loads((resources.files("zoo") / "label_space_data" / space.file).read_text())
    cooccurrence = sp.csr_array(np.array(table["cooccurrence"], dtype=np.int64))
    return LabelCounts(tuple(table["labels"]), np.array(table["counts"]), cooccurrence, space.num_images)


def label_space(
    name: str,
    *,
    edges: str = "conditional",
    threshold: float = 0.1,
    p: float = 0.2,
    normalization: str = "mlgcn",
    knowledge: Knowledge | None = None,
    embeddings: str | Path | Tensor | np.ndarray = "glove",
    unknown_words: str = "error",
) -> Data:
    """The label graph of a shipped label space; the options are those of :func:`zoo.graph.label_graph`."""
    return label_graph(
        label_counts(name),
        edges=edges,
        threshold=threshold,
        p=p,
        normalization=normalization,
        knowledge=knowledge,
        embeddings=embeddings,
        unknown_words=unknown_words,
    )


def list_label_spaces() -> list[str]:
    """Names of the label spaces that ship."""
    return sorted(LABEL_SPACES)
