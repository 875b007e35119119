# ruff: noqa: F811 (fixtures are imported, and are arguments of the tests)
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_checks import (
    LONG,
    ODD_NAMES,
    _no_warnings,  # noqa: F401
    drawn,  # noqa: F401
    is_picture,
    label_graph,
    outside,
    overlapping,
    texts,
)
from PIL import Image

from zoo import plots
from zoo.lookup import InputError
from zoo.plots import (
    charts,
    plot_attention,
    plot_comparison,
    plot_contact_sheet,
    plot_curves,
    plot_embeddings,
    plot_label_graph,
    plot_learning,
    plot_per_label,
)
from zoo.plots.contact_sheet import VERDICTS
from zoo.plots.names import measure_names, place_names
from zoo.plots.page import FORMATS, STYLE, fit, new_figure, ruler, wrap


def rows(seeds: int = 3) -> list[dict]:
    generator = np.random.default_rng(0)
    entries = [
        ("linear-resnet50", "baseline"),
        ("mlgcn-resnet50", "graph"),
        (LONG, "control"),
        ("sgc-x", "graph"),
    ]
    made = []
    for name, kind in entries:
        values = (0.6 + 0.02 * generator.standard_normal(seeds)).tolist()
        half = float(np.std(values, ddof=1)) if seeds > 1 else float("nan")
        made.append(
            {"name": name, "kind": kind, "values": values, "mean": float(np.mean(values)), "half_width": half}
        )
    return made


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    paths = []
    for k, size in enumerate([(300, 120), (90, 400), (20, 20)]):
        paths.append(tmp_path / f"{k}.png")
        Image.effect_noise(size, 90).convert("RGB").save(paths[-1])
    return paths


def all_plots(folder: Path, photos: list[Path], suffix: str = ".png") -> list[Path]:
    """One of each."""
    names = [f"label {k}" for k in range(12)]
    generator = np.random.default_rng(3)
    return [
        plot_comparison(rows(), folder / f"comparison{suffix}"),
        plot_label_graph(label_graph(12, 3), folder / f"graph{suffix}", counts=np.arange(12)),
        plot_embeddings(generator.normal(size=(12, 5)), names, folder / f"embeddings{suffix}"),
        plot_per_label(names, {"a": generator.random(12)}, np.arange(12), folder / f"per_label{suffix}"),
        plot_contact_sheet(photos, [["cat"]] * 3, [[("dog", 0.5)]] * 3, folder / f"sheet{suffix}"),
        plot_attention(photos[0], generator.random((2, 3, 5)), ["cat", "dog"], folder / f"attention{suffix}"),
        plot_curves(
            [{"epoch": e, "train_loss": 1 / (e + 1), "val_loss": 1.0, "val_mAP": e / 9} for e in range(5)],
            folder / f"curves{suffix}",
        ),
    ]


def test_every_plot_is_exported():
    assert sorted(plots.__all__) == sorted(name for name in vars(plots) if name.startswith("plot_"))


def test_files_are_pictures_and_the_same_input_gives_the_same_bytes(tmp_path, photos):
    np.random.seed(1)  # noqa: NPY002
    first = all_plots(tmp_path / "new" / "folder", photos)
    np.random.seed(2)  # noqa: NPY002
    second = all_plots(tmp_path / "second", photos)
    assert {path.name for path in first} == {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert all(is_picture(path) for path in first)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_what_its_suffix_says_and_holds_no_time(tmp_path, monkeypatch, suffix):
    contents = []
    for epoch in ("0", "99999999"):  # Which matplotlib writes in place of the time.
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        contents.append(plot_label_graph(label_graph(12, 3), tmp_path / f"a{suffix}").read_bytes())
    assert contents[0] == contents[1]
    assert {".png": b"PNG", ".svg": b"<svg", ".pdf": b"%PDF"}[suffix] in contents[0][:1000]


def test_global_style_neither_matters_nor_changes(tmp_path):
    import matplotlib

    expected = plot_comparison(rows(), tmp_path / "a.png").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        assert plot_comparison(rows(), tmp_path / "b.png").read_bytes() == expected
        assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_unknown_format_is_named_before_any_work(tmp_path):
    with pytest.raises(InputError, match=r"unknown picture format '\.pgn'\. Did you mean \.png\?"):
        plot_comparison(rows(), tmp_path / "a.pgn")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "package"),
    [("matplotlib", "matplotlib"), ("networkx", "networkx"), ("sklearn", "scikit-learn")],
)
def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch, module, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    expected = pytest.raises(InputError, match=rf"needs {package}: pip install 'label-graph-zoo\[train\]'")
    if module == "sklearn":
        with expected:
            plot_embeddings(np.eye(8), [str(k) for k in range(8)], tmp_path / "a.png")
    else:
        with expected:
            plot_label_graph(label_graph(3, 1), tmp_path / "a.png")


