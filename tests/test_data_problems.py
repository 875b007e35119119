from __future__ import annotations

import pytest

from zoo.data.problems import Problems
from zoo.lookup import InputError


def test_every_kind_is_counted_and_three_of_each_are_shown():
    problems = Problems()
    problems.raise_any("labels.txt")
    for line in range(1, 1501):
        problems.add("images listed again", f"line {line}")
    problems.add("unknown labels", "'dgo'")
    with pytest.raises(InputError) as error:
        problems.raise_any("labels.txt")
    assert str(error.value).splitlines() == [
        "labels.txt cannot be used:",
        "  1,500 images listed again: line 1; line 2; line 3; ...",
        "  1 unknown labels: 'dgo'",
    ]
