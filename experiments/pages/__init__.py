"""HTML pages that need no other file: the environment of their templates, and how pictures are written."""

import base64
import io

import jinja2


def environment(package, **filters) -> jinja2.Environment:
    """The environment of the templates beside a package's modules; it finds base.html and base.css here, too.

    Every string that a template prints is escaped unless it is `markupsafe.Markup`. A name that is not given is an
    error. `value | tojson` is safe inside <script>, and inside an attribute in single quotes. `filters` are more
    filters, by their names.
    """
    found = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name, ".") for name in (package, __name__)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    found.filters |= filters
    return found


def data_uri(image, colors=256) -> str:
    """A PIL image as data:image/png;base64,…

    The PNG has a palette, a quarter of the full size: exact for grey, and close for the rest.
    """
    buffer = io.BytesIO()
    image.quantize(colors, dither=0).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
