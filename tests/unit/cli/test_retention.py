"""`histobatch retention` takes what is too old, and asks before."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlmodel import select

from core.database import Database
from core.tables import Audit, Submission
from tests.unit.core.test_retention import OLD, add_submission


@pytest.fixture
def run(command: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str]]:
    """Run `histobatch retention`; its exit status and all that it printed."""

    def run_command(*arguments: object, answer: str = "") -> tuple[int, str]:
        status, output, said = command("retention", *arguments, answer=answer)
        return status, output + said

    return run_command


def left(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.exec(select(Submission.id)))


def test_old_submissions_are_deleted(run, database: Database) -> None:
    """It says first how many, then what was done; young ones stay."""
    add_submission(database)
    young = add_submission(database, age=OLD / 2)
    status, text = run("delete", "--older-than", "12w", "--yes")
    assert status == 0, text
    assert "1 submissions with 5 images" in text
    assert "5 results" in text
    assert left(database) == [young]


@pytest.mark.parametrize(
    ("options", "answer", "status"), [(["--dry-run"], "", 0), ([], "n\n", 1), ([], "", 1)], ids=["dry", "no", "closed"]
)
def test_nothing_is_done_unasked(run, database: Database, options: list[str], answer: str, status: int) -> None:
    """There is no way back."""
    mine = add_submission(database)
    assert run("delete", "--older-than", "90d", *options, answer=answer)[0] == status
    assert left(database) == [mine]


def test_one_upload_goes_with_its_files(run, database: Database, tmp_path: Path) -> None:
    """However young it is; whoever did it is noted."""
    mine = add_submission(database, age=OLD / 1000, source="upload")
    folder = tmp_path / "data" / "uploads" / mine
    folder.mkdir(parents=True)
    status, text = run("anonymise", "--submission", mine, answer="y\n")
    assert status == 0, text
    assert not folder.exists()
    with database.read() as session:
        assert session.get_one(Submission, mine).anonymised_at is not None
        assert all(row.who for row in session.exec(select(Audit)))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["delete"], "either"),
        (["delete", "--older-than", "1d", "--submission", "x"], "either"),
        (["delete", "--older-than", "0d"], "no age"),
        (["anonymise", "--older-than", "soon"], "no age"),
        (["delete", "--submission", "nothing", "--yes"], "has ended"),
    ],
)
def test_what_is_not_clear_is_refused(run, database: Database, arguments: list[str], says: str) -> None:
    """Nothing is deleted by a guess."""
    mine = add_submission(database)
    status, text = run(*arguments)
    assert status in (1, 2)
    assert says in " ".join(text.split())
    assert left(database) == [mine]
