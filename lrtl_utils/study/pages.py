"""HTML from templates. Each page is one file: style, script and pictures are in it, and it asks for nothing else.

All values are escaped. A page's policy allows no script but ours, known by its hash, so that a text that were markup
would still run nothing.
"""

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import nbformat
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
NOTHING = "–"
TAGS = {"a", "blockquote", "br", "code", "div", "em", "h1", "h2", "h3", "h4", "hr", "li", "ol", "p", "pre", "span"}
TAGS |= {"strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"}


def render(template: str, **values: Any) -> str:
    """A template of the package with these values, escaped."""
    return _environment().get_template(template).render(values)


def picture(file: Path) -> str | None:
    """A PNG as a URL that holds it; None where there is none."""
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}" if file.is_file() else None


def notebook_body(notebook: "nbformat.NotebookNode") -> str:
    """An executed notebook as sanitised HTML without a head: prose, code to unfold, outputs; no cell of parameters.

    A picture is described by the heading above it.
    """
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    heading = ""
    for cell in notebook.cells:
        found = re.findall(r"^#+ (.+)", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
        heading = found[-1] if found else heading
        cell.metadata["alt"] = heading
    options = {
        "TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": ("parameters", "injected-parameters")},
        "CoalesceStreamsPreprocessor": {"enabled": True},  # what is printed comes in as many pieces as it happens to
    }
    exporter = HTMLExporter(
        config=Config(options),
        extra_template_basedirs=[str(TEMPLATES)],
        template_name="notebook",
        filters={"clean_html": sanitised},
        sanitize_html=True,
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    return exporter.from_notebook_node(notebook)[0]


def sanitised(html: str) -> str:
    """HTML with the tags of prose, code and tables, and no others; nbconvert's own filter lets no heading through."""
    import bleach

    html = re.sub(r"<style scoped>.*?</style>", "", str(html), flags=re.DOTALL)  # of pandas' tables
    return bleach.clean(
        html, tags=TAGS, attributes={"*": ["class", "id"], "a": ["href"]}, protocols={"https"}, strip=True
    )


def value(given: Any) -> str:
    """A value as a person reads it: four digits, thousands apart, lists with commas; a dash for what is not there."""
    if given is None or given == "" or (isinstance(given, Real) and math.isnan(given)):
        return NOTHING
    if isinstance(given, bool | str):
        return str(given)
    if isinstance(given, Real):
        return _number(given)
    if isinstance(given, Mapping):
        return value([f"{name} {value(one)}" for name, one in given.items()])
    if isinstance(given, Sequence):
        return ", ".join(map(value, given)) or NOTHING
    return str(given)


def _number(given: Real) -> str:
    size = abs(given)
    if size >= 1e9 or 0 < size < 1e-4:
        return f"{given:.3g}"
    return f"{given:,.0f}" if size >= 1e4 or float(given).is_integer() else f"{given:.4g}"


def flat(given: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """Names in words and values, those of mappings within under `source, id`."""
    found = {}
    for name, one in given.items():
        named = f"{inside}{name}".replace("_", " ")
        found |= flat(one, f"{named}, ") if isinstance(one, Mapping) else {named: one}
    return found


def polyline(values: Sequence[Any], width: int, height: int) -> str:
    """SVG points of a line through finite values, in order, from 0 at the bottom to the largest at the top."""
    points = [(i, one) for i, one in enumerate(values) if isinstance(one, Real) and math.isfinite(one)]
    top = max((one for _, one in points), default=0) or 1
    step = width / max(len(values) - 1, 1)
    return " ".join(f"{i * step:.1f},{height * (1 - max(one, 0) / top):.1f}" for i, one in points)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    style, script = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.globals |= {"style": style, "script": script, "script_sha256": digest, "polyline": polyline, "flat": flat}
    made.filters |= {"value": value}
    return made
