"""The API deletes uploaded files and thumbnails that retention took: often nobody else may write there."""

import os
import time
from pathlib import Path

from core.database import Database
from core.forgotten_pictures import delete_forgotten_pictures
from core.settings import Settings
from core.tables import utc_now
from core.thumbnails import ThumbnailCache
from core.uploads import delete_forgotten_uploads, delete_upload
from tests.assets.programs import wait_until
from tests.integration.api.server import add_items, add_submission, running


def _upload(settings: Settings, submission_id: str, age_s: float = 0) -> Path:
    folder = settings.uploads_dir / submission_id
    folder.mkdir(parents=True)
    (folder / "Smith.png").write_bytes(b"image")
    os.utime(folder, (time.time() - age_s,) * 2)
    return folder


def test_files_go_with_their_submission_or_its_names(api_settings: Settings, sqlite: Database) -> None:
    """A new folder may belong to a submission that is being recorded at this moment, so it stays for a day."""
    gone = _upload(api_settings, "0" * 32, age_s=2 * 86400)
    young = _upload(api_settings, "1" * 32)
    kept = _upload(api_settings, add_submission(sqlite, source="upload"), age_s=2 * 86400)
    nameless = _upload(api_settings, add_submission(sqlite, source="upload", anonymised_at=utc_now()))
    other = _upload(api_settings, "incoming-of-someone", age_s=2 * 86400)
    assert delete_forgotten_uploads(sqlite, api_settings.uploads_dir) == 2
    assert [folder.exists() for folder in (gone, young, kept, nameless, other)] == [False, True, True, False, True]


def test_the_api_looks_when_it_starts(api_settings: Settings, sqlite: Database) -> None:
    """And then every hour."""
    nameless = _upload(api_settings, add_submission(sqlite, source="upload", anonymised_at=utc_now()))
    with running(api_settings, sqlite):
        wait_until(lambda: not nameless.exists(), "the upload's end")


def test_thumbnails_go_with_the_results(api_settings: Settings, sqlite: Database) -> None:
    """A picture whose content nobody knows any more is nobody's; other files of the folder are left."""
    mine = add_submission(sqlite)
    add_items(sqlite, mine, [{"probability": 0.9, "decision": "malignant"}])
    folder = api_settings.data_dir / "thumbnails"
    cache = ThumbnailCache(folder, 2**20)
    known, unknown = (f"{number:064x}" for number in (0, 1))
    for content_hash in (known, unknown):
        cache.put(content_hash, b"jpeg")
    (folder / "v1" / "00" / "notes.jpg").write_bytes(b"")
    assert delete_forgotten_pictures(sqlite, folder) == 1
    assert (cache.get(known), cache.get(unknown)) == (b"jpeg", None)
    assert (folder / "v1" / "00" / "notes.jpg").exists()


def test_one_upload_is_deleted_by_its_id(api_settings: Settings) -> None:
    """And nothing else, whatever comes as an id."""
    mine, other = (_upload(api_settings, digit * 32) for digit in "01")
    for name in ("0" * 32, "..", "", "nothing"):
        delete_upload(api_settings.uploads_dir, name)
    assert (mine.exists(), other.exists()) == (False, True)
