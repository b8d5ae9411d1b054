"""The page: sections of text, pictures and tables, in one HTML file that needs no other file.

page.html has the frame. The words of a section are in its own template, which is given the section's pictures, rows and
numbers; macros.html draws them.
"""

import dataclasses

import numpy as np
from markupsafe import Markup
from PIL import Image

from experiments.pages import data_uri, environment


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: the section's template is NAME.html.
        title: plain text.
        values: {name: value} that the template is given.
        numbers: the section's part of connection.json.
    """

    name: str
    title: str
    values: dict
    numbers: dict


def page(sections, **facts) -> str:
    """Returns the whole HTML document; `facts` are "quick", "seconds", "devices" and "jax", of its last line."""
    return templates().get_template("page.html").render(sections=sections, **facts)


def templates():
    """The environment of the templates: a section's `body`, a picture as `png`, `code`, and a table's cells."""
    found = environment("experiments.connection", png=png, cell=cell, classes=classes)
    found.filters["body"] = lambda section: Markup(found.get_template(f"{section.name}.html").render(section.values))
    return found


def png(picture):
    """A picture `[H, W, 3]` uint8 as a data URI."""
    return data_uri(Image.fromarray(picture), colors=128)


def code(text):
    """HTML of a name in code."""
    return Markup("<code>{}</code>").format(text)


def classes(rows, header):
    """The attribute of each column's cells: columns without text stand to the right, and "–" is not text."""
    numeric = [all(not isinstance(row[i], str) or row[i] == "–" for row in rows) for i in range(len(header))]
    return [Markup(' class="n"') if number else "" for number in numeric]


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
    return Markup(f"{mantissa}·10<sup>{int(exponent)}</sup>".replace("-", "−"))
