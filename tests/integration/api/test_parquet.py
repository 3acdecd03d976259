"""Results as Parquet: whole, typed, and never half a file that passes for a whole one."""

import asyncio
import io
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.parquet import take_parquet_turn, write_parquet
from api.schemas import ItemPublic
from core.bundle import NOTICE
from core.paths import path_to_text
from core.settings import PROJECT
from core.states import ItemState
from tests.integration.api.server import Api, add_items, add_many_items, add_submission


def _table(api: Api, submission_id: str, **query: str) -> pa.Table:
    answer = api.http.get(f"/v1/submissions/{submission_id}/results.parquet", params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/vnd.apache.parquet")
    assert f'filename="{submission_id}.parquet"' in answer.headers["content-disposition"]
    return pq.read_table(io.BytesIO(answer.content))


def test_parquet_has_what_the_pages_have(each_api: Api) -> None:
    """The same images under the same filters, with the types of their columns; notice and models in the metadata."""
    submission_id = add_submission(each_api.database)
    odd = path_to_text(b"caf\xe9\n.png")
    images: list[dict[str, object]] = [
        {
            "path": odd,
            "decision": "malignant",
            "probability": 0.75,
            "patient": "=1",
            "slide": "s",
            "magnification": "40",
        },
        {"state": ItemState.FAILED, "reason": "corrupt", "detail": "it ends early"},
        {"decision": "benign", "probability": 0.25},
    ]
    add_items(each_api.database, submission_id, images)
    page = each_api.http.get(f"/v1/submissions/{submission_id}/items").json()["items"]
    table = _table(each_api, submission_id)
    for row, item in zip(table.to_pylist(), page, strict=True):
        row["id"] = row.pop("item_id")
        row["classified_at"] = row["classified_at"] and row["classified_at"].isoformat().replace("+00:00", "Z")
        assert row == item
    assert table.schema.field("classified_at").type == pa.timestamp("us", tz="UTC")
    assert pa.types.is_dictionary(table.schema.field("decision").type)
    said = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert (said["notice"], said["submission"]) == (NOTICE, submission_id)
    content = each_api.http.get(f"/v1/submissions/{submission_id}/results.parquet").content
    assert pq.ParquetFile(io.BytesIO(content)).metadata.metadata[b"models"] == b"resnet50@1.0.0"
    assert _table(each_api, submission_id, decision="benign").num_rows == 1


def test_parquet_of_nothing_is_a_file(api: Api) -> None:
    """Readers take it: all columns, no row."""
    table = _table(api, add_submission(api.database))
    assert (table.num_rows, "probability" in table.column_names) == (0, True)


def test_many_rows_come_in_groups(api: Api) -> None:
    """Rows are written before all are read: memory does not grow with their number."""
    submission_id = add_submission(api.database)
    add_many_items(api.database, submission_id, 70_000)
    content = api.http.get(f"/v1/submissions/{submission_id}/results.parquet").content
    file = pq.ParquetFile(io.BytesIO(content))
    assert file.metadata.num_rows == 70_000
    assert file.metadata.num_row_groups > 1
    assert file.read(["path"]).column("path")[69_999].as_py() == "00069999.png"


def _item(number: int) -> ItemPublic:
    return ItemPublic(
        id=number, path="a", path_exact="a", size=1, state=ItemState.DONE, decision="benign", probability=0.1,
        reason=None, detail=None, patient=None, slide=None, magnification=None, model_version="m@1.0.0", engine="fake",
        elapsed_ms=1, content_hash="a" * 64, classified_at=datetime(2026, 1, 1, tzinfo=UTC), verdict=None,
    )  # fmt: skip


def test_a_database_that_goes_away_leaves_no_whole_file() -> None:
    """The reader is told, and what was sent so far is refused by every reader of Parquet."""

    def break_off() -> Iterator[Sequence[ItemPublic]]:
        yield [_item(number) for number in range(40_000)]
        raise ConnectionError("gone")

    pieces = []
    with pytest.raises(ConnectionError, match="gone"):
        pieces.extend(write_parquet(break_off(), "a" * 32))
    with pytest.raises(pa.ArrowInvalid):
        pq.read_table(io.BytesIO(b"".join(pieces)))


def test_few_are_written_at_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a process: one more is told to come back, and a turn is free again after each download."""
    monkeypatch.setattr("api.parquet._TURNS", threading.BoundedSemaphore(1))
    submission_id = add_submission(api.database)
    for _ in range(3):
        _table(api, submission_id)
    turn = take_parquet_turn()
    answer = api.http.get(f"/v1/submissions/{submission_id}/results.parquet")
    assert (answer.status_code, answer.json()["reason"]) == (503, "too_busy")
    assert int(answer.headers["Retry-After"]) > 0
    asyncio.run(turn.aclose())
    _table(api, submission_id)


def test_without_pyarrow_the_answer_names_the_extra() -> None:
    """501, and everything else works."""
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import importlib.util; found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'pyarrow' else found(name, *rest)\n"
        "from api.parquet import take_parquet_turn\n"
        "from api.problems import ApiError\n"
        "import api.app\n"
        "try:\n    take_parquet_turn()\n"
        "except ApiError as error:\n    print(error.status, error.reason, error.detail)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.startswith("501 not_installed")
    assert "histobatch[parquet]" in done.stdout
