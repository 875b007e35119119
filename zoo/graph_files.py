"""Label graphs on disk, as JSON (to read) or npz (to be small), and the safe import of ML-GCN's pickles."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch_geometric.data import Data

from zoo.counts import LabelCounts
from zoo.graph import check_graph
from zoo.lookup import InputError


def save_graph(graph: Data, path: str | Path) -> Path:
    """Writes a label graph; the suffix of the path, ``.json`` or ``.npz``, chooses the format.

    Raises:
        InputError: another suffix, or something that is no label graph.
    """
    path, graph = Path(path), check_graph(graph)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        edges = zip(*graph.edge_index.tolist(), graph.edge_weight.tolist(), strict=True)
        content = {
            "label_names": list(graph.label_names),
            "recipe": graph.recipe,
            "edges": [list(edge) for edge in edges],
            "x": None if graph.x is None else graph.x.tolist(),
        }
        path.write_text(json.dumps(content))
    elif path.suffix == ".npz":
        arrays = {
            "label_names": np.array(graph.label_names),
            "recipe": np.array(json.dumps(graph.recipe)),
            "edge_index": graph.edge_index.numpy(force=True),
            "edge_weight": graph.edge_weight.numpy(force=True),
        }
        if graph.x is not None:
            arrays["x"] = graph.x.numpy(force=True)
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    else:
        raise InputError(f"{path}: a label graph is saved as .json or .npz")
    return path


def load_graph(path: str | Path) -> Data:
    """Reads what :func:`save_graph` wrote, and checks it. Nothing in the file is ever executed.

    Raises:
        InputError: no such file, another format, or content that is no label graph.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix in (".pkl", ".pickle", ".pt", ".pth"):
        raise InputError(
            f"{path}: pickles can run code and are not loaded. ML-GCN's own files are converted by "
            "zoo.graph_files.import_mlgcn_pickle; load with a label graph saved as .json or .npz"
        )
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text())
            edges = np.array(content["edges"], dtype=np.float64).reshape(-1, 3)
            fields = {
                "edge_index": edges[:, :2].T.astype(np.int64),
                "edge_weight": edges[:, 2],
                "x": content["x"],
            }
            names, recipe = content["label_names"], content["recipe"]
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                fields = {key: arrays.get(key) for key in ("edge_index", "edge_weight", "x")}
                names, recipe = arrays["label_names"].tolist(), json.loads(str(arrays["recipe"]))
        else:
            raise InputError(f"{path}: a label graph is a .json or .npz file")
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a label graph saved by this package ({error})") from error
    x = fields["x"]
    return check_graph(
        Data(
            x=None if x is None else torch.as_tensor(np.asarray(x, dtype=np.float32)),
            edge_index=torch.as_tensor(fields["edge_index"]),
            edge_weight=torch.as_tensor(np.asarray(fields["edge_weight"], dtype=np.float32)),
            label_names=names,
            recipe=recipe,
            num_nodes=len(names),
        )
    )


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and plain containers. Any other global, so any code, is refused."""

    ALLOWED = (
        {("_codecs", "encode")}
        | {
            (module, name)
            for core in ("numpy.core", "numpy._core")
            for module, name in ((f"{core}.multiarray", "_reconstruct"), (f"{core}.multiarray", "scalar"))
        }
        | {("numpy", "ndarray"), ("numpy", "dtype")}
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise InputError(f"the pickle asks for {module}.{name}: only NumPy arrays are read from pickles")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_arrays(path: str | Path) -> Any:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        # latin1 reads the arrays that Python 2 pickled, as ML-GCN's were.
        return _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # a broken pickle can fail in any way
        raise InputError(
            f"{path}: not a pickle that can be read ({type(error).__name__}: {error})"
        ) from error


def import_mlgcn_pickle(path: str | Path, label_names: Sequence[str], num_images: int = 0) -> LabelCounts:
    """Converts ML-GCN's ``*_adj.pkl``, a dict with ``adj`` (L, L) co-occurrence and ``nums`` (L,) counts.

    Args:
        path: the pickle. It is read by an unpickler that knows NumPy arrays and nothing else.
        label_names: the L labels in the file's order; the file does not hold them (VOC and COCO: alphabetical).
        num_images: how many images were counted, if known; the file does not hold that either.

    Raises:
        InputError: the pickle holds anything but arrays, or arrays that do not fit each other or the names.
    """
    content = _read_arrays(path)
    if not isinstance(content, dict) or not {"adj", "nums"} <= set(content):
        raise InputError(f"{path}: expected a dict with 'adj' and 'nums', as ML-GCN writes it")
    cooccurrence = np.array(content["adj"], dtype=np.int64)
    counts = np.array(content["nums"], dtype=np.int64).ravel()
    num_labels = len(label_names)
    if cooccurrence.shape != (num_labels, num_labels) or counts.shape != (num_labels,):
        raise InputError(
            f"{path}: {num_labels} label names, but adj is {cooccurrence.shape} and nums {counts.shape}"
        )
    np.fill_diagonal(cooccurrence, 0)
    return LabelCounts(tuple(label_names), counts, sp.csr_array(cooccurrence), None, num_images)


def import_mlgcn_vectors(path: str | Path) -> torch.Tensor:
    """Converts ML-GCN's ``*_glove_word2vec.pkl``, label vectors (L, E), as safely; give them as ``embeddings``."""
    vectors = _read_arrays(path)
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2:
        raise InputError(f"{path}: expected an array of label vectors (L, E)")
    return torch.from_numpy(vectors.astype(np.float32))
