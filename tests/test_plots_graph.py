# ruff: noqa: F811 (fixtures are imported, and are arguments of the tests)
from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from picture_checks import (
    ODD_NAMES,
    _no_warnings,  # noqa: F401
    drawn,  # noqa: F401
    is_picture,
    label_graph,
    outside,
    overlapping,
    texts,
)
from torch_geometric.data import Data

import zoo
from zoo.counts import LabelCounts, count_labels
from zoo.lookup import InputError
from zoo.plots import graph_pictures, plot_cooccurrence, plot_label_graph, plot_label_graph_page
from zoo.plots.communities import (
    find_communities,
    label_communities,
    name_communities,
    network_of,
    strongest_edges,
    strongest_labels,
)
from zoo.plots.graph_map import _points_along, box_colours
from zoo.plots.graph_pictures import write_graph_pictures
from zoo.plots.heat_map import _spaced, community_order
from zoo.plots.layout import arrange, divide, spread
from zoo.plots.page import PALETTE


def themed_counts(num_labels: int, theme: int, seed: int = 0) -> LabelCounts:
    """Images of three labels of one theme, of ``theme`` labels, whose first occurs most; some of another theme too."""
    generator = np.random.default_rng(seed)
    number = 40 * num_labels
    first = theme * generator.integers(0, num_labels // theme, number)
    others = first[:, None] + (theme * generator.random((number, 3)) ** 2).astype(int)
    stray = np.where(generator.random(number) < 0.1, generator.integers(0, num_labels, number), first)
    columns = np.concatenate([others, stray[:, None]], axis=1).ravel()
    rows = np.arange(number).repeat(4)
    targets = sp.coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(number, num_labels)).tocsr()
    targets.data[:] = 1
    # The names' order is not that of the themes.
    names = [f"label {k * 7 % num_labels} of {num_labels}" for k in range(num_labels)]
    return count_labels(targets, names)


def themed_graph(counts: LabelCounts) -> Data:
    return zoo.label_graph(counts, threshold=0.1, embeddings="onehot")


@pytest.mark.parametrize("num_labels", [20, 80])
def test_label_graph_names_do_not_overlap(tmp_path, drawn, num_labels):
    plot_label_graph(label_graph(num_labels, 3), tmp_path / "a.png", counts=torch.arange(num_labels))
    found = texts(drawn[0])
    assert sum(text.startswith("label ") for text, _ in found) == num_labels
    assert not overlapping(found)
    assert not outside(drawn[0])
    assert is_picture(tmp_path / "a.png")


def test_five_hundred_labels_all_have_their_names_and_every_community_its_box(tmp_path, drawn):
    from matplotlib.patches import Circle, Rectangle

    counts = themed_counts(500, 25)
    graph = themed_graph(counts)
    plot_label_graph(graph, tmp_path / "a.png", counts=counts.counts)
    found = texts(drawn[0])
    assert set(counts.label_names) < {text for text, _ in found}
    assert not overlapping(found)
    assert not outside(drawn[0])
    assert is_picture(tmp_path / "a.png")
    axes = drawn[0].axes[0]
    dots = [artist for artist in axes.get_children() if isinstance(artist, Circle)]
    boxes = [artist.get_bbox() for artist in axes.patches if type(artist) is Rectangle]
    inside = np.array([[box.contains(*dot.center) for box in boxes] for dot in dots])
    assert (inside.sum(1) == 1).all()
    assert (inside.argmax(1).reshape(-1, 25) == inside.argmax(1)[::25, None]).all(), "a theme, a box"
    assert len(boxes) == 20
    for a, b in combinations(boxes, 2):
        apart = max(a.x0, b.x0) >= min(a.x1, b.x1) or max(a.y0, b.y0) >= min(a.y1, b.y1)
        assert apart
        gap = max(max(a.x0, b.x0) - min(a.x1, b.x1), max(a.y0, b.y0) - min(a.y1, b.y1))
        colours = {dots[inside[:, boxes.index(box)].argmax()].get_facecolor() for box in (a, b)}
        assert gap > 0.1 or len(colours) == 2, "neighbours are of different colours"
    centres = np.array([dot.center for dot in dots])
    distances = np.linalg.norm(centres[:, None] - centres, axis=-1)
    radii = np.array([dot.radius for dot in dots])
    assert (distances + 99 * np.eye(500) > radii[:, None] + radii).all(), "no dot hides another"


