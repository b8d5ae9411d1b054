"""The page: sections of text, pictures and tables, in one HTML file that needs nothing else."""

import base64
import dataclasses
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5b6675; --rule: #d9dee5; --wash: #f5f7f9; --accent: #1f5fa8; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 5rem; max-width: 62rem; color: var(--ink); background: #fff;
  font: 17px/1.6 Charter, "Bitstream Charter", "Source Serif 4", Georgia, serif; }
h1, h2, th, figcaption, nav, .facts, caption { font-family: system-ui, "Segoe UI", "Helvetica Neue", sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .75rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; margin: 3.5rem 0 .75rem; padding-top: 1.25rem; border-top: 1px solid var(--rule); }
p, ul { max-width: 46rem; margin: .7rem 0; }
.formula { margin: 1rem 0; padding: .6rem 1rem; border-left: 3px solid var(--accent); background: var(--wash);
  max-width: 46rem; font-style: italic; }
sub, sup { line-height: 0; font-size: .72em; }
nav { font-size: .92rem; margin: 1.5rem 0; }
nav ol { margin: 0; padding-left: 1.25rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
figure { margin: 1.5rem 0; } figure img { display: block; max-width: 100%; height: auto; }
figcaption, caption { color: var(--soft); font-size: .88rem; line-height: 1.45; text-align: left; max-width: 46rem; }
figcaption { margin-top: .4rem; } caption { padding-bottom: .4rem; }
.wide { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; font-size: .88rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; border-bottom: 1.5px solid var(--ink); vertical-align: bottom; }
th, td { padding: .32rem .8rem .32rem 0; } td { border-bottom: 1px solid var(--rule); vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; } td.n { font-family: ui-monospace, Menlo, Consolas, monospace;
  font-size: .82rem; }
code { font: .86em ui-monospace, Menlo, Consolas, monospace; background: var(--wash); padding: .05em .25em; }
.facts { color: var(--soft); font-size: .88rem; }
"""


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: plain text.
        body: pieces of HTML, in order: `text`, `figure` and `table` make them.
        numbers: what connection.json holds of it.
    """

    title: str
    body: Sequence[str]
    numbers: dict


def text(*paragraphs):
    """Paragraphs of HTML."""
    return "\n".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)


def formula(line):
    """A line of HTML set apart."""
    return f'<div class="formula">{line}</div>'


def figure(picture, caption, width=None):
    """A picture `[H, W, 3]` uint8 drawn at two pixels a CSS pixel, with its caption in HTML."""
    buffer = io.BytesIO()
    Image.fromarray(picture).quantize(128, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(_plain(caption), quote=True)
    size = width or picture.shape[1] // 2
    return (
        f'<figure><img width="{size}" src="data:image/png;base64,{data}" alt="{alt}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def table(header, rows, caption=""):
    """A table: strings stand to the left as HTML, numbers to the right with four significant digits."""
    numeric = [all(not isinstance(row[i], str) or row[i] == "–" for row in rows) for i in range(len(header))]

    def line(cells, tag):
        marks = [' class="n"' if number else "" for number in numeric]
        return "<tr>" + "".join(f"<{tag}{m}>{cell(c)}</{tag}>" for c, m in zip(cells, marks, strict=True)) + "</tr>"

    lines = [line(header, "th"), *(line(row, "td") for row in rows)]
    return f'<div class="wide"><table><caption>{caption}</caption>{"".join(lines)}</table></div>'


def cell(value):
    """A table cell: text as it is, whole numbers whole, others with four significant digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    if value == 0:
        return "0"
    size = abs(float(value))
    if 1e-3 <= size < 1e5:
        return f"{value:.{max(0, 3 - int(np.floor(np.log10(size))))}f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}·10<sup>{int(exponent)}</sup>".replace("-", "−")


def page(title, introduction, sections, facts):
    """The whole document."""
    contents = "".join(f'<li><a href="#s{i}">{html.escape(s.title)}</a></li>' for i, s in enumerate(sections, 1))
    parts = [
        f'<h2 id="s{i}">{i}. {html.escape(section.title)}</h2>\n' + "\n".join(section.body)
        for i, section in enumerate(sections, 1)
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(_plain(title))}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{title}</h1>\n{introduction}\n<nav><ol>{contents}</ol></nav>\n"
        + "\n".join(parts)
        + f'\n<p class="facts">{facts}</p>\n</body></html>\n'
    )


def _plain(markup):
    """HTML without its tags."""
    while "<" in markup:
        before, _, rest = markup.partition("<")
        markup = before + rest.partition(">")[2]
    return html.unescape(markup)
