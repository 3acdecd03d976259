"""A page that a real browser opens from the disk, without a network."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class DiskPage:
    """A browser's page, what its console complained of, and what it asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def is_wide(self) -> bool:
        """Whether it must be scrolled sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@contextmanager
def opened_from_disk(chromium: Any, file: Path, scheme: str) -> Iterator[DiskPage]:
    """Open a file in the light or the dark scheme."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    opened = DiskPage(page)
    page.on(
        "console", lambda message: opened.errors.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    page.on("request", lambda request: opened.requested.append(request.url))
    page.goto(file.as_uri(), wait_until="load")
    yield opened
    context.close()


def measure_colours(page: Any) -> tuple[int, int]:
    """How light a page's text is, and its ground: 0 is black, 765 white."""
    colours = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    ink, paper = (sum(int(part) for part in re.findall(r"\d+", colour)[:3]) for colour in colours)
    return ink, paper