def test_label_graph_draws_every_edge_from_source_to_target_but_no_loop(tmp_path, drawn):
    from matplotlib.patches import Circle, FancyArrowPatch

    graph = label_graph(6, 2)
    plot_label_graph(graph, tmp_path / "a.png")
    artists = drawn[0].axes[0].get_children()
    centres = np.array([artist.center for artist in artists if isinstance(artist, Circle)])
    arrows = [artist for artist in artists if isinstance(artist, FancyArrowPatch)]
    found = {
        tuple(
            int(np.linalg.norm(centres - end, axis=1).argmin()) for end in arrow._posA_posB
        ): arrow.get_linewidth()
        for arrow in arrows
    }
    expected = {
        (j, i): w
        for (j, i), w in zip(graph.edge_index.T.tolist(), graph.edge_weight.tolist(), strict=True)
        if i != j
    }
    assert found.keys() == expected.keys()
    assert sorted(found, key=found.get) == sorted(expected, key=expected.get)  # Wider where stronger.
    assert f"Label graph: 6 labels, {len(expected)} edges" in [text for text, _ in texts(drawn[0])]


def test_label_graph_arrows_stay_clear_of_where_names_avoid_them():
    from matplotlib.patches import FancyArrowPatch

    ends = np.array([[[0.0, 0.0], [3.0, 4.0]]])
    arrow = FancyArrowPatch(*ends[0], connectionstyle="arc3,rad=0.13", arrowstyle="-", shrinkA=0, shrinkB=0)
    start, control, end = arrow.get_connectionstyle()(*ends[0], shrinkA=0, shrinkB=0).vertices
    t = np.linspace(0, 1, 9)[:, None]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
    distances = np.linalg.norm(curve[:, None] - _points_along(ends)[None], axis=-1).min(1)
    assert distances.max() < 0.08


def test_label_graph_keeps_the_labels_with_most_edges_and_says_so(tmp_path, drawn):
    graph = label_graph(150, 3)
    dense = np.zeros((150, 150))
    dense[tuple(graph.edge_index.numpy())] = graph.edge_weight.numpy()
    np.fill_diagonal(dense, 0)
    degree = (dense > 0).sum(0) + (dense > 0).sum(1)
    weight = dense.sum(0) + dense.sum(1)
    expected = sorted(range(150), key=lambda k: (-degree[k], -weight[k]))[:30]
    labels, ends, weights = strongest_labels(graph, 30)
    assert labels.tolist() == sorted(expected)
    np.testing.assert_allclose(weights, [dense[labels[j], labels[i]] for j, i in ends])
    assert len(weights) == (dense[np.ix_(labels, labels)] > 0).sum()
    assert (np.diff(weights) <= 0).all()
    plot_label_graph(graph, tmp_path / "a.png", max_labels=30)
    written = [text for text, _ in texts(drawn[0])]
    assert f"Label graph: the 30 most linked of 150 labels, {len(weights)} edges" in written
    assert not overlapping(texts(drawn[0]))
    plot_label_graph(label_graph(14, 14), tmp_path / "b.png")
    dense = np.zeros((14, 14))
    graph = label_graph(14, 14)
    dense[tuple(graph.edge_index.numpy())] = graph.edge_weight.numpy()
    np.fill_diagonal(dense, 2)
    # A label has 13 edges each way: left out is what is the weakest of both its ends.
    weakest = (dense == dense.min(0)) & (dense == dense.min(1, keepdims=True))
    drawn_edges = 182 - weakest.sum()
    assert weakest.any()
    title = f"Label graph: 14 labels, {drawn_edges} strongest of 182 edges"
    assert title in [text for text, _ in texts(drawn[1])]


def test_every_label_keeps_its_strongest_edges():
    generator = np.random.default_rng(0)
    ends = np.array([(j, i) for j in range(20) for i in range(20) if j != i])
    ends = ends[generator.permutation(len(ends))[:200]]
    kept = set()
    for side in (0, 1):
        for label in range(20):
            kept |= set([e for e in range(200) if ends[e, side] == label][:3])
    assert strongest_edges(20, ends, 3).tolist() == sorted(kept)
    assert strongest_edges(5, np.zeros((0, 2), int), 3).tolist() == []


