"""Thumbnails: of the content that was classified or none, made once, by few at a time."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from api.problems import ApiError
from api.thumbnails import Picture, Thumbnails
from core.settings import Settings
from core.states import ItemState
from tests.integration.api.pictures import add_pictures, write_picture
from tests.integration.api.server import Api, add_items, add_submission


def test_thumbnail_is_a_small_jpeg_of_the_image(each_api: Api, images_root: Path) -> None:
    """At most 192 pixels a side, in shape; never taken for anything else; and not sent again to who has it."""
    submission_id, (item_id,) = add_pictures(each_api.database, images_root, 1)
    address = f"/v1/submissions/{submission_id}/items/{item_id}/thumbnail"
    answer = each_api.http.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.size) == ("JPEG", (192, 128))
    assert each_api.http.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_thumbnail_is_made_once(api: Api, images_root: Path) -> None:
    """Then it comes from the cache, although the file is gone."""
    submission_id, (item_id,) = add_pictures(api.database, images_root, 1)
    address = f"/v1/submissions/{submission_id}/items/{item_id}/thumbnail"
    first = api.http.get(address).content
    (images_root / "0.png").unlink()
    assert api.http.get(address).content == first
    assert len(list((api.settings.data_dir / "thumbnails").rglob("*.jpg"))) == 1


def test_another_content_is_not_shown_for_the_one_that_was_classified(api: Api, images_root: Path) -> None:
    """A file that changed or is gone is 410 with a reason."""
    submission_id, ids = add_pictures(api.database, images_root, 3)
    write_picture(images_root / "0.png", 77)
    (images_root / "1.png").unlink()
    (images_root / "2.png").unlink()
    (images_root / "2.png").symlink_to("/etc/passwd")
    answers = [api.http.get(f"/v1/submissions/{submission_id}/items/{item_id}/thumbnail") for item_id in ids]
    assert [(answer.status_code, answer.json()["reason"]) for answer in answers] == [
        (410, "read_failed"),
        (410, "vanished"),
        (410, "outside_root"),
    ]
    assert "another" in answers[0].json()["detail"]


def test_only_images_of_the_submission_have_thumbnails(api: Api, images_root: Path) -> None:
    """Another submission's image, one that was never read, and one that is not there are 404."""
    submission_id, (item_id,) = add_pictures(api.database, images_root, 1)
    other = add_submission(api.database)
    (unread,) = add_items(api.database, other, [{"state": ItemState.FAILED, "reason": "vanished"}], first=9)
    for address in (f"{other}/items/{item_id}", f"{other}/items/{unread}", f"{submission_id}/items/999"):
        answer = api.http.get(f"/v1/submissions/{address}/thumbnail")
        assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")


def test_few_thumbnails_are_made_at_once(
    api_settings: Settings, images_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would have to wait too long is told to come back, and those in the cache are shown all the same."""
    content_hash = write_picture(images_root / "a.png", 1)
    picture = Picture(folder=str(images_root), source="folder", path="a.png", content_hash=content_hash)
    thumbnails = Thumbnails(api_settings)
    monkeypatch.setattr("api.thumbnails._WAIT_S", 0.05)
    held = [thumbnails._turns.acquire() for _ in range(2)]
    assert all(held)
    with pytest.raises(ApiError, match="too many"):
        thumbnails.show(picture)
    waiting = [thumbnails._places.acquire(blocking=False) for _ in range(10)]
    assert all(waiting)
    thumbnails._turns.release()
    with pytest.raises(ApiError, match="too many"):
        thumbnails.show(picture)
    thumbnails._places.release()
    made = thumbnails.show(picture)
    thumbnails._turns.acquire()
    assert thumbnails.show(picture) == made


def test_many_may_ask_for_the_same(api_settings: Settings, images_root: Path) -> None:
    """Several processes and threads that make one picture at once leave one whole file."""
    content_hash = write_picture(images_root / "a.png", 1, (800, 600))
    picture = Picture(folder=str(images_root), source="folder", path="a.png", content_hash=content_hash)
    several = [Thumbnails(api_settings) for _ in range(4)]
    start = threading.Barrier(8)

    def ask(number: int) -> bytes:
        start.wait()
        return several[number % 4].show(picture)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    names = [path.name for path in (api_settings.data_dir / "thumbnails").rglob("*") if path.is_file()]
    assert names == [f"{content_hash}.jpg"]