def test_text_sizes_are_those_of_matplotlib(tmp_path):
    with new_figure(tmp_path / "a.png") as figure:
        for text in ("wide wide wide", "fi", "$x$"):
            drawn = figure.text(0, 0, text, size=13)
            extent = drawn.get_window_extent(figure.canvas.get_renderer())
            assert ruler(figure, 13.0)(text) == pytest.approx(extent.width / figure.dpi, abs=0.02)


@pytest.mark.parametrize("width", [1.0, 7.0, 20.0, 500.0])
@pytest.mark.parametrize("text", [*ODD_NAMES, "", " ", "a:b,c d/e-f"])
def test_wrapped_text_fits_and_is_whole(text, width):
    lines = wrap(text, width, len)
    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())
    if len(text) <= width:
        assert lines == [" ".join(text.split())]


def test_text_is_broken_where_words_end():
    assert wrap("mlgcn-resnet50:graph=shuffled:tau=0.1", 24.0, len) == [
        "mlgcn-resnet50:",
        "graph=shuffled:tau=0.1",
    ]
    assert wrap("traffic light", 8.0, len) == ["traffic", "light"]


@pytest.mark.parametrize(("num_labels", "crowd"), [(1, 1.0), (20, 1.0), (80, 1.0), (80, 0.2), (200, 0.6)])
def test_placed_names_overlap_neither_each_other_nor_the_edge(num_labels, crowd):
    generator = np.random.default_rng(num_labels)
    page = (13.0, 10.0)
    points = 0.5 * np.array(page) + crowd * (generator.random((num_labels, 2)) - 0.5) * (np.array(page) - 0.3)
    radii = np.full(num_labels, 0.05)
    sizes = np.stack([generator.uniform(0.3, 1.2, num_labels), np.full(num_labels, 0.17)], axis=1)
    centres = place_names(points, radii, sizes, page)
    assert ((centres - sizes / 2 >= 0) & (centres + sizes / 2 <= page)).all()
    apart = np.abs(centres[:, None] - centres[None]) - (sizes[:, None] + sizes[None]) / 2
    assert (apart.max(-1)[~np.eye(num_labels, dtype=bool)] >= -1e-9).all()
    # No name lies on its own dot, and where there is room all of them are beside it.
    gaps = (np.abs(centres - points) - sizes / 2).max(1)
    assert (gaps > 0).all()
    if crowd == 1.0 and num_labels <= 20:
        assert gaps.max() < 0.3


def test_names_stand_clear_of_lines_and_dots():
    centre = place_names(
        np.array([[5.0, 5.0]]), np.array([0.1]), np.array([[1.0, 0.2]]), (10.0, 10.0),
        np.stack([np.linspace(5, 9, 40), np.full(40, 5.0)], axis=1),
    )[0]  # fmt: skip
    assert not (abs(centre[1] - 5) < 0.1 and centre[0] > 5)
    points = np.array([[5.0, 5.0], [5.6, 5.0]])
    centres = place_names(points, np.full(2, 0.1), np.full((2, 2), [1.0, 0.2]), (10.0, 10.0))
    for name, dot in ((0, 1), (1, 0)):
        assert (np.abs(centres[name] - points[dot]) >= np.array([0.5, 0.1])).any()


def test_points_fill_their_box():
    fitted = fit(np.array([[3.0, 7.0], [5.0, 7.0], [4.0, 7.0]]), (1.0, 1.0, 4.0, 2.0))
    np.testing.assert_allclose(fitted, [[1, 2], [5, 2], [3, 2]])


def test_comparison_shows_every_name_whole_best_on_top(tmp_path, drawn):
    given = rows()
    plot_comparison(given, tmp_path / "a.png")
    axes = drawn[0].axes[0]
    shown = ["".join(label.get_text().split()) for label in axes.get_yticklabels()][::-1]
    assert shown == [row["name"] for row in sorted(given, key=lambda row: -row["mean"])]
    assert not outside(drawn[0])
    assert not overlapping(texts(drawn[0]))
    written = {text for text, _ in texts(drawn[0])}
    assert "Test mAP, mean of 3 seeds with 95 % interval" in written
    assert {f"{row['mean']:.3f} ± {row['half_width']:.3f}" for row in given} <= written


