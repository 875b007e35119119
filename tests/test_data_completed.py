from __future__ import annotations

import json

import pytest

from zoo.data.folder import image_folder


def test_labels_that_differ_in_case_or_blanks_only_are_kept_and_told(tmp_path):
    records = [["Dog", "hot dog"], ["dog"], ["dog "], ["cat", "hotdog"], ["dog"]]
    rows = [{"image": f"{i}.png", "labels": labels} for i, labels in enumerate(records)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    data = image_folder(tmp_path / "a.json", check_images=False)
    assert data.label_names == ["Dog", "cat", "dog", "dog ", "hot dog", "hotdog"]
    assert (
        "5 labels differ from another one in case or blanks only: 'Dog' (1 images) and 'dog' (2 images) and "
        "'dog ' (1 images), 'hot dog' (1 images) and 'hotdog' (1 images)"
    ) in data.remarks
    assert "labels differ" in data.describe()


def test_images_without_a_label_and_lists_with_a_label_twice_are_counted(tmp_path):
    (tmp_path / "a.csv").write_text("image,labels\na.png,dog|dog\nb.png,\nc.png,\nd.png,dog|cat\ne.png,cat\n")
    data = image_folder(tmp_path / "a.csv", check_images=False)
    assert "2 image(s) have no positive label" in data.remarks
    assert "1 list(s) name a label more than once, which counts once" in data.remarks
    assert data.annotations.stored.max() == 1


def test_nothing_odd_is_nothing_said(tmp_path):
    (tmp_path / "a.csv").write_text("image,labels\na.png,dog\nb.png,cat\nc.png,dog\nd.png,cat\n")
    assert image_folder(tmp_path / "a.csv", check_images=False).remarks == ()


@pytest.mark.parametrize("limit", [0, 10**11])
def test_groups_stay_together_with_and_without_stratification(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("zoo.data.completed.STRATIFIED", limit)
    rows = "".join(f"{i}.png,{'dog|cat' if i % 2 else 'dog'},{i // 3}\n" for i in range(90))
    (tmp_path / "a.csv").write_text("image,labels,group\n" + rows)
    data = image_folder(tmp_path / "a.csv", check_images=False)
    assert ("at random" in data.protocol) == (limit == 0)
    for group in set(data.groups):
        assert len(set(data.splits[data.groups == group])) == 1
    assert [(data.splits == s).sum() for s in ("train", "val", "test")] == [54, 18, 18]
