"""Templates of the pages: filters, what every page knows, and how one is answered."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from api.csrf import csrf_token
from api.schemas import CountsPublic
from core.bundle import NOTICE
from core.progress import OUTCOMES

_PARTS = re.compile(r"[^/\\_:-]*[/\\_:-]+|[^/\\_:-]+")


@dataclass(frozen=True)
class Segment:
    """A stretch of a progress bar: an outcome's share, in percent of the bar's width."""

    outcome: str
    start: float
    width: float


def split_bar(counts: CountsPublic) -> list[Segment]:
    """Cut a progress bar into its outcomes."""
    segments = []
    start = 0.0
    for outcome in OUTCOMES:
        width = 100 * getattr(counts, outcome) / counts.total if counts.total else 0.0
        if width:
            segments.append(Segment(outcome, round(start, 3), round(width, 3)))
        start += width
    return segments


def name_outcomes(counts: CountsPublic) -> str:
    """Say a progress bar in words, for those who do not see it."""
    parts = [f"{getattr(counts, outcome):,} {outcome}" for outcome in OUTCOMES if getattr(counts, outcome)]
    return f"{counts.total - counts.pending:,} of {counts.total:,} images: {', '.join(parts) or 'no outcome yet'}"


def say_duration(seconds: float | None) -> str:
    """Say seconds as people do, coarsely."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return "< 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def say_moment(moment: datetime | None) -> str:
    """Say a moment in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if moment else "–"


def say_ago(moment: datetime | None, now: datetime) -> str:
    """Say how long ago a moment was, or in how long it comes."""
    if moment is None:
        return "–"
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{say_duration(seconds)} ago" if seconds > 0 else f"in {say_duration(-seconds)}"


def say_bytes(size: float) -> str:
    """Say a file's size."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000 or unit == "MB":
            return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable: the last unit takes any size")


def say_path(path: str) -> Markup:
    """Write a path so that a browser breaks it behind its separators, and not within a word."""
    return Markup("<wbr>").join(escape(part) for part in _PARTS.findall(path))


def _make_templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(duration=say_duration, moment=say_moment, bar=split_bar, words=name_outcomes)
    templates.filters.update(ago=say_ago, bytes=say_bytes, path=say_path)
    templates.globals["notice"] = NOTICE
    templates.globals["outcomes"] = OUTCOMES
    return templates


TEMPLATES = _make_templates()


def render(request: Request, name: str, status: HTTPStatus = HTTPStatus.OK, /, **values: object) -> HTMLResponse:
    """Answer with a page. Beside what is given, templates know root, principal, has_session and csrf."""
    common = {
        "root": request.scope.get("root_path", ""),
        "principal": getattr(request.state, "principal", None),
        "has_session": getattr(request.state, "has_session", False),
        "csrf": csrf_token(request),
    }
    return HTMLResponse(TEMPLATES.get_template(name).render({**values, **common}), status_code=status)