def test_comparison_draws_the_numbers_it_is_given(tmp_path, drawn):
    given = rows()
    given.append(
        {**given[0], "name": "linear-worse", "mean": 0.1, "values": [0.1, 0.1, 0.1], "half_width": 0.0}
    )
    plot_comparison(given, tmp_path / "a.png")
    axes = drawn[0].axes[0]
    points = [collection.get_offsets()[:, 0].tolist() for collection in axes.collections]
    for row in given:
        assert any(p == pytest.approx(row["values"]) for p in points)
        assert any(p == pytest.approx([row["mean"]]) for p in points)
    lines = [line.get_xdata() for line in axes.lines]
    for row in given:
        ends = [row["mean"] - row["half_width"], row["mean"] + row["half_width"]]
        assert any(list(line) == pytest.approx(ends) for line in lines)
    assert [list(x) for x in lines if x[0] == x[1] != 0.1] == [[given[0]["mean"]] * 2]  # The best baseline.


def test_comparison_of_one_seed_and_failed_runs(tmp_path, drawn):
    given = rows(seeds=1)
    given[1] |= {"mean": float("nan"), "values": [float("nan")]}
    plot_comparison(given, tmp_path / "one.png")
    written = [text for text, _ in texts(drawn[0])]
    assert "Test mAP, one seed" in written
    assert "no value" in written
    assert drawn[0].axes[0].get_yticklabels()[0].get_text() == given[1]["name"]  # Worst, at the bottom.
    plot_comparison(given[1:2], tmp_path / "nothing.png", metric="CF1")
    assert is_picture(tmp_path / "nothing.png")
    plot_comparison([*rows(2), *rows(3)], tmp_path / "mixed.png", metric="CF1")
    assert "Test CF1, mean of 2 to 3 seeds with 95 % interval" in [text for text, _ in texts(drawn[2])]


def test_comparison_names_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="at least one row"):
        plot_comparison([], tmp_path / "a.png")
    with pytest.raises(InputError, match=r"unknown kind 'grph'\. Did you mean graph"):
        plot_comparison([{**rows()[0], "kind": "grph"}], tmp_path / "a.png")
    with pytest.raises(InputError, match="row 'x' of the comparison lacks half_width, kind"):
        plot_comparison([{"name": "x", "mean": 0, "values": []}], tmp_path / "a.png")


@pytest.mark.parametrize("num_labels", [1, 2, 5, 6, 40])
def test_embeddings_of_few_and_many_labels(tmp_path, drawn, num_labels):
    vectors = torch.randn(num_labels, 30, generator=torch.Generator().manual_seed(0))
    names = [f"label {k}" for k in range(num_labels)]
    groups = [f"group {k % 8}" for k in range(num_labels)]
    plot_embeddings(vectors, names, tmp_path / "a.png", groups=groups, title="Vectors")
    found = texts(drawn[0])
    assert set(names) | {"Vectors"} | set(groups) <= {text for text, _ in found}
    assert not overlapping(found)
    assert not outside(drawn[0])
    assert is_picture(tmp_path / "a.png")


