"""The name of a label -> the entries of a vocabulary that stand for it, by these rules, the first that answers:

1. the name as it stands: lower case, as written, without accents; spaces as "_" or " ";
2. its singular: "wine glasses", "people";
3. its parts: at spaces and underscores, then at punctuation, then at camelCase; each part by all of these rules;
4. a run of letters as two or three known words: "diningtable";
5. another spelling or everyday name of the same thing (:data:`SAME`): "aeroplane" and "airplane".

In a table of whole names, which do not come apart, rules 1, 2 and 5.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from zoo.vector_files import WordVectors, ranked

# How a label reads: each word of its name with the entries that stand for it, none where it is unknown.
Reading = list[tuple[str, list[str]]]
Resolved = tuple[WordVectors, dict[str, Reading]]

# Where a name comes apart, the plainest seams first.
SEAMS = (
    r"[\s_]+",
    r"[\W_]+",
    r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\d)(?=[^\W\d])|(?<=[^\W\d])(?=\d)",
)


# What goes by several names in the labels of the field's data sets, and in British and American English.
SAME = (
    ("airplane", "aeroplane", "plane"),
    ("bicycle", "bike"),
    ("motorcycle", "motorbike"),
    ("couch", "sofa"),
    ("tv", "tvmonitor", "tv monitor", "television"),
    ("dining table", "diningtable"),
    ("potted plant", "pottedplant"),
    ("cell phone", "cellphone", "mobile phone"),
    ("hair drier", "hair dryer"),
    ("donut", "doughnut"),
    ("person", "human"),
    ("gray", "grey"),
    ("color", "colour"),
    ("harbor", "harbour"),
    ("tire", "tyre"),
    ("pajamas", "pyjamas"),
    ("jewelry", "jewellery"),
    ("theater", "theatre"),
    ("armor", "armour"),
    ("plow", "plough"),
    ("mustache", "moustache"),
)
OTHER_NAMES = {name: [other for other in names if other != name] for names in SAME for name in names}

# The plurals that no ending tells, and the endings, the first that fits.
PLURALS = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "buses": "bus",
}
ENDINGS = (
    ("ies", ("y", "ie")),
    ("ves", ("f", "fe", "ve")),
    ("men", ("man",)),
    ("sses", ("ss",)),
    ("xes", ("x", "xe")),
    ("ches", ("ch", "che")),
    ("shes", ("sh",)),
    ("oes", ("o", "oe")),
    ("es", ("e", "")),
    ("ss", ("ss",)),  # no plural
    ("s", ("",)),
)


def singulars(text: str) -> list[str]:
    """What the last word of a name in lower case may be the plural of."""
    before, space, last = text.replace("_", " ").rpartition(" ")
    if last in PLURALS:
        return [f"{before}{space}{PLURALS[last]}"]
    for ending, others in ENDINGS:
        if last.endswith(ending) and len(last) > len(ending) + 1:
            stem = last.removesuffix(ending)
            return [f"{before}{space}{stem}{other}" for other in others if stem + other != last]
    return []


def same_thing(text: str) -> list[str]:
    """Other names of what a name in lower case, or its singular, stands for."""
    return [other for name in (text, *singulars(text)) for other in OTHER_NAMES.get(name, ())]


def plain_words(name: str) -> str:
    """A name as words with spaces between: at every seam it comes apart, in lower case."""
    pieces = [name]
    for seam in SEAMS:
        pieces = [piece for whole in pieces for piece in re.split(seam, whole)]
    return " ".join(piece.lower() for piece in pieces if any(map(str.isalnum, piece))) or name.strip()


def look_up(names: Sequence[str], read: Callable[[set[str]], WordVectors]) -> Resolved:
    """Reads only the vectors that the labels can need out of a vocabulary of any size."""
    # A name comes fully apart when nothing is known: what is asked for on the way is all it can ever need.
    wanted: set[str] = set()
    for name in names:
        _read_name(name, wanted.add)
    vectors = read(wanted)
    ranks = {word: rank for word, (rank, _) in vectors.items()}
    return vectors, {name: _read_name(name, ranks.get) for name in names}


def _read_name(text: str, rank: Callable[[str], int | None], seams: tuple[str, ...] = SEAMS) -> Reading:
    spellings = _spellings(text)
    for spelling in spellings:
        if rank(spelling) is not None:
            return [(text, [spelling])]
    bare = text.strip().lower()
    if known := _most_frequent(singulars(bare), rank):
        return [(text, known)]
    if not seams:
        return [(text, _compound(spellings[-1], rank) or _most_frequent(same_thing(bare), rank))]
    pieces = [piece for piece in re.split(seams[0], text) if any(map(str.isalnum, piece))]
    return [word for piece in pieces for word in _read_name(piece, rank, seams[1:])] or [(text, [])]


def _most_frequent(names: list[str], rank: Callable[[str], int | None]) -> list[str]:
    """The one of several names that a vocabulary ranks first ("cookies" are no "cooky"), if it has any."""
    ranks = [(rank(spelling), spelling) for name in names for spelling in _spellings(name)]
    known = [(place, spelling) for place, spelling in ranks if place is not None]
    return [min(known)[1]] if known else []


def _spellings(text: str) -> list[str]:
    """How a vocabulary may write it: lower case first ("Dog" and "dog" are one), without accents last."""
    text = unicodedata.normalize("NFC", text.strip())
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    # word2vec's phrases are hot_dog.
    written = [re.sub(r"[\s_]+", gap, t) for t in (text.lower(), text, bare) for gap in ("_", " ")]
    return list(dict.fromkeys(written))


def _compound(text: str, rank: Callable[[str], int | None]) -> list[str]:
    """Splits a run of letters into two or three known words, or returns nothing.

    The fewest words win, then the split whose rarest word is the most frequent. Large vocabularies hold
    nearly every short string, so a word of n letters must be among the first 1000 * 6^(n-2): "tv" passes,
    while a misspelled label mostly stays an error instead of becoming the average of its shreds.
    """
    if not text.isalpha() or len(text) > 50:
        return []
    best: dict[int, tuple[int, int, list[str]]] = {0: (0, 0, [])}  # end -> (words, rank of the rarest, words)
    for end in range(2, len(text) + 1):
        splits = []
        for start in range(end - 1):
            place = rank(text[start:end])
            if place is not None and start in best and place < 1000 * 6 ** (end - start - 2):
                count, rarest, words = best[start]
                splits.append((count + 1, max(rarest, place), [*words, text[start:end]]))
        if splits:
            best[end] = min(splits)
    count, _, words = best.get(len(text), (0, 0, []))
    return words if count <= 3 else []


def match_labels(names: Sequence[str], labels: list[str], rows: np.ndarray) -> Resolved:
    """Whole names only: "sheep" and "dog" among the labels must not make up a "sheepdog"."""

    def key(name: str) -> str:
        return re.sub(r"[\s_-]+", " ", name.strip().lower())

    spaced = {key(label): label for label in reversed(labels)}
    # "fire hydrant" answers to "firehydrant" too; "diningtable" and "dining table", both there, stay two.
    run_together = {name.replace(" ", ""): label for name, label in spaced.items()}
    matches = {}
    for name in names:
        asked = [key(name), *singulars(key(name)), *same_thing(key(name))]
        found = (spaced.get(text) or run_together.get(text.replace(" ", "")) for text in asked)
        matches[name] = next(filter(None, found), None)
    return ranked(labels, rows), {name: [(name, [match] if match else [])] for name, match in matches.items()}
