from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

import zoo.data.csv_blocks
from zoo.data.csv_blocks import blocks_of, bytes_progress, header_of
from zoo.lookup import InputError


@pytest.mark.parametrize("size", [1, 3, 10, 2**24])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_whole_lines_and_their_numbers(tmp_path, monkeypatch, size, end):
    monkeypatch.setattr(zoo.data.csv_blocks, "BLOCK", size)
    generator = np.random.default_rng(0)
    lines = ["x" * length for length in generator.integers(0, 9, 50)] + ["last"]
    (tmp_path / "a.csv").write_text("\n".join(lines) + end)
    (header, first), *blocks = blocks_of(tmp_path / "a.csv")
    assert (header, first) == (lines[0].encode() + b"\n", 1)
    for block, line in blocks:
        own = block.decode().removesuffix("\n").split("\n")
        assert own == [*lines, ""][line - 1 : line - 1 + len(own)]
    assert b"".join(block for block, _ in blocks).decode() == "\n".join(lines[1:]) + end


def test_header(tmp_path):
    path = tmp_path / "a.csv"
    header = header_of(path, '\ufeff"image", label,x,x,\r\n'.encode(), ["label", "image"])
    assert header[:2] == ["image", "label"]
    assert len(set(header)) == 5
    with pytest.raises(InputError, match=r"a\.csv line 1: unknown column 'Image'\. Did you mean image\?"):
        header_of(path, b"image,label", ["Image"])


def test_a_bar_on_a_terminal_only(monkeypatch, capsys):
    def advance():
        with bytes_progress("Reading labels", 100) as advance:
            advance(40)
        return capsys.readouterr()

    assert advance() == ("", "")
    monkeypatch.setattr(Console, "is_terminal", True)
    out, err = advance()
    assert out == ""
    assert "Reading labels" in err
    assert "40/100 bytes" in err