def test_embeddings_put_similar_labels_together(tmp_path, drawn):
    generator = np.random.default_rng(0)
    direction = np.repeat(generator.normal(size=(3, 20)), 8, axis=0)
    # The lengths of the vectors must not matter, only their directions.
    vectors = (direction + 0.05 * generator.normal(size=direction.shape)) * generator.uniform(1, 50, (24, 1))
    plot_embeddings(vectors, [str(k) for k in range(24)], tmp_path / "a.png")
    points = np.array([c.get_offsets()[0] for c in drawn[0].axes[0].collections])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    nearest = np.argsort(distances, axis=1)[:, 1:6]
    assert (nearest // 8 == np.arange(24)[:, None] // 8).all()


def test_embeddings_of_more_labels_than_the_exact_method_takes(tmp_path, drawn):
    generator = np.random.default_rng(0)
    vectors = np.repeat(
        generator.normal(size=(53, 8)), 4, axis=0
    )  # Four labels with one and the same vector.
    names = [f"label {k}" for k in range(len(vectors))]
    first = plot_embeddings(vectors, names, tmp_path / "a.png").read_bytes()
    assert plot_embeddings(vectors, names, tmp_path / "b.png").read_bytes() == first
    assert set(names) < {text for text, _ in texts(drawn[0])}
    assert not overlapping(texts(drawn[0]))
    assert not outside(drawn[0])
    points = np.array([c.get_offsets()[0] for c in drawn[0].axes[0].collections])
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, 9)
    assert distances.min() > 0.1, "no dot hides another"
    assert (distances.argmin(1) // 4 == np.arange(len(points)) // 4).mean() > 0.95


@pytest.mark.parametrize("vectors", [np.zeros((9, 3)), np.arange(9.0)[:, None], np.ones((3, 1))])
def test_degenerate_embeddings_are_drawn(tmp_path, vectors):
    names = ODD_NAMES[: len(vectors)]
    assert is_picture(plot_embeddings(vectors, names, tmp_path / "a.png"))


def test_embeddings_name_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="vectors has 3 entries for 2 labels"):
        plot_embeddings(np.eye(3), ["a", "b"], tmp_path / "a.png")
    with pytest.raises(InputError, match="groups has 1 entries for 3 labels"):
        plot_embeddings(np.eye(3), ["a", "b", "c"], tmp_path / "a.png", groups=["x"])
    with pytest.raises(InputError, match="must be finite"):
        plot_embeddings(np.full((2, 2), np.nan), ["a", "b"], tmp_path / "a.png")


@pytest.mark.parametrize(("num_labels", "panels"), [(1, 1), (60, 1), (61, 2), (121, 3)])
def test_per_label_columns(tmp_path, drawn, num_labels, panels):
    generator = np.random.default_rng(0)
    names = [f"label {k}" for k in range(num_labels)]
    models = {name: generator.random(num_labels) for name in ("a", LONG)}
    positives = generator.integers(0, 20_000, num_labels)
    plot_per_label(names, models, positives, tmp_path / "a.png")
    assert len(drawn[0].axes) == panels
    shown = [label.get_text().split() for axes in drawn[0].axes for label in axes.get_yticklabels()]
    order = np.argsort(-positives, kind="stable")
    assert shown == [["label", str(k), str(positives[k])] for k in order]
    assert not overlapping([(t, box) for t, box in texts(drawn[0]) if t.startswith("label")])


def test_per_label_dots_stand_at_their_values_and_nan_is_absent(tmp_path, drawn):
    first, second = np.array([0.2, np.nan, 0.9, 0.4]), np.array([0.3, np.nan, np.nan, 0.1])
    models = {"a": first, "b": torch.from_numpy(second)}
    plot_per_label(["p", "q", "r", "s"], models, torch.tensor([4, 0, 1, 4]), tmp_path / "a.png", sort="AP")
    axes = drawn[0].axes[0]
    order = [2, 3, 0, 1]  # By AP of the first model; what has none comes last.
    assert [label.get_text()[0] for label in axes.get_yticklabels()] == ["r", "s", "p", "q"]
    for values, dots in zip((first, second), axes.collections, strict=True):
        offsets = np.ma.filled(dots.get_offsets().astype(float), np.nan)
        np.testing.assert_allclose(offsets[:, 0], values[order])
        assert all(np.isnan(x) or y == k for k, (x, y) in enumerate(offsets))
    assert is_picture(plot_per_label(["p"], {"a": np.array([np.nan])}, np.array([0]), tmp_path / "b.png"))
    assert is_picture(
        plot_per_label(ODD_NAMES, {"a": np.ones(10)}, np.ones(10, dtype=int), tmp_path / "c.png")
    )


def test_per_label_names_what_is_wrong(tmp_path):
    names, ap, positives = ["a", "b"], np.ones(2), np.ones(2, dtype=int)
    with pytest.raises(InputError, match=r"unknown order of labels 'positive'\. Did you mean positives"):
        plot_per_label(names, {"m": ap}, positives, tmp_path / "a.png", sort="positive")
    with pytest.raises(InputError, match="7 models in one per-label plot; give 1 to 6"):
        plot_per_label(names, {str(k): ap for k in range(7)}, positives, tmp_path / "a.png")
    with pytest.raises(InputError, match="positives has 2 entries for 3 labels"):
        plot_per_label([*names, "c"], {"m": ap}, positives, tmp_path / "a.png")


