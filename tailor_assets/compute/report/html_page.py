"""One HTML file that needs nothing else: no script, no network, no other file.

Everything that comes from outside (names of videos, labels, models) passes ``_text`` or ``_attribute``.
The page also forbids itself, by a content security policy, to load or run anything.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tailor_assets.compute.palette import LabelStyle
from tailor_assets.compute.report.flag_figure import Thumbnail, thumbnail_alt
from tailor_assets.compute.report.report_input import Drawing
from tailor_assets.compute.report.time_columns import clock_time

Cell = str | int | float | None

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --quiet: #5a5a5a; --page: #ffffff;
  --card: #f4f5f6; --line: #d5d8db; --link: #00558a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --quiet: #a9adb2; --page: #16181a;
  --card: #222528; --line: #3b4045; --link: #7cc4f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 960px; color: var(--ink);
  background: var(--page); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 4px;
  overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 40px 0 8px; padding-top: 8px; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 24px 0 6px; }
p, figcaption { max-width: 46em; }
a { color: var(--link); }
.quiet, figcaption, caption { color: var(--quiet); font-size: .875rem; }
nav { margin: 16px 0; font-size: .9rem; }
nav a { margin-right: 14px; white-space: nowrap; }
.key { display: grid; grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)); gap: 10px;
  margin: 16px 0; padding: 0; }
.key div { background: var(--card); border-radius: 8px; padding: 9px 11px; }
.key dt { color: var(--quiet); font-size: .8rem; }
.key dd { margin: 0; font-size: 1.1rem; font-variant-numeric: tabular-nums; }
figure { margin: 12px 0; }
figcaption { margin-top: 6px; }
figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px;
  border: 1px solid var(--line); }
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 12px;
  margin: 12px 0; }
.thumbs figure { margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 8px 0; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 4px; }
th, td { padding: 4px 12px 4px 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { font-weight: 600; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
.facts td, .facts th { text-align: left; white-space: normal; }
.facts td { overflow-wrap: anywhere; }
.facts th { font-weight: 400; color: var(--quiet); width: 16em; }
.facts { width: 100%; }
.chip { display: inline-block; width: .8em; height: .8em; margin-right: .45em; border-radius: 2px;
  border: 1px solid rgba(128, 128, 128, .6); vertical-align: -.05em;
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
@media print { :root { color-scheme: light; --ink: #000; --quiet: #333; --page: #fff;
    --card: #fff; --line: #999; --link: #000; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } nav, .screen { display: none; }
  .key div { border: 1px solid #999; } figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; } .scroll { overflow: visible; }
  .thumbs { grid-template-columns: repeat(4, 1fr); } }
@page { margin: 15mm; }
"""


