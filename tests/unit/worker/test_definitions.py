"""The reconciler keeps the archives as the file of archives says."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlmodel import select
from structlog.testing import capture_logs

from core.archive_definitions import ArchiveDefinition
from core.archive_tables import Archive, Scan
from core.scans import BY_SCHEDULE, begin_scan
from core.tables import utc_now
from worker.context import WorkerContext
from worker.definitions import read_definitions
from worker.scanning.patterns import compile_patterns
from worker.schedules import begin_due_scans, keep_windows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "archives.toml"


@pytest.fixture
def mine(context: WorkerContext, file: Path) -> WorkerContext:
    """A worker whose settings name the file."""
    return replace(context, settings=context.settings.model_copy(update={"archives_file": file}))


def schedules(context: WorkerContext) -> dict[str, str | None]:
    with context.database.read() as session:
        return {archive.name: archive.schedule for archive in session.exec(select(Archive))}


def define(file: Path, context: WorkerContext, schedule: str) -> None:
    file.write_text(f"[archives.north]\nroot = '{context.settings.roots[0]}'\nschedule = '{schedule}'\n")


def test_a_changed_file_counts_at_the_next_look(mine: WorkerContext, file: Path) -> None:
    """Without a restart, and whatever its time says."""
    define(file, mine, "0 22 * * *")
    read_definitions(mine)
    assert schedules(mine) == {"north": "0 22 * * *"}
    define(file, mine, "0 23 * * *")
    read_definitions(mine)
    assert schedules(mine) == {"north": "0 23 * * *"}


def test_a_file_with_a_fault_changes_nothing(mine: WorkerContext, file: Path) -> None:
    """Half a file, or none, must not switch archives off; the log says that something is wrong, and no folder."""
    define(file, mine, "0 22 * * *")
    read_definitions(mine)
    for spoil in (lambda: define(file, mine, "0 0 31 2 *"), lambda: file.write_text("[archives"), file.unlink):
        spoil()
        with capture_logs() as logged:
            read_definitions(mine)
        assert schedules(mine) == {"north": "0 22 * * *"}
        assert [entry["event"] for entry in logged] == ["archive_file_refused"]
        assert str(mine.settings.roots[0]) not in str(logged)


def test_without_the_setting_the_api_alone_defines(context: WorkerContext) -> None:
    """Nothing is read, and nothing is switched off."""
    with context.database.write() as session:
        session.add(Archive(name="south", root="/images", schedule="0 1 * * *", defined_by="file"))
    read_definitions(context)
    with context.database.read() as session:
        assert session.exec(select(Archive)).one().enabled


def test_a_definition_that_became_wrong_holds_up_nobody(context: WorkerContext) -> None:
    """A time zone may be abolished: that archive is not scanned, the log says so, and the others are."""
    due = utc_now() - timedelta(seconds=1)
    times = {"schedule": "0 22 * * *", "window_start": "22:00", "window_stop": "06:00", "next_at": due}
    with context.database.write() as session:
        wrong = Archive(name="a-wrong", root="/images", time_zone="Mars/Olympus", **times)
        sound = Archive(name="b-sound", root="/images", time_zone="UTC", **times)
        session.add_all([wrong, sound])
        session.flush()
        begin_scan(session, wrong, BY_SCHEDULE)
    with capture_logs() as logged:
        begin_due_scans(context)
        keep_windows(context)
    with context.database.read() as session:
        assert sound.id in session.exec(select(Scan.archive_id)).all()
    events = {entry["event"] for entry in logged if entry["log_level"] == "error"}
    assert events == {"archive_schedule_invalid", "archive_window_invalid"}


@given(st.text(alphabet="ab/*?[]!-\\^|.(){}", min_size=1, max_size=20))
def test_every_pattern_that_may_be_stored_can_be_used(glob: str) -> None:
    """Otherwise a night would find out."""
    try:
        definition = ArchiveDefinition(name="a", root="/images", include=(glob,), exclude=(glob,))
    except ValidationError:
        return
    patterns = compile_patterns(definition.include, definition.exclude)
    assert not patterns.takes("a/b.png")
    patterns.enters("a")