def test_contact_sheet_says_right_wrong_and_missed(tmp_path, drawn, photos):
    true = [["cat", "dog"], [], ["zebra crossing with a very long name"]]
    predicted = [[("dog", 0.91), ("hippopotamus" * 5, 0.6)], [], [("cat", 0.504)]]
    plot_contact_sheet(photos, true, predicted, tmp_path / "sheet.png", columns=2)
    found = texts(drawn[0])
    written = {text for text, _ in found}
    assert {"✓ dog 0.91", "○ cat", "✗ cat 0.50", "✓ right", "✗ wrong", "○ missed"} <= written
    assert "hippopotamus" * 5 in "".join(text for text, _ in found)
    colours = {t.get_text(): t.get_color() for t in drawn[0].axes[0].texts}
    assert len({colours["✓ dog 0.91"], colours["○ cat"], colours["✗ cat 0.50"]}) == 3
    assert not overlapping(found, slack=2)
    assert not outside(drawn[0])
    pictures = [image.get_window_extent() for image in drawn[0].axes[0].images]
    for text, box in found:  # No text is over a picture, or wider than its column.
        assert not overlapping([(text, box), *(("picture", p) for p in pictures)], slack=2)
        assert text[0] not in "✓✗○" or box.width <= 1.65 * drawn[0].dpi
    assert [p.width / p.height for p in pictures] == pytest.approx([300 / 120, 90 / 400, 1], rel=0.02)


def test_contact_sheet_of_one_picture(tmp_path, drawn, photos):
    assert is_picture(plot_contact_sheet(photos[:1], [["a"]], [[]], tmp_path / "one.png"))
    assert not outside(drawn[0])


def test_contact_sheet_names_what_is_wrong(tmp_path, photos):
    with pytest.raises(InputError, match="got 0 and 6"):
        plot_contact_sheet([], [], [], tmp_path / "a.png")
    with pytest.raises(InputError, match="predicted has 2 entries for 3 images"):
        plot_contact_sheet(photos, [[]] * 3, [[]] * 2, tmp_path / "a.png")
    with pytest.raises(InputError, match=r"gone\.jpg: no such image file"):
        plot_contact_sheet([tmp_path / "gone.jpg"], [[]], [[]], tmp_path / "a.png")


ATTENTION = np.zeros((3, 4, 8), np.float32)
ATTENTION[0, 1, 6], ATTENTION[1] = 0.2, 0.5


def test_attention_lights_the_picture_where_the_map_is_high(tmp_path, drawn):
    Image.new("RGB", (200, 100), (0, 120, 250)).save(tmp_path / "blue.png")
    names = ["cat", "hippopotamus " * 4, "$dog$"]
    plot_attention(
        tmp_path / "blue.png", ATTENTION, names, tmp_path / "a.png", scores=[0.914, 0.5, 1.0], columns=2
    )
    found = texts(drawn[0])
    assert {"image", "cat 0.91", "$dog$ 1.00"} <= {text for text, _ in found}
    assert not overlapping(found)
    assert not outside(drawn[0])
    pictures = drawn[0].axes[0].images
    for picture in pictures:
        box = picture.get_window_extent()
        assert not any(overlapping([("picture", box), text], slack=2) for text in found)
        assert (box.width, box.height) == pytest.approx((2.2 * drawn[0].dpi, 1.1 * drawn[0].dpi), rel=0.02)
    image, cat, everywhere, nowhere = (np.asarray(p.get_array(), dtype=float) for p in pictures)
    assert (image == [0, 120, 250]).all()
    brightness = cat.sum(2)
    row, column = np.unravel_index(brightness.argmax(), brightness.shape)
    assert (row / 100, column / 200) == pytest.approx((1.5 / 4, 6.5 / 8), abs=0.03), (
        "the middle of its position"
    )
    assert np.ptp(everywhere) > 0.1, "a map without shape is lit all over, in the brightest colour"
    np.testing.assert_allclose(everywhere, np.broadcast_to(cat[row, column], everywhere.shape), atol=0.02)
    np.testing.assert_allclose(nowhere, nowhere[:1, :1, :1].repeat(3, 2) + np.zeros_like(nowhere), atol=1e-6)
    assert nowhere.max() < brightness.max() / 3