def test_label_graph_of_little(tmp_path, drawn):
    plot_label_graph(label_graph(1, 0), tmp_path / "one.png", counts=np.array([0]))
    plot_label_graph(label_graph(len(ODD_NAMES), 0, ODD_NAMES), tmp_path / "unlinked.png")
    plot_label_graph(label_graph(len(ODD_NAMES), 3, ODD_NAMES), tmp_path / "odd.png")
    signed = label_graph(8, 2)
    signed.edge_weight = torch.where(signed.edge_index[0] < 4, -signed.edge_weight, 0.0)
    plot_label_graph(signed, tmp_path / "signed.png")
    for figure in drawn:
        assert not overlapping(texts(figure))
        assert not outside(figure)
    assert "Label graph: 1 label, 0 edges" in [text for text, _ in texts(drawn[0])]
    names = [text for text, _ in texts(drawn[1])]
    assert {"$5 bill$", "naïve café", "a\\b{c}"} <= set(names)


def test_label_graph_names_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="counts has 4 entries for 5 labels"):
        plot_label_graph(label_graph(5, 1), tmp_path / "a.png", counts=np.arange(4))
    with pytest.raises(InputError, match="max_labels must be 1 or more, got 0"):
        plot_label_graph(label_graph(5, 1), tmp_path / "a.png", max_labels=0)


@pytest.mark.parametrize("places", [None, np.random.default_rng(0).normal(size=(5, 2))])
def test_boxes_share_a_page_by_area(places):
    areas = [9.0, 5.0, 5.0, 2.0, 1.0]
    boxes = divide(areas, (1.0, 2.0, 11.0, 7.0), places)
    assert [w * h for _, _, w, h in boxes] == pytest.approx([77 * area / 22 for area in areas])
    assert min(x for x, *_ in boxes) == 1
    assert max(x + w for x, _, w, _ in boxes) == pytest.approx(12)
    for (ax, ay, aw, ah), (bx, by, bw, bh) in combinations(boxes, 2):
        assert min(ax + aw, bx + bw) - max(ax, bx) < 1e-9 or min(ay + ah, by + bh) - max(ay, by) < 1e-9
    assert divide([], (0.0, 0.0, 1.0, 1.0)) == []


def test_boxes_lie_as_what_they_hold():
    places = np.array([(x, y) for x in (3.0, 0.0, 2.0, 1.0) for y in (5.0, 9.0)])
    boxes = divide([1.0] * 8, (0.0, 0.0, 4.0, 2.0), places)
    assert boxes == [(x, 0.0 if y == 5 else 1.0, 1.0, 1.0) for x, y in places]


def test_labels_are_moved_apart_but_not_out_of_their_box():
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.normal([5, 5], 0.3, (40, 2)), np.full((5, 2), 5.0)])
    sizes = generator.uniform([0.4, 0.2], [1.2, 0.3], (45, 2))
    box = (1.0, 2.0, 9.0, 6.0)
    before = points.copy()
    moved = spread(points, sizes, box)
    np.testing.assert_array_equal(points, before)
    assert (moved >= [1, 2]).all()
    assert (moved <= [10, 8]).all()
    shared = (sizes[:, None] + sizes) / 2 - np.abs(moved[:, None] - moved)
    assert shared.min(-1)[~np.eye(45, dtype=bool)].max() < 0.02
    alone = np.array([[2.0, 3.0], [7.0, 3.0]])
    np.testing.assert_array_equal(spread(alone, np.ones((2, 2)), box), alone)
    same = spread(np.full((2, 2), 5.0), np.ones((2, 2)), box)
    assert np.abs(same[0] - same[1]).max() >= 1 - 1e-3


def test_boxes_that_touch_have_different_colours():
    boxes = [((float(x), float(y), 1.0, 1.0), 10 * x + y) for x in range(6) for y in range(5)]
    chosen = box_colours(boxes)
    assert chosen.keys() == {number for _, number in boxes}
    assert set(chosen.values()) == set(range(len(PALETTE)))
    for ((x, y, *_), a), ((u, v, *_), b) in combinations(boxes, 2):
        assert max(abs(x - u), abs(y - v)) > 1 or chosen[a] != chosen[b]


def test_communities_are_the_themes():
    graph = themed_graph(themed_counts(120, 15))
    community = label_communities(graph)
    assert sorted(set(community)) == list(range(8))
    assert (community.reshape(8, 15) == community[::15, None]).all()
    graph.edge_weight = -graph.edge_weight
    np.testing.assert_array_equal(label_communities(graph), community)


