"""The report of ``zoo graph``: its numbers against slow loops, its warnings, its words, and that it fits the page."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from zoo.annotations import Annotations
from zoo.counts import LabelCounts, count_labels
from zoo.graph import label_graph
from zoo.graph_report import describe_graph, describe_vectors, graph_report, warnings
from zoo.label_spaces import label_counts
from zoo.lookup import InputError
from zoo.thresholds import connectivity, threshold_for

# 40 photos of birds, 25 at night time, one of both: chance.
CHANCE = [["birds", "sky"]] * 39 + [["nighttime", "moon"]] * 24 + [["birds", "nighttime"]]


def names_of(num_labels: int) -> list[str]:
    return [f"label {i:02}" for i in range(num_labels)]


def find(counts: LabelCounts, words: str, threshold: float | None = None) -> str:
    """The one warning with these words."""
    (found,) = (warning for warning in warnings(counts, threshold) if words in warning)
    return found


def test_no_threshold_helps_where_nothing_goes_together() -> None:
    counts = count_labels(np.eye(4, dtype=np.int8), names_of(4))
    assert threshold_for(counts) is None
    assert find(counts, "isolates", 0.1) == (
        "threshold 0.1 isolates 4 of 4 labels; any of 0.01 or more leaves most of them alone"
    )


# --- warnings ------------------------------------------------------------------------------------------------


def test_labels_with_few_positives_and_with_none() -> None:
    targets = np.zeros((100, 4), dtype=np.int8)
    targets[:9, 1] = targets[:10, 2] = targets[:3, 3] = 1
    counts = count_labels(targets, ["none", "nine", "ten", "three"])
    assert find(counts, "never") == "1 label never positive: none"
    assert find(counts, "fewer than 10 positive") == (
        "2 labels with fewer than 10 positive images: three 3, nine 9"
    )


def test_labels_on_nearly_every_image() -> None:
    targets = np.zeros((100, 3), dtype=np.int8)
    targets[:95, 0] = targets[:94, 1] = 1
    targets[:40, 2], targets[40:60, 2] = 1, -1
    counts = count_labels(targets, ["most", "many", "half"])
    assert find(counts, "images or more") == "1 label on 95 % of images or more: most"


def test_labels_on_nearly_every_image_of_those_in_which_they_are_known() -> None:
    targets = np.full((100, 2), -1, dtype=np.int8)
    targets[:49, 0], targets[:, 1] = 1, np.arange(100) % 2
    counts = count_labels(targets, ["seldom", "always"])
    assert find(counts, "images or more").endswith(": seldom")
    assert find(counts, "known in") == "1 label known in fewer than half of the 100 images: seldom 49"


def test_labels_that_are_always_together() -> None:
    targets = (np.random.default_rng(0).random((200, 3)) < 0.3).astype(np.int8)
    targets[:, 2] = targets[:, 0]
    counts = count_labels(targets, ["boat", "car", "ship"])
    assert find(counts, "always on the same") == (
        "always on the same images, one label under several names? boat, ship"
    )


def test_a_threshold_that_isolates_most_labels() -> None:
    counts = label_counts("voc2007")
    assert find(counts, "isolates", 0.4).startswith(
        "threshold 0.4 isolates 13 of 20 labels; 0.31 is the largest"
    )
    assert [len(row.isolated) for row in connectivity(counts, [0.31, 0.32])] == [10, 11]
    assert not [warning for warning in warnings(counts, 0.31) if "isolates" in warning]
    assert warnings(counts) == [], "a graph without a threshold has none that is wrong"


# --- words ---------------------------------------------------------------------------------------------------


def test_the_report_tells_edges_rarest_labels_and_what_goes() -> None:
    annotations = Annotations.from_array(_targets(CHANCE))
    lines = graph_report(count_labels(CHANCE), 0.1, annotations).splitlines()
    assert lines[:4] == [
        "4 labels on 64 images; rarest: moon 24, nighttime 25, sky 39, birds 40",
        "2.00 labels per image, from 2 to 2; 0 images without any",
        "threshold 0.05        4 edges, 0 labels without any; 2 components, largest 2",
        "threshold 0.1         4 edges, 0 labels without any; 2 components, largest 2  <- threshold",
    ]
    title = lines.index("strongest that the threshold removes:")
    assert lines[title + 1 : title + 3] == [
        "  nighttime -> birds 0.04, 1 image",
        "  birds -> nighttime 0.03, 1 image",
    ]
    assert lines[lines.index("strongest edges:") + 1] == "  sky -> birds 1.00, 39 images"
    title = lines.index("implied on every image, 2 pairs that chance does not explain:")
    assert lines[title + 1 : title + 3] == ["  sky -> birds, 39 images", "  moon -> nighttime, 24 images"]


def _targets(lists: list[list[str]]) -> np.ndarray:
    names = sorted(set(itertools.chain(*lists)))
    return np.array([[name in labels for name in names] for labels in lists], dtype=np.int8)


def test_a_threshold_of_its_own_and_none_at_all() -> None:
    counts = count_labels(CHANCE)
    text = graph_report(counts, 0.98)
    (marked,) = (line for line in text.splitlines() if "<- threshold" in line)
    assert marked.startswith("threshold 0.98        2 edges")
    assert "removes:\n  birds -> sky 0.97, 39 images" in text
    assert "strongest edges:\n  sky -> birds 1.00" in text
    without = graph_report(counts, None)
    assert "<- threshold" not in without
    assert "strongest that the threshold 0.1 removes:\n  nighttime -> birds" in without


def test_isolated_labels_are_named() -> None:
    text = graph_report(label_counts("voc2007"), 0.4)
    unwrapped = " ".join(text.split())
    assert (
        "labels without any edge at 0.4: aeroplane, bird, boat, bus, car, cat, cow, dog, potted" in unwrapped
    )
    assert "without any edge" not in graph_report(count_labels(CHANCE), 0.1)


def test_groups_of_both_kinds() -> None:
    random = np.random.default_rng(0)
    season = np.eye(4, dtype=np.int8)[random.integers(0, 4, 1000)]
    place = np.eye(3, dtype=np.int8)[random.integers(0, 3, 1000)][:, :2]
    names = ["spring", "summer", "autumn", "winter", "street", "forest"]
    lines = graph_report(count_labels(np.concatenate([season, place], axis=1), names), 0.1).splitlines()
    exactly = lines[lines.index("groups with exactly one label on every image:") + 1]
    assert exactly.startswith("  exactly one of ")
    assert exactly.endswith(": on all of 1,000 images")
    assert all(name in exactly for name in names[:4])
    title = "groups with at most one label on any image, which chance does not explain:"
    at_most = lines[lines.index(title) + 1]
    assert at_most.startswith(("  at most one of street, forest: one on ", "  at most one of forest, street"))
    assert "groups with exactly one label on every image: none\n" in graph_report(
        label_counts("coco2014"), 0.1
    )


HIERARCHY = (("vehicle", "car"), ("vehicle", "van"), ("car", "taxi"))


def test_a_hierarchy_that_the_annotations_contradict() -> None:
    names = ["vehicle", "car", "van", "taxi"]
    targets = np.array([[1, 1, 0, 1], [0, 1, 0, 0], [-1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0]])
    annotations = Annotations.from_array(targets)
    lines = graph_report(count_labels(annotations, names), 0.1, annotations, HIERARCHY).splitlines()
    title = lines.index("hierarchy of 3 pairs, positive images:")
    assert lines[title + 1 : title + 9] == [
        "  vehicle 2",
        "    car 3",
        "      taxi 1",
        "    van 3",
        "  a child is positive and its parent negative 3 times",
        "  a child is positive and its parent unknown 1 time",
        "    van without vehicle: 2 of 3 images",
        "    car without vehicle: 1 of 3 images",
    ]
    right = Annotations.from_array((targets == 1) | (targets[:, :1] < 2) & (np.arange(4) == 0))
    text = graph_report(count_labels(right, names), 0.1, right, HIERARCHY)
    assert "  the annotations agree with it: no image has a child without its parent\n" in text
    with pytest.raises(InputError, match="unknown label of the hierarchy 'lorry'"):
        graph_report(count_labels(right, names), 0.1, right, [("vehicle", "lorry")])


def test_a_long_hierarchy_is_cut() -> None:
    names = names_of(60)
    annotations = Annotations.from_array(np.ones((3, 60), dtype=np.int8))
    pairs = [(names[0], name) for name in names[1:]]
    text = graph_report(count_labels(annotations, names), 0.1, annotations, pairs)
    assert "\n  and 30 more lines\n" in text


def test_unknown_entries() -> None:
    targets = np.array([[1, -1], [1, -1], [1, -1], [0, 1]], dtype=np.int8)
    text = graph_report(count_labels(targets, ["a", "b"]), 0.1)
    assert "1.00 labels per image; 37.5% unknown, most of b: known in 1 image\n" in text


def test_no_images_and_one_label() -> None:
    empty = Annotations.from_array(np.zeros((0, 2), dtype=np.int8))
    text = graph_report(count_labels(empty, ["a", "b"]), 0.1, empty)
    assert text.startswith("2 labels on 0 images; rarest: a 0, b 0\n0.00 labels per image\n")
    assert "2 labels never positive: a, b" in text
    assert "strongest edges: none" in text
    assert graph_report(count_labels(np.ones((1, 1)), ["a"]), 0.1).startswith("1 label on 1 image;")


def test_it_fits_100_columns_whatever_the_names() -> None:
    random = np.random.default_rng(0)
    names = [f"a label whose name has several words and number {i}" for i in range(60)]
    counts = count_labels((random.random((300, 60)) < 0.02).astype(np.int8), names)
    text = graph_report(counts, 0.4)
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) < 80
    for text in (
        graph_report(label_counts(name), tau) for name in ("voc2007", "coco2014") for tau in (0.1, 0.4)
    ):
        assert max(map(len, text.splitlines())) <= 100
        assert not [line for line in text.splitlines() if line.strip() == "threshold"], (
            "marks are not wrapped"
        )


def test_brackets_and_spaces_in_names_are_kept() -> None:
    counts = count_labels([["[red]  wine", "glass-2"]] * 3)
    assert "[red]  wine -> glass-2 1.00, 3 images" in graph_report(counts, 0.1)


def test_twenty_thousand_labels_are_quick() -> None:
    random = np.random.default_rng(0)
    rows, columns = np.repeat(np.arange(50_000), 4), random.integers(0, 20_000, 200_000)
    targets = sp.coo_array((np.ones(200_000, np.int8), (rows, columns)), shape=(50_000, 20_000)).tocsr()
    targets.data[:] = 1
    annotations = Annotations(targets)
    counts = count_labels(annotations, [f"l{i}" for i in range(20_000)])
    start = time.perf_counter()
    text = graph_report(counts, 0.1, annotations)
    assert time.perf_counter() - start < 30, "of which a second is usual, and (L, L) in full would not fit"
    assert len(text) < 6000


# --- the graph -----------------------------------------------------------------------------------------------


def test_what_kind_of_graph_it_is() -> None:
    counts = label_counts("voc2007")
    line = describe_graph(label_graph(counts, threshold=0.4, embeddings="onehot"))
    assert " ".join(line.split()) == (
        "label graph: conditional (threshold 0.4, p 0.2, normalization mlgcn), 6 edges beside self-loops, "
        "13 labels without any"
    )
    assert max(map(len, line.splitlines())) <= 100
    signed = describe_graph(label_graph(counts, edges="couplings", embeddings="onehot"))
    assert signed.startswith(
        "label graph: couplings (neighbors 64, pseudo_images 5), 380 edges beside self-loops"
    )
    assert "of them negative, 0 labels without any" in " ".join(signed.split())
    graph = label_graph(CHANCE, embeddings="onehot")
    graph.recipe = {}
    graph.edge_weight = torch.ones_like(graph.edge_weight)
    assert describe_graph(graph) == (
        "label graph: edges of a file, 4 edges beside self-loops, 0 labels without any"
    )


def test_which_labels_were_read_as_which_words(tmp_path):
    (tmp_path / "v.txt").write_text("dog 1 1\ntraffic 2 2\nlight 3 3\nairplane 5 5\n")
    photos = [["Dog", "aeroplane"], ["trafficLight"]]
    graph = label_graph(photos, embeddings=tmp_path / "v.txt")
    assert (
        describe_vectors(graph)
        == "label vectors: v.txt; read aeroplane as airplane, trafficLight as traffic, light"
    )
    assert "words" not in describe_graph(graph)
    assert describe_vectors(label_graph([["dog"]], embeddings=tmp_path / "v.txt")) == "label vectors: v.txt"
