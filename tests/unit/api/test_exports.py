"""Downloads say the same as the API, and cannot attack the program that opens them."""

import csv
import io
import json

import pytest

from api.exports import COLUMNS, write_csv, write_jsonl
from api.schemas import ItemPublic
from core.bundle import NOTICE
from core.states import ItemState


def _item(path: str = "a.png", **values: object) -> ItemPublic:
    fields: dict[str, object] = {
        "id": 1,
        "path": path,
        "path_exact": path,
        "size": 10,
        "state": ItemState.DONE,
        "decision": "benign",
        "probability": 0.25,
        "reason": None,
        "detail": None,
        "model_version": "m@1.0.0",
        "engine": "fake",
        "elapsed_ms": 1.5,
        "content_hash": "ab" * 32,
        "patient": None,
        "slide": None,
        "magnification": None,
        "classified_at": None,
        "verdict": None,
    }
    return ItemPublic.model_validate(fields | values)


def _rows(*items: ItemPublic) -> list[dict[str, str]]:
    text = b"".join(write_csv([items])).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_csv_cell_never_starts_a_formula(start: str) -> None:
    """A name that a spreadsheet would run gets an apostrophe, in the name and in the detail."""
    (row,) = _rows(_item(f"{start}cmd|' /C calc'!A0", detail=f"{start}1", patient=f"{start}2"))
    assert row["path"] == f"'{start}cmd|' /C calc'!A0"
    assert row["path_exact"] == row["path"]
    assert row["detail"] == f"'{start}1"
    assert row["patient"] == f"'{start}2"


@pytest.mark.parametrize("name", ["two\nlines.png", 'quo"te.png', "com,ma.png", "carriage\rreturn.png", "ünï/🔬.png"])
def test_csv_gives_odd_names_back(name: str) -> None:
    """Newlines, quotes and commas in names survive a CSV reader."""
    (row,) = _rows(_item(name))
    assert row["path_exact"] == name


def test_csv_has_a_column_for_every_field() -> None:
    """The header is constant, missing values are empty, the notice is in the last column."""
    (row,) = _rows(_item(state=ItemState.FAILED, decision=None, probability=None, reason="corrupt"))
    assert tuple(row) == COLUMNS
    assert (row["state"], row["decision"], row["probability"], row["reason"]) == ("failed", "", "", "corrupt")
    assert row["notice"] == NOTICE


def test_jsonl_line_is_the_item_and_the_notice() -> None:
    """Each line is the API's own object, unchanged by spreadsheet rules."""
    items = [_item("=1+1"), _item("two\nlines")]
    lines = b"".join(write_jsonl([items])).decode().splitlines()
    assert [json.loads(line) for line in lines] == [
        {**item.model_dump(mode="json"), "notice": NOTICE} for item in items
    ]


def test_download_of_nothing_is_a_header() -> None:
    """A submission without images gives a CSV that readers accept, and empty JSON Lines."""
    assert b"".join(write_csv([])).decode() == ",".join(COLUMNS) + "\r\n"
    assert b"".join(write_jsonl([])) == b""