def test_communities_come_by_size_and_labels_without_neighbours_have_none():
    ends = np.array([(4, 5), (0, 1), (1, 2), (2, 0)])
    network = network_of(8, ends, np.ones(4))
    assert find_communities(network).tolist() == [0, 0, 0, -1, 1, 1, -1, -1]
    assert find_communities(network_of(3, ends[:0], np.ones(0))).tolist() == [-1] * 3


def test_a_dense_network_is_of_its_strongest_edges():
    generator = np.random.default_rng(0)
    ends = np.array([(j, i) for j in range(90) for i in range(90) if j != i])
    weights = -np.sort(-generator.random(len(ends)))
    network = network_of(90, ends[generator.permutation(len(ends))], weights)
    assert min(dict(network.degree()).values()) >= 40
    assert network.size() < 90 * 89 / 2


def test_names_of_communities():
    names = [f"label {k}" for k in range(70)]
    community = np.concatenate([[0, 0, -1, 1], np.arange(34).repeat(2)[2:]])
    strength = np.arange(70.0)
    strength[1] = 99
    found = name_communities(names, community, strength)
    assert found[:4] == ["label 1 ...", "label 1 ...", "no neighbours", "label 5 ..."]
    assert set(found[-8:]) == {"small communities"}
    assert len(set(found)) == 30 + 2


def test_labels_without_neighbours_stand_in_rows_below():
    network = network_of(9, np.array([(0, 1), (1, 2)]), np.ones(2))
    sheet = arrange(network, find_communities(network), np.full((9, 2), [0.8, 0.2]), np.full(9, 0.05))
    assert sheet.points[3:, 1].max() < sheet.points[:3, 1].min()
    assert (sheet.points > 0).all()
    assert (sheet.points < [sheet.width - 0.8, sheet.height]).all()
    assert not sheet.boxes