def test_attention_takes_pictures_and_maps_of_every_kind(tmp_path, drawn, photos):
    paths = [
        plot_attention(photos[1], torch.from_numpy(ATTENTION).half(), ["a", "b", "c"], tmp_path / "a.png"),
        plot_attention(Image.open(photos[1]), ATTENTION.astype(float), ["a", "b", "c"], tmp_path / "b.png"),
    ]
    assert all(is_picture(path) for path in paths)
    assert "a" in {text for text, _ in texts(drawn[0])}
    first, second = ([np.asarray(p.get_array()) for p in figure.axes[0].images] for figure in drawn)
    assert [p.shape for p in first] == [p.shape for p in second]
    for own, other in zip(first, second, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-3)


def test_attention_names_what_is_wrong(tmp_path, photos):
    with pytest.raises(InputError, match="attention needs maps and columns; got 0 and 4"):
        plot_attention(photos[0], ATTENTION[:0], [], tmp_path / "a.png")
    with pytest.raises(InputError, match="label_names has 2 entries for 3 maps"):
        plot_attention(photos[0], ATTENTION, ["a", "b"], tmp_path / "a.png")
    with pytest.raises(InputError, match="scores has 1 entries for 3 maps"):
        plot_attention(photos[0], ATTENTION, ["a", "b", "c"], tmp_path / "a.png", scores=[0.5])
    for bad in (np.nan, -1.0):
        with pytest.raises(InputError, match="attention map of 'b' must be finite and not negative"):
            plot_attention(
                photos[0], np.where(ATTENTION == 0.5, bad, ATTENTION), ["a", "b", "c"], tmp_path / "a.png"
            )
    with pytest.raises(InputError, match=r"gone\.jpg: no such image file"):
        plot_attention(tmp_path / "gone.jpg", ATTENTION, ["a", "b", "c"], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_curves_draw_the_history_and_mark_the_best_epoch(tmp_path, drawn):
    history = [
        {"epoch": 0, "train_loss": 0.9, "val_loss": 0.8, "val_mAP": 0.2},
        {"epoch": 1, "train_loss": float("nan"), "val_loss": None, "val_mAP": 0.6},
        {"epoch": 2, "train_loss": 0.4, "val_mAP": 0.5, "lr": 0.1},
    ]
    plot_curves(history, tmp_path / "a.png")
    left, right = drawn[0].axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [0.9, np.nan, 0.4])
    np.testing.assert_array_equal(left.lines[1].get_ydata(), [0.8, np.nan, np.nan])
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [0.2, 0.6, 0.5])
    assert right.get_title(loc="left") == "best 0.600 at epoch 1"
    assert is_picture(plot_curves(history[:1], tmp_path / "one.png"))
    assert is_picture(plot_curves([{"epoch": 3}], tmp_path / "nothing.png"))


@pytest.mark.parametrize("history", [[], [{"train_loss": 1.0}]])
def test_curves_need_epochs(tmp_path, history):
    with pytest.raises(InputError, match="at least one epoch"):
        plot_curves(history, tmp_path / "a.png")


def test_colours_can_be_told_apart_in_grey_and_from_the_page():
    def luminance(colour: str) -> float:
        channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    # WCAG 2: small text needs a contrast of 4.5 on white.
    for _, colour in VERDICTS.values():
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5
    assert 1.05 / (luminance(STYLE["text.color"]) + 0.05) >= 4.5
    values = sorted(luminance(colour) for colour in charts.KINDS.values())
    assert (values[-1] + 0.05) / (values[0] + 0.05) > 1.9


def test_long_names_are_measured_as_they_are_broken(tmp_path):
    with new_figure(tmp_path / "a.png") as figure:
        names, sizes = measure_names(figure, ODD_NAMES)
        for name, size in zip(names, sizes, strict=True):
            extent = figure.text(0, 0, name, size=9.5).get_window_extent(figure.canvas.get_renderer())
            assert extent.width / figure.dpi <= size[0] <= 1.8
            assert extent.height / figure.dpi <= size[1] * 1.12


def test_learning_curves_of_several_runs(tmp_path):
    rows = [
        {
            "entry": entry,
            "seed": seed,
            "epoch": epoch,
            "train_loss": 1 / (epoch + 1 + seed),
            "val_mAP": epoch / 4,
        }
        for entry in ("linear-resnet18", "mlgcn-resnet18")
        for seed in range(2)
        for epoch in range(3)
    ]
    assert is_picture(plot_learning(rows, tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes() != plot_learning(rows[:6], tmp_path / "b.png").read_bytes()
    with pytest.raises(InputError, match="learning curves need at least one epoch of one run"):
        plot_learning([], tmp_path / "c.png")
