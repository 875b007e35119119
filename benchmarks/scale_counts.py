"""Reading and counting labels: synthetic annotations of the size of Open Images."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scale_process import Sizes, apart, measure, noted

import zoo  # its parts are imported when they are used: a reader of CSV needs no torch

if TYPE_CHECKING:
    from zoo.counts import LabelCounts

IMAGES_PER_ROW = 9_000_000 / 60_000_000  # Open Images: about 9 million images with 60 million human labels


def write_label_rows(path: Path, rows: int, num_labels: int, *, seed: int = 0, step: int = 2**20) -> None:
    """A label CSV as Open Images' human labels: rows grouped by image, Zipf labels, three in ten verified absent."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    generator = np.random.default_rng(seed)
    labels = pa.array([f"/m/0{i:05x}" for i in generator.permutation(num_labels)])
    share = 1 / np.arange(1, num_labels + 1)
    sums = np.cumsum(share / share.sum())
    header = pa_csv.WriteOptions(include_header=False, quoting_style="none")
    images = 0
    with path.open("wb") as stream:
        stream.write(b"ImageID,Source,LabelName,Confidence\n")
        for start in range(0, rows, step):
            size = min(step, rows - start)
            new = generator.random(size) < IMAGES_PER_ROW
            image = images + np.cumsum(new)
            images = int(image[-1])
            # An odd multiplier scatters the numbers over 64 bits, and no two meet.
            scattered = image.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            digits = np.frombuffer(scattered.astype(">u8").tobytes().hex().encode(), dtype="S16")
            drawn = np.minimum(np.searchsorted(sums, generator.random(size)), num_labels - 1)
            source = pa.DictionaryArray.from_arrays(
                (generator.random(size) < 0.1).astype(np.int8), ["verification", "crowdsource-verification"]
            )
            table = pa.table(
                {
                    "image": pa.array(digits.astype("S16")).cast(pa.string()),
                    "source": source.cast(pa.string()),
                    "label": labels.take(pa.array(drawn)),
                    "confidence": (generator.random(size) < 0.7).astype(np.int8),
                }
            )
            pa_csv.write_csv(table, stream, header)


def read_label_rows(path: str) -> None:
    """The work of this project: a label CSV to sparse annotations."""
    from zoo.data.label_rows import RowFile, read_label_rows

    parsed = read_label_rows(
        [RowFile(Path(path), "train")], image="ImageID", label="LabelName", value="Confidence"
    )
    stored = parsed.annotations.stored
    print(f"{len(parsed.names):,} images, {len(parsed.label_names):,} labels, {stored.nnz:,} entries")


def read_with_csv_module(path: str) -> None:
    """What a loop over ``csv.reader`` costs that makes the same numbers of the same names."""
    images: dict[str, int] = {}
    labels: dict[str, int] = {}
    entries: dict[tuple[int, int], bool] = {}
    with open(path, newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for image, _, label, confidence in reader:
            key = (images.setdefault(image, len(images)), labels.setdefault(label, len(labels)))
            entries[key] = entries.get(key, False) or float(confidence) == 1
    print(f"{len(images):,} images, {len(labels):,} labels, {len(entries):,} entries")


def write_targets(
    path: Path, num_images: int, num_labels: int, *, per_image: int = 8, seed: int = 0, step: int = 2**18
) -> None:
    """Positives of images, sparse: as many different labels on each, by Zipf's law."""
    import scipy.sparse as sp

    generator = np.random.default_rng(seed)
    share = 1 / np.arange(1, num_labels + 1)
    sums = np.cumsum(share / share.sum())
    labels = generator.permutation(num_labels).astype(np.int32)
    columns = np.empty((num_images, per_image), dtype=np.int32)
    for start in range(0, num_images, step):
        size = min(step, num_images - start)
        drawn = np.minimum(np.searchsorted(sums, generator.random((size, 3 * per_image))), num_labels - 1)
        order = drawn.argsort(1, kind="stable")
        ordered = np.take_along_axis(drawn, order, 1)
        again = np.zeros(drawn.shape, dtype=bool)
        np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
        first = again.argsort(1, kind="stable")[:, :per_image]  # those that are not drawn again
        columns[start : start + size] = np.sort(labels[np.take_along_axis(drawn, first, 1)], 1)
    ends = np.arange(num_images + 1, dtype=np.int32) * per_image
    stored = (np.ones(columns.size, dtype=np.int8), columns.ravel(), ends)
    sp.save_npz(path, sp.csr_array(stored, shape=(num_images, num_labels)), compressed=False)


def count_labels(path: str) -> None:
    """The work of this project: sparse annotations, in memory, to counts of labels and pairs."""
    counted(path)


def counted(path: str) -> LabelCounts:
    """The counts of labels and pairs in a file of sparse annotations."""
    import scipy.sparse as sp

    from zoo.annotations import Annotations

    annotations = Annotations(sp.load_npz(path))
    names = [f"label {i}" for i in range(annotations.shape[1])]
    with noted("counted"):
        counts = zoo.count_labels(annotations, names)
    print(f"{counts.cooccurrence.nnz // 2:,} pairs of labels;")
    return counts


def label_graph(path: str) -> None:
    """Counts, and the label graph of them with random vectors."""
    counts = counted(path)
    with noted("label graph"):
        graph = zoo.label_graph(counts, embeddings="random")
    print(f"{graph.num_edges:,} edges")


def coupling_edges(path: str) -> None:
    """Counts, and the couplings of all labels."""
    from zoo.couplings import coupling_edges

    counts = counted(path)
    with noted("couplings"):
        source, _, _ = coupling_edges(counts)
    print(f"{len(source):,} edges")


def label_rows(sizes: Sizes, folder: Path) -> Iterator[dict[str, Any]]:
    """Section: reading a label CSV with one row a label, against the csv module on a hundredth of it."""
    for work, size in ((read_label_rows, sizes.rows), (read_with_csv_module, max(sizes.rows // 100, 1))):
        path = folder / "train-annotations-human-imagelabels.csv"
        apart(write_label_rows, path, size, sizes.num_labels)
        mebibytes = path.stat().st_size / 2**20
        row = {"size": f"{size:,} rows", **measure(work, str(path))}
        path.unlink()
        row["note"] = f"{mebibytes:,.0f} MiB of CSV; {row['note']}"
        if size < sizes.rows:
            seconds = row["seconds"] * sizes.rows / size
            row["note"] += f"; extrapolated to {sizes.rows:,} rows: {seconds:,.0f} s"
        yield row


def label_counts(sizes: Sizes, folder: Path) -> Iterator[dict[str, Any]]:
    """Section: counting labels, and what is made of the counts, with eight labels on each image."""
    num_images = max(round(sizes.rows * IMAGES_PER_ROW), 1)
    for works, size in (
        ((count_labels, coupling_edges), (num_images, sizes.num_labels)),
        ((label_graph,), (max(num_images // 9, 1), 5 * sizes.num_labels)),
    ):
        path = folder / "targets.npz"
        apart(write_targets, path, *size)
        name = "{:,} images, {:,} labels".format(*size)
        for work in works:
            yield {"size": name, **measure(work, str(path))}
        path.unlink()