class Page(HTMLParser):
    """The elements of a page, its texts by the id of the script that they are in, and what is not closed."""

    VOID = ("meta", "input", "br", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.elements, self.scripts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data

    def data(self):
        assert [attributes for tag, attributes in self.elements if tag == "script"] == [
            {"type": "application/json", "id": "data"},
            {},
        ]
        return json.loads(self.scripts[0])


EVIL_NAMES = [
    '</script><script>alert("1")</script>',
    "<!-- ",
    "a'b\"c",
    "&lt;",
    "{{data}}",
    "Ωμέγα\u2028",
    "{{title}}",
]


def test_the_page_holds_the_graph(tmp_path):
    counts = themed_counts(60, 20)
    graph = themed_graph(counts)
    path = plot_label_graph_page(graph, tmp_path / "new" / "a.html", counts=counts, edges_per_label=99)
    data = Page(path.read_text()).data()
    names = data["labels"]["name"]
    assert names == graph.label_names
    assert data["labels"]["images"] == counts.counts.tolist()
    assert data["labels"]["community"] == label_communities(graph).tolist()
    assert 0 < min(data["labels"]["x"]) < max(data["labels"]["x"]) < data["width"]
    assert 0 < min(data["labels"]["y"]) < max(data["labels"]["y"]) < data["height"]
    edges = data["edges"]
    found = {
        (j, i): (w, p, n)
        for j, i, w, p, n in zip(
            *(edges[k] for k in ("source", "target", "weight", "probability", "images")), strict=True
        )
    }
    weights = {
        (j, i): w
        for (j, i), w in zip(graph.edge_index.T.tolist(), graph.edge_weight.tolist(), strict=True)
        if j != i
    }
    assert found.keys() == weights.keys()
    assert data["num_edges"] == len(weights)
    pairs = counts.cooccurrence.toarray()
    for (j, i), (w, p, n) in found.items():
        assert w == pytest.approx(weights[j, i], rel=1e-3)
        assert n == pairs[j, i]
        assert p == pytest.approx(pairs[j, i] / counts.counts[j], abs=1e-4)
    assert edges["weight"] == sorted(edges["weight"], reverse=True)


def test_the_page_of_many_labels_shows_the_most_linked(tmp_path):
    graph = label_graph(150, 30)
    path = plot_label_graph_page(graph, tmp_path / "a.html", max_labels=130, edges_per_label=4)
    data = Page(path.read_text()).data()
    labels, ends, weights = strongest_labels(graph, 130)
    assert data["labels"]["name"] == [graph.label_names[k] for k in labels]
    assert (data["num_labels"], data["num_edges"], data["num_images"]) == (150, len(weights), None)
    kept = strongest_edges(130, ends, 4)
    assert data["edges"]["source"] == ends[kept, 0].tolist()
    assert data["edges"]["target"] == ends[kept, 1].tolist()
    assert data["edges"].keys() == {"source", "target", "weight"}
    assert len(data["boxes"]) == len(set(data["labels"]["community"]))
    for k, number in enumerate(data["labels"]["community"]):
        left, top, width, height, _ = next(box for box in data["boxes"] if box[4] == number)
        assert left < data["labels"]["x"][k] < left + width
        assert top < data["labels"]["y"][k] < top + height


def test_label_names_cannot_break_out_of_the_page(tmp_path):
    graph = label_graph(len(EVIL_NAMES), 3, EVIL_NAMES)
    path = plot_label_graph_page(graph, tmp_path / "a.html", title="<b> & </title>")
    text = path.read_text()
    page = Page(text)
    assert page.data()["labels"]["name"] == EVIL_NAMES
    assert not page.open
    assert text.count("<script") == text.count("</script") == 2
    assert not re.search("[<>&\u2028]", page.scripts[0])
    assert "<title>&lt;b&gt; &amp; &lt;/title&gt;</title>" in text


def test_the_page_needs_no_network_and_sets_names_as_text(tmp_path):
    text = plot_label_graph_page(label_graph(9, 2), tmp_path / "a.html").read_text()
    assert not re.search(r"https?://|//cdn|@import|\bfetch\b|innerHTML|document\.write|eval\(", text)
    assert not [a for _, a in Page(text).elements if "src" in a or "href" in a]


def test_the_same_graph_gives_the_same_page(tmp_path):
    pages = [plot_label_graph_page(label_graph(150, 4), tmp_path / f"{k}.html").read_bytes() for k in "ab"]
    assert pages[0] == pages[1]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, to parse the script of the page")
def test_the_script_of_the_page_is_javascript(tmp_path):
    page = Page(plot_label_graph_page(label_graph(9, 2), tmp_path / "a.html").read_text())
    (tmp_path / "a.js").write_text(page.scripts[1])
    done = subprocess.run(["node", "--check", tmp_path / "a.js"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_page_of_little(tmp_path):
    for graph in (label_graph(1, 0), label_graph(5, 0), label_graph(len(ODD_NAMES), 3, ODD_NAMES)):
        data = Page(plot_label_graph_page(graph, tmp_path / "a.html").read_text()).data()
        assert data["labels"]["name"] == graph.label_names
    one = LabelCounts(("label 0 of many",), np.array([0]), sp.csr_array((1, 1), dtype=int), 3)
    data = Page(plot_label_graph_page(label_graph(1, 0), tmp_path / "b.html", counts=one).read_text()).data()
    assert data["edges"] == {"source": [], "target": [], "weight": [], "probability": [], "images": []}


def test_the_page_names_what_is_wrong(tmp_path):
    graph = label_graph(5, 1)
    with pytest.raises(InputError, match=r"unknown page format '\.htlm'\. Did you mean \.html"):
        plot_label_graph_page(graph, tmp_path / "a.htlm")
    with pytest.raises(InputError, match="counts are of other labels"):
        plot_label_graph_page(graph, tmp_path / "a.html", counts=themed_counts(20, 5))
    with pytest.raises(InputError, match="max_labels must be 1 or more, got 0"):
        plot_label_graph_page(graph, tmp_path / "a.html", max_labels=0)
    with pytest.raises(InputError, match="edges_per_label must be 1 or more, got -1"):
        plot_label_graph_page(graph, tmp_path / "a.html", edges_per_label=-1)
    assert not list(tmp_path.iterdir())


def names_on_axes(figure, names):
    """The names along the left and along the top, in the order in which they stand there."""
    axes = figure.axes[0]
    rows = sorted((-t.get_position()[1], t.get_text()) for t in axes.texts if t.get_rotation() == 0)
    columns = sorted((t.get_position()[0], t.get_text()) for t in axes.texts if t.get_rotation() == 90)
    return ([text for _, text in part if text in names] for part in (rows, columns))


@pytest.mark.parametrize(("num_labels", "theme"), [(20, 5), (80, 16)])
def test_cooccurrence_of_every_pair_stands_at_its_names(tmp_path, drawn, num_labels, theme):
    counts = themed_counts(num_labels, theme)
    plot_cooccurrence(counts, tmp_path / "a.png")
    assert is_picture(tmp_path / "a.png")
    found = texts(drawn[0])
    assert not overlapping(found)
    assert not outside(drawn[0])
    rows, columns = names_on_axes(drawn[0], counts.label_names)
    assert rows == columns
    assert sorted(rows) == sorted(counts.label_names)
    pairs, axes = counts.cooccurrence.toarray(), drawn[0].axes[0]
    values = np.ma.filled(axes.images[0].get_array(), np.nan)
    order = [counts.label_names.index(name) for name in rows]
    for a, row in enumerate(order):
        for b, column in enumerate(order):
            expected = np.nan if a == b else pairs[row, column] / counts.counts[row]
            np.testing.assert_allclose(values[a, b], expected)
    # Labels of a theme stand together, those that share most with it first.
    for block in np.array(order).reshape(-1, theme):
        assert len(set(block // theme)) == 1
        given = pairs[np.ix_(block, block)] / counts.counts[block][:, None]
        together = given.sum(0) + given.sum(1)
        assert (np.diff(together) <= 1e-9).all()
    lines = axes.lines[: 2 * (num_labels // theme + 1)]
    across = sorted({line.get_ydata()[0] for line in lines if line.get_ydata()[0] == line.get_ydata()[1]})
    _, _, bottom, top = axes.images[0].get_extent()
    np.testing.assert_allclose(across, np.linspace(bottom, top, num_labels // theme + 1))
    where = {t.get_text(): t.get_position()[1] for t in axes.texts if t.get_rotation() == 0}
    middles = top - (np.arange(num_labels) + 0.5) * (top - bottom) / num_labels
    np.testing.assert_allclose([where[name] for name in rows], middles)


def test_cooccurrence_of_many_labels_names_the_most_frequent(tmp_path, drawn):
    counts = themed_counts(500, 25)
    plot_cooccurrence(counts, tmp_path / "a.png")
    assert is_picture(tmp_path / "a.png")
    assert not overlapping(texts(drawn[0]))
    assert not outside(drawn[0])
    rows, columns = names_on_axes(drawn[0], counts.label_names)
    assert rows == columns
    assert 40 < len(rows) < 200
    assert counts.label_names[counts.counts.argmax()] in rows


def test_names_that_find_no_room_give_way_to_more_frequent_ones():
    counts = np.random.default_rng(0).integers(0, 50, 200)
    named = _spaced(counts, 0.03, 0.13)
    assert named == sorted(named)
    assert np.diff(named).min() >= 5  # 0.15 inches
    for k in set(range(200)) - set(named):
        near = [other for other in named if abs(other - k) < 5]
        assert max(counts[near]) >= counts[k]
    assert _spaced(counts, 0.13, 0.13) == list(range(200))


def test_cooccurrence_takes_communities_and_shows_the_most_frequent_labels(tmp_path, drawn):
    counts = themed_counts(40, 10)
    communities = np.arange(40) % 3 - 1  # Not what it would find.
    plot_cooccurrence(counts, tmp_path / "a.png", communities=communities, max_labels=30)
    rows, _ = names_on_axes(drawn[0], counts.label_names)
    shown = [counts.label_names.index(name) for name in rows]
    assert sorted(counts.counts[shown]) == sorted(counts.counts)[-30:]
    assert communities[shown].tolist() == sorted(communities[shown], key=lambda k: k if k >= 0 else 9)
    assert "Co-occurrence of the 30 most frequent of 40 labels" in [text for text, _ in texts(drawn[0])]


def test_labels_in_the_order_of_communities():
    values = np.array([[0, 0.1, 0.9, 0], [0.2, 0, 0, 0.5], [0.3, 0, 0, 0], [0, 0.5, 0, 0]])
    assert community_order(values, np.array([1, 0, 1, 0])).tolist() == [1, 3, 0, 2]
    assert community_order(values, np.array([0, 0, -1, 0])).tolist() == [1, 3, 0, 2]
    assert community_order(values, np.full(4, -1)).tolist() == [0, 1, 2, 3]


def test_cooccurrence_of_little(tmp_path, drawn):
    number = len(ODD_NAMES)
    none = sp.csr_array((number, number), dtype=np.int64)
    plot_cooccurrence(LabelCounts(tuple(ODD_NAMES), np.zeros(number, int), none, 0), tmp_path / "a.png")
    one = LabelCounts(("only",), np.array([3]), sp.csr_array((1, 1), dtype=np.int64), 3)
    plot_cooccurrence(one, tmp_path / "b.png")
    for figure in drawn:
        assert not overlapping(texts(figure))
        assert not outside(figure)
    written = [text for text, _ in texts(drawn[0])]
    assert {"$5 bill$", "кот", "two lines"} <= set(written)
    assert any(text.startswith("mlgcn-tf_eff") and text.endswith("...") for text in written)
    assert "Co-occurrence of 1 label" in [text for text, _ in texts(drawn[1])]


def test_the_same_counts_give_the_same_picture(tmp_path):
    counts = themed_counts(60, 20)
    pictures = [plot_cooccurrence(counts, tmp_path / f"{k}.svg").read_bytes() for k in "ab"]
    assert pictures[0] == pictures[1]


def test_cooccurrence_names_what_is_wrong(tmp_path):
    counts = themed_counts(20, 5)
    with pytest.raises(InputError, match="communities has 3 entries for 20 labels"):
        plot_cooccurrence(counts, tmp_path / "a.png", communities=np.zeros(3, int))
    with pytest.raises(InputError, match="max_labels must be 1 or more, got 0"):
        plot_cooccurrence(counts, tmp_path / "a.png", max_labels=0)
    with pytest.raises(InputError, match=r"unknown picture format '\.jpg'"):
        plot_cooccurrence(counts, tmp_path / "a.jpg")


def test_all_pictures_of_a_graph(tmp_path, drawn, monkeypatch):
    counts = themed_counts(40, 10)
    graph = themed_graph(counts)
    folder = tmp_path / "out"
    assert write_graph_pictures(graph, counts, folder) == [
        f"Label graph: {folder / 'label_graph.png'}",
        f"Label graph to explore: {folder / 'label_graph.html'}",
        f"Co-occurrence: {folder / 'cooccurrence.png'}",
        f"Label embeddings: {folder / 'embeddings.png'}",
    ]
    for name in ("label_graph", "cooccurrence", "embeddings"):
        assert is_picture(folder / f"{name}.png")
    community = label_communities(graph)
    dots = drawn[2].axes[0].collections
    styles = [(tuple(dot.get_facecolor()[0]), dot.get_paths()[0].vertices.shape) for dot in dots]
    assert [styles.index(style) for style in styles] == [community.tolist().index(k) for k in community]

    for limit, value in (("NAMED", 25), ("ON_A_PAGE", 30), ("IN_A_HEAT_MAP", 20)):
        monkeypatch.setattr(graph_pictures, limit, value)
    lines = write_graph_pictures(graph, counts, folder)
    ends = [line.partition("   ")[2] for line in lines]
    assert ends == [
        "(the 25 most linked of 40 labels)",
        "(the 30 most linked of 40 labels)",
        "(the 20 most frequent of 40 labels)",
        "(the 25 most linked of 40 labels)",
    ]
    assert len(Page((folder / "label_graph.html").read_text()).data()["labels"]["name"]) == 30
    assert len(drawn[-1].axes[0].collections) == 25
    kept = [graph.label_names[k] for k in strongest_labels(graph, 25)[0]]
    assert [text for text, _ in texts(drawn[-1]) if text in kept] == kept


def test_a_graph_without_vectors_has_no_embeddings_to_draw(tmp_path):
    counts = themed_counts(20, 5)
    graph = themed_graph(counts)
    graph.x = None
    lines = write_graph_pictures(graph, counts, tmp_path)
    assert lines[-1] == "Label embeddings: no picture, the graph has no label vectors"
    assert not (tmp_path / "embeddings.png").exists()


def test_zoo_graph_says_where_its_pictures_are(tmp_path, capsys):
    from zoo.cli import main

    folder = tmp_path / "g"
    assert main(["graph", "--labels", "voc2007", "--embeddings", "onehot", "--output", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == [
        f"Label graph: {folder / 'label_graph.png'}",
        f"Label graph to explore: {folder / 'label_graph.html'}",
        f"Co-occurrence: {folder / 'cooccurrence.png'}",
        f"Label embeddings: {folder / 'embeddings.png'}",
    ]
    assert {path.name for path in folder.iterdir()} >= {
        "label_graph.png", "label_graph.html", "cooccurrence.png", "embeddings.png"
    }  # fmt: skip


def test_the_page_is_part_of_the_package():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    assert "plots/graph_page.html" in setup["options.package_data"]["zoo"]
