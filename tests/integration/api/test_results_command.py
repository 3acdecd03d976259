"""`histobatch results`: what the API has, in every form, to a file or to the output."""

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from core.bundle import NOTICE
from tests.integration.api.server import Api, add_batch, add_items, add_submission


@pytest.fixture
def submission_id(api: Api) -> str:
    submission_id = add_submission(api.database)
    images = [{"decision": "malignant", "probability": 0.9, "patient": "14-1", "slide": "14-1A"}] * 2
    add_items(api.database, submission_id, [dict(image) for image in images])
    add_batch(api.database, submission_id, images=2, malignant=2)
    return submission_id


def _run(api: Api, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["results", *arguments, "--api", str(api.http.base_url)])


def _write(api: Api, file: Path, *arguments: str) -> bytes:
    """What the command writes to a file; the output has the API's log here, which runs in the same process."""
    done = _run(api, *arguments, "--output", str(file))
    assert done.exit_code == 0, done.output
    return file.read_bytes()


@pytest.mark.parametrize(("what", "lines"), [("images", 2), ("patients", 1), ("slides", 1)])
def test_results_are_csv_by_default(api: Api, submission_id: str, tmp_path: Path, what: str, lines: int) -> None:
    """One line an image, a patient or a slide, with the notice."""
    text = _write(api, tmp_path / "r.csv", submission_id, "--what", what).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["notice"] for row in rows] == [NOTICE] * lines
    assert {row["patient"] for row in rows} == {"14-1"}


def test_results_leave_as_parquet(api: Api, submission_id: str, tmp_path: Path) -> None:
    """A file that readers of Parquet take."""
    _write(api, tmp_path / "r.parquet", submission_id, "--format", "parquet")
    assert pq.read_table(tmp_path / "r.parquet").num_rows == 2


def test_report_leaves_as_a_page_or_as_json(api: Api, submission_id: str, tmp_path: Path) -> None:
    """HTML where nothing else is asked for."""
    page = _write(api, tmp_path / "r.html", submission_id, "--what", "report")
    assert page.startswith(b"<!doctype html>")
    report = json.loads(_write(api, tmp_path / "r.json", submission_id, "--what", "report", "--format", "json"))
    assert report["counts"]["malignant"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--what", "patients", "--format", "parquet"), "patients come as csv"),
        (("--format", "html"), "csv, jsonl, parquet"),
    ],
)
def test_form_that_there_is_not_is_refused(api: Api, arguments: tuple[str, ...], said: str) -> None:
    """The message names the forms that there are."""
    done = _run(api, "0" * 32, *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())
