"""A database full of generated results, made by the database itself: a million rows take seconds."""

from datetime import datetime, timedelta

from sqlalchemy import bindparam, insert, text
from sqlmodel import Session

from core.archive_tables import Archive, Scan
from core.database import Database
from core.lanes import Lane
from core.states import BatchState, ScanState, SubmissionState
from core.tables import Batch, Submission, UtcDateTime, utc_now

_BATCH = 256
_SMALL = 100
_IMAGES_A_PATIENT = 300
# Rows 1 to n, in every database.
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :amount)"
_HASH = "substr(:zeros || CAST(i AS TEXT), length(CAST(i AS TEXT)) + 1)"
_IS_BAD = "i % 100 = 0"
_PROBABILITY = "(i % 1000 * 7919 % 1000) / 1000.0"
_DECISION = (
    f"CASE WHEN {_PROBABILITY} < 0.45 THEN 'benign' WHEN {_PROBABILITY} > 0.55 THEN 'malignant' ELSE 'uncertain' END"
)
_RESULTS = f"""
INSERT INTO result (content_hash, model_version, probability, decision, engine, elapsed_ms, created_at)
{_NUMBERS} SELECT {_HASH}, 'resnet50@0.2.0', {_PROBABILITY}, {_DECISION}, 'openvino-int8', 7.5, :now FROM n
"""
_ITEMS = f"""
INSERT INTO item (submission_id, batch_id, path, size, mtime_ns, state, reason, decision, content_hash, result_id,
    patient, slide, magnification)
{_NUMBERS} SELECT :submission_id, :first_batch + (i - 1) / {_BATCH},
    'case-' || CAST(i / 300 AS TEXT) || '/SOB_M_DC-14-' || CAST(i AS TEXT) || '-400-001.png', 480000,
    1700000000000000000 + i, CASE WHEN {_IS_BAD} THEN 'failed' ELSE 'done' END,
    CASE WHEN {_IS_BAD} THEN 'corrupt' END, CASE WHEN NOT {_IS_BAD} THEN {_DECISION} END, {_HASH},
    CASE WHEN NOT {_IS_BAD} THEN :first_result + i - 1 END, '14-' || CAST(i / {_IMAGES_A_PATIENT} AS TEXT),
    '14-' || CAST(i / 60 AS TEXT), '400' FROM n
"""


_REVIEWS = f"""
INSERT INTO review (at, result_id, item_id, submission_id, reviewer, said, verdict, note)
{_NUMBERS} SELECT :now, :last - i, 1, 'none', 'benchmark', 'malignant', 'benign', '' FROM n
"""
_REVIEWED = 5000
ARCHIVE = "benchmark"


def fill(database: Database, results: int, small: int) -> str:
    """Record one ended submission with so many results, and many of 100 images that share the first ones.

    The large one is the last but one scan of an archive, and the newest few thousand results were reviewed.

    Returns the large one's id.
    """
    with database.write() as session:
        _run(session, _RESULTS, amount=results, zeros="0" * 64)
        large = _add(session, results)
        for _ in range(small):
            _add(session, _SMALL)
        _add_scans(session, large)
        _run(session, _REVIEWS, amount=_REVIEWED, last=_run_scalar(session, "SELECT max(id) FROM result"))
    with database.engine.connect() as connection:
        # As autovacuum does by itself after a while; SQLite is used without.
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
    return large


def _add(session: Session, images: int) -> str:
    now = utc_now()
    submission = Submission(
        lane=Lane.BULK,
        source="folder",
        folder="/images/archive",
        submitter="benchmark",
        state=SubmissionState.DONE,
        created_at=now - timedelta(hours=3),
        listed_at=now,
        finished_at=now,
    )
    session.add(submission)
    session.flush()
    first_batch = 1 + int(session.execute(text("SELECT coalesce(max(id), 0) FROM batch")).scalar_one())
    first_result = int(session.execute(text("SELECT min(id) FROM result")).scalar_one())
    session.execute(insert(Batch), [_batch(submission.id, now) for _ in range(-(-images // _BATCH))])
    _run(
        session,
        _ITEMS,
        amount=images,
        zeros="0" * 64,
        submission_id=submission.id,
        first_batch=first_batch,
        first_result=first_result,
    )
    return submission.id


def _add_scans(session: Session, large: str) -> None:
    archive = Archive(name=ARCHIVE, root="/images/archive", schedule="0 22 * * *")
    session.add(archive)
    session.flush()
    for submission_id in (large, _add(session, _SMALL)):
        session.add(Scan(archive_id=archive.id, submission_id=submission_id, asked_by="schedule", state=ScanState.DONE))
    session.flush()


def _run_scalar(session: Session, statement: str) -> int:
    return int(session.execute(text(statement)).scalar_one())


def _batch(submission_id: str, now: datetime) -> dict[str, object]:
    outcomes = {"benign": 114, "malignant": 115, "uncertain": 24, "failed": 3}
    stages = {"read_ms": 9.5, "decode_ms": 300.5, "infer_ms": 900.5, "write_ms": 20.5, "wall_ms": 2000.5}
    moments = dict.fromkeys(("created_at", "sent_at", "started_at", "finished_at"), now)
    return {
        "submission_id": submission_id,
        "lane": Lane.BULK,
        "state": BatchState.DONE,
        "images": _BATCH,
        "attempts": 1,
        "worker": "worker@a",
        "engine": "openvino-int8",
        **outcomes,
        **stages,
        **moments,
    }


def _run(session: Session, statement: str, **values: object) -> None:
    bound = text(statement)
    if ":now" in statement:
        bound = bound.bindparams(bindparam("now", utc_now(), type_=UtcDateTime))
    session.execute(bound, values)
