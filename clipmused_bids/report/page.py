"""From blocks to one HTML file that needs nothing beside it: no network, no script, no other file."""

from __future__ import annotations

import base64
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from clipmused_bids.report.blocks import MediaType, Page

if TYPE_CHECKING:
    from jinja2 import Template


def render(page: Page) -> bytes:
    """Write a page as HTML.

    Parameters
    ----------
    page : Page

    Returns
    -------
    bytes
        UTF-8. Equal pages are equal bytes.
    """
    # A name in the data may be no text.
    return _template().render(page=page).encode("utf-8", "backslashreplace")


def is_about(html: bytes, model_label: str) -> bool:
    """Whether a page that `render` wrote is about the decoder of this label."""
    return f'<meta name="model-label" content="{model_label}">'.encode() in html


def data_uri(image: bytes, media_type: MediaType) -> str:
    """Address of an image that holds the image."""
    return f"data:{media_type};base64,{base64.b64encode(image).decode('ascii')}"


@cache
def _template() -> Template:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("clipmused_bids") / "data" / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.globals["data_uri"] = data_uri
    return environment.get_template("page.html.j2")