class Page:
    """HTML of a page, put together from its top to its end."""

    def __init__(self, title: str, about: str) -> None:
        """``title``: of the page. ``about``: one line beneath it."""
        self._title, self._about = title, about
        self._parts: list[str] = []
        self._sections: list[tuple[str, str]] = []

    def section(self, anchor: str, title: str) -> None:
        """Begin a section; ``anchor`` is a plain word of ours."""
        self._sections.append((anchor, title))
        self._parts.append(f'<h2 id="{_attribute(anchor)}">{_text(title)}</h2>')

    def heading(self, title: str) -> None:
        """A heading within a section."""
        self._parts.append(f"<h3>{_text(title)}</h3>")

    def sentence(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{_text(text)}</p>")

    def key_figures(self, figures: Sequence[tuple[str, str]]) -> None:
        """The numbers a person looks for first: (what, value)."""
        cells = "".join(
            f"<div><dt>{_text(what)}</dt><dd>{_text(value)}</dd></div>" for what, value in figures
        )
        self._parts.append(f'<dl class="key">{cells}</dl>')

    def drawing(self, drawing: Drawing) -> None:
        """A figure with its caption, or the sentence in its place."""
        if drawing.png is None:
            self.sentence(drawing.caption)
            return
        self._parts.append(
            f'<figure><img src="{_data_uri("image/png", drawing.png)}" '
            f'alt="{_attribute(drawing.alt)}"><figcaption>{_text(drawing.caption)}</figcaption>'
            "</figure>"
        )

    def thumbnails(self, thumbnails: Sequence[Thumbnail]) -> None:
        """Small pictures of review windows, each with its time and what changes."""
        cells = []
        for one in thumbnails:
            picture = (
                f'<img src="{_data_uri("image/jpeg", one.jpeg)}" '
                f'alt="{_attribute(thumbnail_alt(one))}">'
                if one.jpeg is not None
                else ""
            )
            what = (
                f"{_name(one.after)}, unsure"
                if one.before is None
                else f"{_name(one.before)} → {_name(one.after)}"
            )
            urgent = "" if one.priority is None else f"<br>priority {one.priority:.2f}"
            cells.append(
                f"<figure>{picture}<figcaption>{_text(clock_time(one.time_s))}, frame {one.frame}"
                f"<br>{what}<br>window {one.window}, mask {_text(one.mask_state)}{urgent}"
                "</figcaption></figure>"
            )
        self._parts.append(f'<div class="thumbs">{"".join(cells)}</div>')

    def table(
        self,
        caption: str,
        header: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        styles: Mapping[str, LabelStyle],
    ) -> None:
        """A table; a first cell that is a label of ``styles`` gets its colour. Null is a dash."""
        head = "".join(f'<th scope="col">{_text(name)}</th>' for name in header)
        body = []
        for row in rows:
            cells = []
            for i, cell in enumerate(row):
                shown = _shown(cell)
                if i == 0 and isinstance(cell, str):
                    chip = _chip(styles[cell]) if cell in styles else ""
                    cells.append(f"<td>{chip}<bdi>{shown}</bdi></td>")
                else:
                    cells.append(f"<td>{shown}</td>")
            body.append(f"<tr>{''.join(cells)}</tr>")
        self._parts.append(
            f'<div class="scroll"><table><caption>{_text(caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        )

    def facts(self, title: str, facts: Sequence[tuple[str, Any]]) -> None:
        """A table of what and value, values as they are."""
        rows = "".join(
            f'<tr><th scope="row">{_text(what)}</th><td><bdi>{_text(value)}</bdi></td></tr>'
            for what, value in facts
        )
        self.heading(title)
        self._parts.append(f'<table class="facts"><tbody>{rows}</tbody></table>')

    def download(
        self, words: str, file_name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]
    ) -> None:
        """A link that saves a table as CSV, which is in the page itself."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(
            ["" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else cell
             for cell in row]
            for row in rows
        )  # fmt: skip
        uri = _data_uri("text/csv;charset=utf-8", stream.getvalue().encode())
        self._parts.append(
            f'<p class="screen"><a download="{_attribute(file_name)}" href="{uri}">{_text(words)}'
            "</a></p>"
        )

    def html(self) -> str:
        """The whole page."""
        links = " ".join(
            f'<a href="#{_attribute(anchor)}">{_text(title)}</a>'
            for anchor, title in self._sections
        )
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
            f"<title>{_text(self._title)}</title><style>{_STYLE}</style></head>\n<body>"
            f'<header><h1><bdi>{_text(self._title)}</bdi></h1><div class="quiet">'
            f"{_text(self._about)}</div></header>\n<nav>{links}</nav>\n<main>\n"
            + "\n".join(self._parts)
            + "\n</main></body></html>\n"
        )


def _text(value: object) -> str:
    return escape(_printable(str(value)), quote=False)


def _attribute(value: object) -> str:
    return escape(_printable(str(value)), quote=True)


def _printable(text: str) -> str:
    """Without what no page may hold: control characters, and halves of characters."""
    clean = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return clean.encode("utf-8", "replace").decode("utf-8")


def _name(text: str) -> str:
    return f"<bdi>{_text(text)}</bdi>"


def _chip(style: LabelStyle) -> str:
    return f'<span class="chip" style="background:{style.hex_colour}"></span>'


def _shown(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return _text(f"{cell:,.2f}")
    return _text(f"{cell:,}" if isinstance(cell, int) else cell)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
