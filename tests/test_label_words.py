from __future__ import annotations

import numpy as np
import pytest

from zoo.embeddings import label_embeddings
from zoo.label_words import OTHER_NAMES, look_up, match_labels, plain_words, same_thing, singulars


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("cars", "car"),
        ("cherries", "cherry"),
        ("cookies", "cookie"),
        ("knives", "knife"),
        ("leaves", "leaf"),
        ("gloves", "glove"),
        ("boxes", "box"),
        ("axes", "axe"),
        ("dishes", "dish"),
        ("benches", "bench"),
        ("glasses", "glass"),
        ("horses", "horse"),
        ("buses", "bus"),
        ("potatoes", "potato"),
        ("shoes", "shoe"),
        ("firemen", "fireman"),
        ("people", "person"),
        ("wine glasses", "wine glass"),
        ("fire_hydrants", "fire hydrant"),
    ],
)
def test_plurals(plural, singular):
    assert singular in singulars(plural)


@pytest.mark.parametrize("word", ["glass", "grass", "is", "dog", "tv", "s", "men"])
def test_what_is_no_plural(word):
    assert singulars(word) in ([], ["man"] if word == "men" else [])


def test_same_thing_goes_both_ways():
    for name, others in OTHER_NAMES.items():
        assert others
        for other in others:
            assert name in same_thing(other)
    assert "airplane" in same_thing("aeroplanes")
    assert same_thing("zebra") == []


def read(label: str, vocabulary: list[str]) -> list[str]:
    """The entries of a vocabulary, the most frequent first, that stand for a label."""

    def vectors(wanted: set[str]) -> dict:
        return {word: (i, np.zeros(1)) for i, word in enumerate(vocabulary) if word in wanted}

    (reading,) = look_up([label], vectors)[1].values()
    return [entry for _, entries in reading for entry in entries]


def test_a_name_comes_before_its_singular_and_that_before_another_name():
    assert read("TVs", ["tv", "tvs", "television"]) == ["tvs"]
    assert read("TVs", ["television", "tv"]) == ["tv"]
    assert read("tvs", ["television"]) == ["television"]
    assert read("aeroplane", ["airplane"]) == ["airplane"]
    assert read("airplanes", ["aeroplane"]) == ["aeroplane"]


def test_of_two_singulars_the_more_frequent():
    assert read("cookies", ["cookie", "cooky"]) == ["cookie"]
    assert read("cookies", ["cooky", "cookie"]) == ["cooky"]


def test_parts_follow_the_same_rules():
    assert read("traffic_lights", ["traffic", "light"]) == ["traffic", "light"]
    assert read("grey couch", ["gray", "couch"]) == ["gray", "couch"]
    assert read("tvMonitors", ["tv"]) == ["tv"]
    assert read("wine glasses", ["wine", "glass", "wine_glass"]) == ["wine_glass"]


def test_whole_names_follow_them_too():
    labels = ["airplane", "wine glass", "tv", "person"]
    names = ["Aeroplanes", "wine_glasses", "tvmonitor", "People", "glasses", "airplane ticket"]
    _, readings = match_labels(names, labels, np.zeros((4, 2)))
    found = [entries for ((_, entries),) in readings.values()]
    assert found == [["airplane"], ["wine glass"], ["tv"], ["person"], [], []]


def test_names_as_words():
    names = ["trafficLight", "traffic_light", "TVMonitor", "sci-fi", "hot  dog", "雪", "--"]
    words = ["traffic light", "traffic light", "tv monitor", "sci fi", "hot dog", "雪", "--"]
    assert [plain_words(name) for name in names] == words


def test_the_report_names_what_was_read_as_something_else(tmp_path):
    (tmp_path / "v.txt").write_text("dog 1 1\ntraffic 2 2\nlight 3 3\nhot_dog 4 4\nairplane 5 5\n")
    labels = ["Dog", "traffic light", "hot dog", "aeroplane", "dogs", "trafficLight", "unheard"]
    result = label_embeddings(labels, tmp_path / "v.txt", unknown_words="zero")
    assert result.read_as() == {
        "aeroplane": ["airplane"],
        "dogs": ["dog"],
        "trafficLight": ["traffic", "light"],
        "unheard": ["<zero>"],
    }
    assert label_embeddings(["a", "b"], "onehot").read_as() == {}
