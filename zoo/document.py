"""A document of headings, paragraphs, lists, tables and pictures, as Markdown or as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-top: 1px solid #ddd; padding-top: 1rem }
h3 { font-size: 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
td, th { padding: .2rem .8rem .2rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #eee }
td:first-child, th:first-child { text-align: left; white-space: normal }
img { max-width: 100%; height: auto }
li { font-size: .9rem }
"""


@dataclass(frozen=True)
class Heading:
    """A heading of level 1, 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Listing:
    """A bulleted list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table, whose first column is text and whose others are numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A picture in a file, PNG or SVG."""

    caption: str
    path: Path


Block = str | Heading | Listing | Table | Picture  # a string is a paragraph


def to_markdown(blocks: Sequence[Block], folder: Path) -> str:
    """Blocks as Markdown; pictures are named relative to the folder that the file will lie in."""

    def line(block: Block) -> str:
        match block:
            case Heading():
                return f"{'#' * block.level} {block.text}"
            case Listing():
                return "\n".join(f"- {item}" for item in block.items)
            case Table():
                rows = [block.header, *block.rows]
                first, *others = (
                    f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows
                )
                return "\n".join([first, "|---|" + "---:|" * (len(block.header) - 1), *others])
            case Picture():
                return f"![{block.caption}]({os.path.relpath(block.path, folder)})"
        return block

    return "\n\n".join(map(line, blocks)) + "\n"


def to_html(blocks: Sequence[Block], title: str) -> str:
    """Blocks as one page that holds its pictures, so that it can be sent to someone."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    def element(block: Block) -> str:
        match block:
            case Heading():
                return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
            case Listing():
                return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in block.items) + "</ul>"
            case Table():
                body = "".join(row(cells, "td") for cells in block.rows)
                return f'<div class="wide"><table>{row(block.header, "th")}{body}</table></div>'
            case Picture():
                return f'<p><img alt="{html.escape(block.caption)}" src="{_data_url(block.path)}"></p>'
        return f"<p>{html.escape(block)}</p>"

    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(map(element, blocks))
        + "\n</body>\n</html>\n"
    )


def _data_url(picture: Path) -> str:
    kind = {".png": "image/png", ".svg": "image/svg+xml"}[picture.suffix]
    return f"data:{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"


def write_document(blocks: Sequence[Block], path: Path, title: str) -> None:
    """Writes ``path`` with the suffixes ``.md`` and ``.html``."""
    path.with_suffix(".md").write_text(to_markdown(blocks, path.parent), encoding="utf-8")
    path.with_suffix(".html").write_text(to_html(blocks, title), encoding="utf-8")
