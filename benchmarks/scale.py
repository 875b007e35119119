"""How the label side scales: time and memory of each step on synthetic annotations of the size of Open Images.

    python benchmarks/scale.py [--sections '[label_rows]'] [--rows 60000000] [--output benchmarks/results/scale.csv]

Each measurement runs in a process of its own, whose peak memory is its own (Python, torch and libraries included).
A row of the table is replaced when the same work of the same size is measured again.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jsonargparse import auto_cli

import zoo
from zoo.lookup import lookup

if TYPE_CHECKING:
    from zoo.counts import LabelCounts

LIBRARIES = ("numpy", "scipy", "pyarrow")
COLUMNS = ("section", "work", "size", "seconds", "cpu_seconds", "peak_MiB", "note")
IMAGES_PER_ROW = 9_000_000 / 60_000_000  # Open Images: about 9 million images with 60 million human labels
NUM_LABELS = 20_000


def write_label_rows(path: Path, rows: int, *, seed: int = 0, step: int = 2**20) -> None:
    """A label CSV as Open Images' human labels: rows grouped by image, Zipf labels, three in ten verified absent."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    generator = np.random.default_rng(seed)
    labels = pa.array([f"/m/0{i:05x}" for i in generator.permutation(NUM_LABELS)])
    share = 1 / np.arange(1, NUM_LABELS + 1)
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
            drawn = np.minimum(np.searchsorted(sums, generator.random(size)), NUM_LABELS - 1)
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


def count_labels(path: str) -> LabelCounts:
    """The work of this project: sparse annotations, in memory, to counts of labels and pairs."""
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
    counts = count_labels(path)
    with noted("label graph"):
        graph = zoo.label_graph(counts, embeddings="random")
    print(f"{graph.num_edges:,} edges")


def coupling_edges(path: str) -> None:
    """Counts, and the couplings of all labels."""
    from zoo.couplings import coupling_edges

    counts = count_labels(path)
    with noted("couplings"):
        source, _, _ = coupling_edges(counts)
    print(f"{len(source):,} edges")


@contextlib.contextmanager
def noted(what: str) -> Iterator[None]:
    """Prints how long a part of the work took."""
    began, used = time.perf_counter(), time.process_time()
    yield
    print(f"{what} in {time.perf_counter() - began:.1f} s ({time.process_time() - used:.1f} s of CPU),")


def measure(work: str, *arguments: str) -> dict[str, Any]:
    """Runs a piece of ``WORK`` in a process of its own, its imports included; what it prints is the note."""
    command = [sys.executable, __file__, "--worker", work, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *said, figures = done.stdout.strip().splitlines()
    measured = dict(zip(("seconds", "cpu_seconds", "peak_MiB"), map(float, figures.split()), strict=True))
    return {"work": work, **measured, "note": " ".join(said)}


def label_rows(rows: int, folder: Path) -> list[dict[str, Any]]:
    """Section: reading a label CSV with one row a label, against the csv module on a hundredth of it."""
    table = []
    for work, size in (("read_label_rows", rows), ("read_with_csv_module", max(rows // 100, 1))):
        path = folder / "train-annotations-human-imagelabels.csv"
        write_label_rows(path, size)
        mebibytes = path.stat().st_size / 2**20
        row = {"size": f"{size:,} rows", **measure(work, str(path))}
        path.unlink()
        row["note"] = f"{mebibytes:,.0f} MiB of CSV; {row['note']}"
        if size < rows:
            row["note"] += f"; extrapolated to {rows:,} rows: {row['seconds'] * rows / size:,.0f} s"
        table.append(row)
    return table


def label_counts(rows: int, folder: Path) -> list[dict[str, Any]]:
    """Section: counting labels, and what is made of the counts, with eight labels on each image."""
    table = []
    num_images = max(round(rows * IMAGES_PER_ROW), 1)
    for works, size in (
        (("count_labels", "coupling_edges"), (num_images, NUM_LABELS)),
        (("label_graph",), (max(num_images // 9, 1), 5 * NUM_LABELS)),
    ):
        path = folder / "targets.npz"
        write_targets(path, *size)
        name = "{:,} images, {:,} labels".format(*size)
        table += [{"size": name, **measure(work, str(path))} for work in works]
        path.unlink()
    return table


SECTIONS: dict[str, Callable[[int, Path], list[dict[str, Any]]]] = {
    "label_rows": label_rows,
    "label_counts": label_counts,
}
WORK: dict[str, Callable[..., object]] = {
    "read_label_rows": read_label_rows,
    "read_with_csv_module": read_with_csv_module,
    "count_labels": count_labels,
    "label_graph": label_graph,
    "coupling_edges": coupling_edges,
}


def main(
    sections: list[str] | None = None,
    rows: int = 60_000_000,
    folder: Path | None = None,
    output: Path = Path("benchmarks/results/scale.csv"),
) -> None:
    """Measures, and writes one CSV row for each piece of work and size, with machine and versions.

    Args:
        sections: which; all by default.
        rows: of the label CSV: 60 million make 2.6 GB, which are removed again.
        folder: where temporary files go.
        output: where the table goes.
    """
    provenance = {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),  # of the last minute: what else ran beside
        "zoo": zoo.__version__,
        **{library: importlib.metadata.version(library) for library in LIBRARIES},
        "date": datetime.date.today().isoformat(),
    }
    for section in sections or list(SECTIONS):
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            measured = lookup("section", section, SECTIONS)(rows, Path(temporary))
        for row in measured:
            print(
                f"{row['work']}, {row['size']}: {row['seconds']} s, {row['peak_MiB']:.0f} MiB; {row['note']}"
            )
        replace_rows(output, [{"section": section, **row, **provenance} for row in measured])
    print(f"written to {output}")


def replace_rows(output: Path, measured: list[dict[str, Any]], columns: tuple[str, ...] = COLUMNS) -> None:
    """Puts rows into the table in the place of those of the same work and size; these columns come first."""
    kept: list[dict[str, Any]] = []
    if output.is_file():
        with output.open(newline="") as file:
            kept = list(csv.DictReader(file))
    same = {(row["work"], row["size"]) for row in measured}
    table = [row for row in kept if (row["work"], row["size"]) not in same] + measured
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="") as file:
        names = list(dict.fromkeys([*columns, *(name for row in table for name in row)]))
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        began = time.perf_counter()
        WORK[sys.argv[2]](*sys.argv[3:])
        seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
        cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**10  # Linux counts in KiB
        print(f"{seconds:.2f} {cpu:.2f} {peak:.0f}")
    else:
        auto_cli(main)
