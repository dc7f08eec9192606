"""How pages are made: templates of this room, every inserted text escaped."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
TEMPLATES = Path(__file__).parent / "templates"


def page_template(name: str) -> jinja2.Template:
    """A template that escapes what is inserted, and fails on a name that it was not given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def template_text(name: str) -> str:
    """A file beside the templates as it is: a script, which is no template."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def readable(text: str) -> str:
    """Text that UTF-8 can hold: bytes of a file name that are none become �."""
    return _LONE_SURROGATE.sub("\ufffd", text)
