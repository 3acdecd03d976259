"""Results as CSV and JSON Lines, streamed with flat memory."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from api.schemas import ItemPublic
from core.bundle import NOTICE

COLUMNS = (
    "item_id",
    "path",
    "path_exact",
    "state",
    "decision",
    "probability",
    "reason",
    "detail",
    "model_version",
    "engine",
    "elapsed_ms",
    "content_hash",
    "patient",
    "slide",
    "magnification",
    "classified_at",
    "verdict",
    "notice",
)
# Spreadsheets take a cell that starts so for a formula, and a formula can run programs (OWASP, CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_csv(chunks: Iterable[Sequence[ItemPublic]]) -> Iterator[bytes]:
    """Yield CSV (RFC 4180, UTF-8) with a header line, one piece a chunk.

    Text that a spreadsheet would run as a formula gets a ' before it; JSON Lines has it unchanged.
    """
    yield csv_lines([COLUMNS])
    for items in chunks:
        yield csv_lines(_csv_row(item) for item in items)


def write_jsonl(chunks: Iterable[Sequence[ItemPublic]]) -> Iterator[bytes]:
    """Yield JSON Lines: one object an image, with the fields of an ItemPublic and the notice."""
    for items in chunks:
        lines = (f'{item.model_dump_json()[:-1]},"notice":"{NOTICE}"}}\n' for item in items)
        yield "".join(lines).encode()


def _csv_row(item: ItemPublic) -> tuple[object, ...]:
    return (
        item.id,
        guard(item.path),
        guard(item.path_exact),
        item.state.value,
        item.decision,
        item.probability,
        item.reason,
        guard(item.detail),
        guard(item.model_version),
        guard(item.engine),
        item.elapsed_ms,
        item.content_hash,
        guard(item.patient),
        guard(item.slide),
        guard(item.magnification),
        item.classified_at.isoformat() if item.classified_at else None,
        item.verdict,
        NOTICE,
    )


def guard(text: str | None) -> str | None:
    """Put a ' before text that a spreadsheet would run."""
    return f"'{text}" if text and text.startswith(_FORMULA_STARTS) else text


def csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    """Write rows as CSV (RFC 4180, UTF-8); their text has been guarded."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue().encode()
