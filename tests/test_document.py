"""Both forms of a document: what Markdown shows, and a page that needs no other file."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from zoo.document import Heading, Listing, Picture, Table, to_html, to_markdown, write_document


@pytest.fixture
def blocks(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (3, 2), "red").save(tmp_path / "pictures" / "red.png")
    return [
        Heading("Who wins", 1),
        "One <paragraph> & more.",
        Table(["model", "mAP"], [["a|b", "0.5"], ["<script>", "0.6"]]),
        Listing(["first", "second"]),
        Picture("Red", tmp_path / "pictures" / "red.png"),
    ]


def test_markdown(blocks, tmp_path):
    assert to_markdown(blocks, tmp_path) == (
        "# Who wins\n\nOne <paragraph> & more.\n\n| model | mAP |\n|---|---:|\n| a\\|b | 0.5 |\n| <script> | 0.6 |\n\n"
        "- first\n- second\n\n![Red](pictures/red.png)\n"
    )


def test_html_holds_its_pictures_and_escapes_names(blocks, tmp_path):
    page = to_html(blocks, "Who <wins>")
    HTMLParser().feed(page)
    assert "<script" not in page
    assert "<title>Who &lt;wins&gt;</title>" in page
    assert not re.search(r'(src|href)="(?!data:)', page), "everything is in the page"
    picture = re.search(r'src="data:image/png;base64,([^"]+)"', page)
    assert picture is not None
    assert base64.b64decode(picture[1]) == (tmp_path / "pictures" / "red.png").read_bytes()


def test_write_document_writes_both(blocks, tmp_path):
    write_document(blocks, tmp_path / "report", "Who wins")
    assert (tmp_path / "report.md").read_text().startswith("# Who wins")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
