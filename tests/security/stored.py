"""A database that holds something of everything that the API can be asked for."""

from dataclasses import dataclass
from pathlib import Path

from core.archive_definitions import ArchiveDefinition
from core.archives import create_archive
from core.database import Database
from core.scans import begin_scan
from core.states import ItemState, ScanState, SubmissionState
from core.tables import Submission, utc_now
from tests.integration.api.pictures import add_pictures
from tests.integration.api.server import add_batch, add_items, add_parked, add_submission

# Names as an attacker would give them to files: markup, formulas, control characters, odd bytes, another direction.
HOSTILE_NAMES = (
    "<script>alert(1)</script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "=HYPERLINK(A1).png",
    "a\r\nSet-Cookie: x=1.png",
    "\u202egnp.exe",
    "\uf780\uf7ff.png",
    "{{7*7}}.png",
)


@dataclass(frozen=True)
class Stored:
    """What is there to be asked for.

    Attributes:
        pictured: id of a submission whose images are files; items: theirs.
        ended: ids of submissions that have ended.
        contents, models: what results are stored of.
    """

    pictured: str
    submissions: list[str]
    ended: list[str]
    items: list[int]
    archives: list[str]
    scans: list[str]
    contents: list[str]
    models: list[str]


def fill(database: Database, root: Path) -> Stored:
    """Store submissions in every state, images with every outcome, an archive with a scan that ended and one that runs.

    Args:
        root: an allowed root; pictures are written below it.
    """
    pictured, items = add_pictures(database, root / "pictures", 3, patient="14-1", slide="14-1A", magnification="40")
    add_batch(database, pictured, images=3, malignant=3)
    done = _add_outcomes(database, root)
    open_ones = [add_parked(database), add_submission(database, state=SubmissionState.ACCEPTED)]
    failed = add_submission(
        database, state=SubmissionState.FAILED, reason="folder_missing", detail="gone", finished_at=utc_now()
    )
    scans = _add_scans(database, root)
    return Stored(
        pictured=pictured,
        submissions=[pictured, done, *open_ones, failed],
        ended=[done, failed],
        items=items,
        archives=["north", "south"],
        scans=scans,
        contents=[f"{1000:064x}"],
        models=["resnet50@1.0.0"],
    )


def _add_outcomes(database: Database, root: Path) -> str:
    submission_id = add_submission(
        database, folder=str(root), submitter="<b>lab</b>", state=SubmissionState.DONE, finished_at=utc_now()
    )
    images: list[dict[str, object]] = [
        {"path": name, "decision": decision, "probability": probability, "patient": "=1+1", "slide": "<i>"}
        for name, (decision, probability) in zip(
            HOSTILE_NAMES, [("benign", 0.1), ("malignant", 0.9), ("uncertain", 0.5)] * 3, strict=False
        )
    ]
    images += [
        {"path": "failed.png", "state": ItemState.FAILED, "reason": "corrupt", "detail": "cannot be decoded"},
        {"path": "notes.txt", "state": ItemState.SKIPPED, "reason": "sidecar_file"},
    ]
    add_items(database, submission_id, images, first=1000)
    batch = {"images": 9, "benign": 3, "malignant": 2, "uncertain": 2, "failed": 1, "skipped": 1}
    add_batch(database, submission_id, **batch)
    return submission_id


def _add_scans(database: Database, root: Path) -> list[str]:
    ids = []
    for name in ("north", "south"):
        with database.write() as session:
            hook = {"url": "https://hook.example/x", "secret": "whsec_" + "QUJD" * 12}
            definition = ArchiveDefinition(name=name, root=str(root / "pictures"), webhook=hook)
            archive = create_archive(session, definition, "tests")
            scan = begin_scan(session, archive, "tests")
            if name == "north":
                scan.state, scan.finished_at, scan.seen = ScanState.DONE, utc_now(), 3
                submission = session.get_one(Submission, scan.submission_id)
                for state in (SubmissionState.LISTING, SubmissionState.RUNNING, SubmissionState.DONE):
                    submission.state = state
                    session.flush()
                submission.listed_at = submission.finished_at = utc_now()
            ids.append(scan.id)
    return ids
