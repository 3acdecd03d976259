"""docs/architecture.md draws what the code does."""

import re
from collections.abc import Iterator, Mapping

import pytest
from sqlmodel import SQLModel

import core.access_tables
import core.archive_tables
import core.review_tables
import core.serving_tables  # noqa: F401 - these register their tables
from core.lanes import QUEUES
from core.settings import PROJECT
from core.states import (
    BATCH_MOVES,
    ITEM_MOVES,
    SCAN_MOVES,
    SUBMISSION_MOVES,
    BatchState,
    ItemState,
    ScanState,
    SubmissionState,
)

TEXT = (PROJECT / "docs" / "architecture.md").read_text()
DIAGRAMS = re.findall(r"```mermaid\n(.*?)```", TEXT, re.DOTALL)
STATES = {"submission": SubmissionState, "batch": BatchState, "item": ItemState, "scan": ScanState}


def _section(name: str) -> str:
    article = "an" if name == "item" else "a"
    return TEXT.split(f"## States of {article} {name}\n")[1].split("\n## ")[0]


def _arrows(name: str) -> list[tuple[str, str, str]]:
    """Each arrow: from, to, label."""
    return re.findall(r"^    (\S+) --> (\S+?)(?:: (.+))?$", _section(name), re.MULTILINE)


def test_every_diagram_has_content() -> None:
    """A block that lost its lines renders as an error."""
    assert len(DIAGRAMS) >= 7
    assert all(len(diagram.splitlines()) > 2 for diagram in DIAGRAMS)


@pytest.mark.parametrize("name", STATES)
def test_the_drawn_states_are_those_of_the_code(name: str) -> None:
    """A state that is added must be drawn, and one that is removed must go."""
    drawn = {state for start, end, _ in _arrows(name) for state in (start, end)} - {"[*]"}
    assert drawn == {state.value for state in STATES[name]}


@pytest.mark.parametrize("name", STATES)
def test_every_arrow_has_a_meaning_below_the_drawing(name: str) -> None:
    """An arrow alone says that something happens, not what."""
    labels = {label for _, end, label in _arrows(name) if end != "[*]"}
    rows = dict(re.findall(r"^\| ([^|]+?) \| (.+) \|$", _section(name), re.MULTILINE))
    meanings = {label: text for label, text in rows.items() if label not in ("arrow", "---")}
    assert "" not in labels
    assert meanings.keys() == labels
    assert all(text.strip().endswith(".") for text in meanings.values())


@pytest.mark.parametrize(
    ("name", "moves"),
    [("submission", SUBMISSION_MOVES), ("batch", BATCH_MOVES), ("item", ITEM_MOVES), ("scan", SCAN_MOVES)],
)
def test_the_drawn_arrows_are_the_moves_of_the_code(name: str, moves: Mapping[str, frozenset[str]]) -> None:
    """Every move is drawn and no other, and what has ended never moves again."""
    drawn = {(start, end) for start, end, _ in _arrows(name) if "[*]" not in (start, end)}
    assert drawn == {(start, end) for start, following in moves.items() for end in following}
    ending = {start for start, end, _ in _arrows(name) if end == "[*]"}
    assert ending == {start for start, following in moves.items() if not following}


def test_the_drawn_tables_are_those_of_the_code() -> None:
    """Every column is drawn; three groups of counters stand for a column each name beside them."""
    drawing = next(diagram for diagram in DIAGRAMS if diagram.startswith("erDiagram"))
    tables = re.findall(r"^    (\w+) \{\n(.*?)^    \}", drawing, re.DOTALL | re.MULTILINE)
    drawn = {table: set(_columns(body)) for table, body in tables}
    assert drawn == {table.name: {column.name for column in table.columns} for table in SQLModel.metadata.sorted_tables}


def _columns(body: str) -> Iterator[str]:
    for name, note in re.findall(r'^        \w+ (\w+)(?: (?:[A-Z]+|"(.*)"))?', body, re.MULTILINE):
        if name in ("outcomes", "files"):
            yield from note.split(", ")
        elif name == "stages":
            yield from (f"{stage}_ms" for stage in note.removesuffix(": ms").split(", "))
        else:
            yield name


def test_queues_are_named_in_the_order_in_which_workers_look() -> None:
    """Who waits must be able to see what goes first."""
    assert ", ".join(f"`{queue}`" for queue in QUEUES) in TEXT
