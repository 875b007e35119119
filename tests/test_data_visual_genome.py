"""Visual Genome 500 from SSGRL's lists and from the official annotations, both made here."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from zoo.data import open_dataset
from zoo.data.visual_genome import INDEX
from zoo.lookup import InputError

TRAIN = ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]
TEST = ["6.jpg", "7.jpg"]
LABELS = {
    "1.jpg": [0, 499],
    "2.jpg": [0],
    "3.jpg": [7, 0],
    "4.jpg": [],
    "5.jpg": [7],
    "6.jpg": [7],
    "7.jpg": [0, 1],
}


def write_ssgrl(root, train=TRAIN, test=TEST, index=LABELS):
    (root / "train_list_500.txt").write_text("".join(f"{name}\n" for name in train))
    (root / "test_list_500.txt").write_text("".join(f"{name}\n" for name in test))
    (root / INDEX).write_text(index if isinstance(index, str) else json.dumps(index))
    return root


def draw(root, names):
    for i, name in enumerate(names):
        path = root / ("VG_100K", "VG_100K_2")[i % 2] / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)


def labels_of(dataset):
    return {
        path.name: [dataset.label_names[i] for i in row.nonzero()[0]]
        for path, row in zip(dataset.images, dataset.targets, strict=True)
    }


def test_ssgrl(tmp_path):
    write_ssgrl(tmp_path)
    draw(tmp_path, TRAIN + TEST)
    dataset = open_dataset(f"vg500:root={tmp_path}")
    assert dataset.label_names == [f"object {i}" for i in range(500)]
    assert labels_of(dataset) == {
        "1.jpg": ["object 0", "object 499"],
        "2.jpg": ["object 0"],
        "3.jpg": ["object 0", "object 7"],
        "4.jpg": [],
        "5.jpg": ["object 7"],
        "6.jpg": ["object 7"],
        "7.jpg": ["object 0", "object 1"],
    }
    assert dataset.images[0] == tmp_path / "VG_100K/1.jpg"
    assert dataset.images[1] == tmp_path / "VG_100K_2/2.jpg"
    assert dataset[1][0].size == (2, 2)
    assert [path.name for path in dataset.split("test").images] == TEST
    assert len(dataset.split("val"))
    assert len(dataset.split("val")) + len(dataset.split("train")) == 5
    for words in ("SSGRL's lists", "2 test", "val taken from train", "500 labels", "negative for all"):
        assert words in dataset.protocol
    assert dataset.remarks[0] == "1 images have none of the labels and count as negative for all"
    assert "there is no vg500_labels.txt: they are called 'object 0' to 'object 499'" in dataset.remarks[1]


def test_names_for_ssgrl(tmp_path):
    write_ssgrl(tmp_path)
    (tmp_path / "vg500_labels.txt").write_text("\n".join(f"thing{i}" for i in range(500)))
    dataset = open_dataset(f"vg500:root={tmp_path}", check_images=False)
    assert labels_of(dataset)["1.jpg"] == ["thing0", "thing499"]
    assert len(dataset.remarks) == 1
    (tmp_path / "few.txt").write_text("window\ntree\n")
    with pytest.raises(InputError, match=r"few\.txt names 2 labels; expected 500"):
        open_dataset(f"vg500:root={tmp_path}:label_names=few.txt", check_images=False)
    first = open_dataset(f"vg500:root={tmp_path}:num_labels=2:label_names=few.txt", check_images=False)
    assert labels_of(first)["7.jpg"] == ["window", "tree"]
    assert labels_of(first)["3.jpg"] == ["window"]
    assert "4 entries with labels outside 0 to 1 were left out: 7, 499" in first.remarks


def test_what_is_wrong_with_ssgrls_files_is_counted(tmp_path):
    # 8 is in neither list, 9 is not in the index, 6 is in both lists, 2 twice in one, 1 twice in the index.
    index = (
        '{"1.jpg": [0, 0], "1.jpg": [3], "2.jpg": [500, -1], "3.jpg": [1], '
        '"6.jpg": [2], "7.jpg": [3], "8.jpg": [4]}'
    )
    train = ["1.jpg", "2.jpg", "3.jpg", "2.jpg", "6.jpg", "9.jpg"]
    dataset = open_dataset(f"vg500:root={write_ssgrl(tmp_path, train, TEST, index)}", check_images=False)
    assert labels_of(dataset) == {
        "1.jpg": ["object 0", "object 3"],
        "2.jpg": [],
        "3.jpg": ["object 1"],
        "6.jpg": ["object 2"],
        "7.jpg": ["object 3"],
    }
    assert [path.name for path in dataset.split("test").images] == TEST
    assert dataset.remarks[:-1] == (
        f"1 listed images that {INDEX} lacks were left out: 9.jpg",
        f"1 images of {INDEX} are in neither list and were left out",
        f"1 images are twice in {INDEX}; their labels were joined: 1.jpg",
        "1 labels that an image has twice count once",
        "2 entries with labels outside 0 to 499 were left out: -1, 500",
        "1 images have none of the labels and count as negative for all",
        "1 image(s) listed again were left out: 2.jpg",
        "1 image(s) of several splits stay in the last of them alone: 6.jpg",
    )


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"1.jpg": [0],\n "2.jpg": [1,]}', r"index\.json line 2 column \d+: "),
        (
            '{"1.jpg": ["tree"], "2.jpg": [true]}',
            r"2 image\(s\) whose labels are no list of whole numbers: 1\.jpg; 2\.jpg",
        ),
        ("[[0], [1]]", r"index\.json: expected \{"),
        ('{"a.jpg": [0]}', r"has none of the images of train_list_500\.txt and test_list_500\.txt"),
    ],
)
def test_malformed_index(tmp_path, index, message):
    with pytest.raises(InputError, match=message):
        open_dataset(f"vg500:root={write_ssgrl(tmp_path, index=index)}", check_images=False)


def test_images_and_options(tmp_path):
    write_ssgrl(tmp_path)
    draw(tmp_path, TRAIN)
    with pytest.raises(InputError, match=r"vg500: 2 of 7 images are not in .*VG_100K/6\.jpg, VG_100K/7\.jpg"):
        open_dataset(f"vg500:root={tmp_path}")
    with pytest.raises(InputError, match=r"unknown source 'object'\. Did you mean objects\?"):
        open_dataset(f"vg500:root={tmp_path}:source=object")
    with pytest.raises(InputError, match="num_labels=501"):
        open_dataset(f"vg500:root={tmp_path}:num_labels=501")
    (tmp_path / INDEX).unlink()
    with pytest.raises(
        InputError, match=rf"has no {INDEX}\. It comes from https://github.com/HCPLab-SYSU/SSGRL"
    ):
        open_dataset(f"vg500:root={tmp_path}")


def thing(*names):
    return {"object_id": 1, "x": 0, "y": 0, "w": 1, "h": 1, "names": list(names), "synsets": ["tree.n.01"]}


def write_objects(root, objects, numbers=range(1, 13)):
    images = [{"image_id": i, "url": f"https://example.org/VG_100K/{i}.jpg", "width": 2} for i in numbers]
    (root / "image_data.json").write_text(json.dumps(images))
    rows = [{"image_id": i, "objects": things, "image_url": ""} for i, things in objects]
    (root / "objects.json").write_text(json.dumps(rows))
    return root


# On images: tree 8, window 4, car 4, dog 1. Five cars on one image count once.
OBJECTS = [
    *((i, [thing("tree"), thing("Tree "), thing("window")]) for i in range(1, 4)),
    *((i, [thing("tree"), thing("car")]) for i in range(4, 7)),
    (7, [thing("tree", "car")]),
    (8, [thing("tree"), thing("dog"), *[thing("dog")] * 5]),
    (9, [thing("window"), thing("")]),
    (10, []),
]


def test_objects(tmp_path):
    again = [(10, [thing("tree")]), *[(8, [thing("dog")])] * 5]
    write_objects(tmp_path, [*OBJECTS, *again, (99, [thing("dog")] * 9)])
    dataset = open_dataset(f"vg500:root={tmp_path}:source=objects:num_labels=3", check_images=False)
    # tree 9 with the second row of image 10, dog 1: image 8 counts once; car and window 4 each, by the alphabet.
    assert dataset.label_names == ["tree", "car", "window"]
    assert dataset.annotations.positives().tolist() == [9, 4, 4]
    assert labels_of(dataset) == {
        **{f"{i}.jpg": ["tree", "window"] for i in range(1, 4)},
        **{f"{i}.jpg": ["tree", "car"] for i in range(4, 8)},
        "8.jpg": ["tree"],
        "9.jpg": ["window"],
        "10.jpg": ["tree"],
        "11.jpg": [],
        "12.jpg": [],
    }
    assert {"train", "val", "test"} == set(dataset.splits.tolist())
    for words in ("the 3 object names on most images of objects.json", "all splits made", "3 labels"):
        assert words in dataset.protocol
    assert dataset.remarks == (
        "1 other object names are no labels",
        "1 images of objects.json are not in image_data.json and were left out",
        "2 images of image_data.json are not in objects.json: no labels",
        "6 images are in objects.json again; their objects were joined",
        "1 objects without a name were left out",
        "2 images have none of the labels and count as negative for all",
    )
    assert (
        open_dataset(f"vg500:root={tmp_path}:source=objects:num_labels=4", check_images=False).label_names[3]
        == "dog"
    )


def test_too_few_objects(tmp_path):
    write_objects(tmp_path, OBJECTS)
    with pytest.raises(
        InputError, match=r"names 4 different objects and so no 500 labels: .*num_labels=4 or less"
    ):
        open_dataset(f"vg500:root={tmp_path}:source=objects", check_images=False)


def test_malformed_objects(tmp_path):
    write_objects(tmp_path, OBJECTS)
    source = f"vg500:root={tmp_path}:source=objects:num_labels=2"
    (tmp_path / "objects.json").write_text(
        '[{"image_id": 1, "objects": [{"names": "tree"}]}, {"image_id": 2}]'
    )
    with pytest.raises(InputError) as caught:
        open_dataset(source, check_images=False)
    assert str(caught.value).splitlines()[1:] == [
        "  1 object(s) without a list of names: image 1",
        "  1 image(s) without image_id and objects: item 1",
    ]
    (tmp_path / "objects.json").write_text(
        '[{"image_id": 1, "objects": []},\n {"image_id": 2 "objects": []}]'
    )
    with pytest.raises(InputError, match=r"objects\.json line 2 column 17: Expecting ',' delimiter"):
        open_dataset(source, check_images=False)
    (tmp_path / "image_data.json").write_text('[{"id": 1}]')
    with pytest.raises(
        InputError, match=r"image_data\.json cannot be used:\n  1 image\(s\) without image_id: item 0"
    ):
        open_dataset(source, check_images=False)
