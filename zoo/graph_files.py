"""Label graphs on disk, as JSON (to read) or npz (to be small), and the safe import of ML-GCN's pickles."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch_geometric.data import Data

from zoo.counts import LabelCounts, check_names
from zoo.graph import check_graph
from zoo.lookup import InputError


def save_graph(graph: Data, path: str | Path) -> Path:
    """Writes a label graph; the suffix of the path, ``.json`` or ``.npz``, chooses the format.

    Raises:
        InputError: another suffix, or something that is no label graph.
    """
    path, graph = Path(path), check_graph(graph)
    if path.suffix not in (".json", ".npz"):
        raise InputError(f"{path}: a label graph is saved as .json or .npz")
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
    else:
        arrays = {
            "label_names": np.array(graph.label_names),
            "recipe": np.array(json.dumps(graph.recipe)),
            "edge_index": graph.edge_index.numpy(force=True),
            "edge_weight": graph.edge_weight.numpy(force=True),
        }
        if graph.x is not None:
            arrays["x"] = graph.x.numpy(force=True)
        np.savez_compressed(path, **arrays)
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
    if path.suffix not in (".json", ".npz"):
        raise InputError(f"{path}: a label graph is a .json or .npz file")
    try:
        return check_graph(_read_json(path) if path.suffix == ".json" else _read_npz(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(f"{path}: not a label graph saved by this package ({error})") from error


def _read_json(path: Path) -> Data:
    content = json.loads(path.read_text())
    edges = np.array(content["edges"], dtype=np.float64).reshape(-1, 3)
    ends = edges[:, :2].T
    if (ends != ends.round()).any():
        raise InputError("not a label graph: the ends of an edge must be whole numbers")
    return _data(content["label_names"], content["recipe"], ends.astype(np.int64), edges[:, 2], content["x"])


def _read_npz(path: Path) -> Data:
    with np.load(path, allow_pickle=False) as arrays:
        names, recipe = arrays["label_names"].tolist(), json.loads(str(arrays["recipe"]))
        return _data(names, recipe, arrays["edge_index"], arrays["edge_weight"], arrays.get("x"))


def _data(names: Any, recipe: Any, edge_index: np.ndarray, edge_weight: np.ndarray, x: Any) -> Data:
    return Data(
        x=None if x is None else torch.from_numpy(np.asarray(x, dtype=np.float32)),
        edge_index=torch.from_numpy(edge_index),
        edge_weight=torch.from_numpy(edge_weight.astype(np.float32)),
        label_names=names,
        recipe=recipe,
        num_nodes=len(names),
    )


class _Dtype:
    """Stands in for ``numpy.dtype``: a numeric code such as ``i8``, and the byte order, which comes as state."""

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"[biuf]\d+", code):
            raise InputError(f"the pickle holds an array of {code!r}: only arrays of numbers are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for ``numpy.ndarray``; its numbers are read with ``frombuffer``."""

    numbers: np.ndarray = np.empty(0)

    def __init__(self, *_: object) -> None:
        """What NumPy would make first is an empty array: there is nothing to do before the state comes."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, buffer = state
        buffer = buffer.encode("latin1") if isinstance(buffer, str) else buffer  # pickled by Python 2
        self.numbers = np.frombuffer(buffer, dtype.dtype).reshape(shape, order="F" if is_fortran else "C")


def _from_buffer(buffer: bytes | bytearray, dtype: _Dtype, shape: tuple, order: str, *_: object) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", buffer))
    return array


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain containers and arrays of numbers. Any other global, so any code, is refused.

    Nothing of NumPy's own is handed to the pickle either: with ``numpy.ndarray`` and ``numpy.dtype`` a file
    can lay an array of objects over bytes of its choice, pointers, that is.
    """

    STAND_INS: ClassVar[dict[str, Any]] = {
        "numpy.core.multiarray._reconstruct": _Array,
        "numpy.core.numeric._frombuffer": _from_buffer,  # protocol 5
        "numpy.dtype": _Dtype,
        "numpy.ndarray": None,  # only ever an argument of _reconstruct
        "_codecs.encode": bytes,  # protocol 2: how Python 3 writes bytes
    }

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}".replace("numpy._core", "numpy.core")
        if wanted not in self.STAND_INS:
            raise InputError(f"the pickle asks for {module}.{name}: only NumPy arrays are read from pickles")
        return self.STAND_INS[wanted]


def _read_pickle(path: str | Path) -> Any:
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
        path: the pickle. It is read by an unpickler that knows arrays of numbers and nothing else.
        label_names: the L labels in the file's order; the file does not hold them (VOC and COCO: alphabetical).
        num_images: how many images were counted, if known; the file does not hold that either.

    Raises:
        InputError: the pickle holds anything but arrays, or arrays that do not fit each other or the names.
    """
    content = _read_pickle(path)
    adj, nums = (content.get("adj"), content.get("nums")) if isinstance(content, dict) else (None, None)
    if not isinstance(adj, _Array) or not isinstance(nums, _Array):
        raise InputError(f"{path}: expected a dict with arrays 'adj' and 'nums', as ML-GCN writes it")
    cooccurrence, counts = adj.numbers, nums.numbers
    names = check_names(label_names, len(label_names))
    if cooccurrence.shape != (len(names), len(names)) or counts.size != len(names):
        raise InputError(
            f"{path}: {len(names)} label names, but adj is {cooccurrence.shape} and nums {counts.shape}"
        )
    for key, array in (("adj", cooccurrence), ("nums", counts)):
        if not ((array >= 0) & (array == np.round(array))).all():
            raise InputError(f"{path}: {key} must hold counts: whole numbers, 0 or more")
    cooccurrence, counts = cooccurrence.astype(np.int64), counts.astype(np.int64).ravel()
    np.fill_diagonal(cooccurrence, 0)
    if (cooccurrence != cooccurrence.T).any() or (cooccurrence > counts).any():
        raise InputError(f"{path}: adj must be symmetric, and no pair more frequent than its labels in nums")
    return LabelCounts(tuple(names), counts, sp.csr_array(cooccurrence), num_images)


def import_mlgcn_vectors(path: str | Path) -> torch.Tensor:
    """Converts ML-GCN's ``*_glove_word2vec.pkl``, label vectors (L, E), as safely; give them as ``embeddings``.

    Raises:
        InputError: the pickle holds anything but one array (L, E).
    """
    vectors = _read_pickle(path)
    if not isinstance(vectors, _Array) or vectors.numbers.ndim != 2:
        raise InputError(f"{path}: expected an array of label vectors (L, E)")
    return torch.from_numpy(vectors.numbers.astype(np.float32))
