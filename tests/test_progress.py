"""The progress bar: only on a terminal, only for what takes its time, and gone when it is done or broken off."""

from __future__ import annotations

import io
import sys

import pytest

from zoo import progress
from zoo.progress import watched


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """No fixture: between those and a test pytest puts its own stderr back."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    return terminal


def test_the_parts_pass_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    assert list(watched([3, 1, 2], "counting")) == [3, 1, 2]
    assert list(watched((i for i in range(3)), "counting")) == [0, 1, 2]
    assert list(watched([], "counting")) == []


@pytest.mark.parametrize("total", [None, 4])
def test_a_bar_for_what_takes_its_time(total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    for part in watched(iter("abcd"), "counting labels", total):
        if part == "d":
            assert "counting labels" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K"), "it is wiped away"
    assert ("100%" in terminal.getvalue()) == (total is not None)


def test_no_bar_for_what_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 60.0)
    list(watched("abcd", "counting labels"))
    assert terminal.getvalue() == ""


def test_no_bar_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    list(watched("abcd", "counting labels"))
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_a_bar_that_is_broken_off_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    parts = watched("abcd", "counting labels")
    assert [next(parts), next(parts), next(parts)] == ["a", "b", "c"]
    parts.close()  # type: ignore[attr-defined]
    size = len(terminal.getvalue())
    assert "counting labels" in terminal.getvalue()
    list(watched("abcd", "another"))  # two bars at a time would be an error of rich's
    assert len(terminal.getvalue()) > size
