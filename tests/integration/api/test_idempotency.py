"""The same request with the same key makes one submission."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlmodel import func, select

from core.tables import Submission
from tests.integration.api.server import Api


def _count(api: Api) -> int:
    with api.database.read() as session:
        return session.exec(select(func.count()).select_from(Submission)).one()


def test_repeated_request_answers_with_the_same_submission(each_api: Api, images_root: Path) -> None:
    """202 the first time, then 200 with the same id, even when the folder is gone by then."""
    folder = images_root / "a"
    folder.mkdir()
    ask = {"json": {"folder": str(folder)}, "headers": {"Idempotency-Key": "k"}}
    first = each_api.http.post("/v1/submissions", **ask)  # type: ignore[arg-type]
    folder.rmdir()
    second = each_api.http.post("/v1/submissions", **ask)  # type: ignore[arg-type]
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["id"] == second.json()["id"]
    assert first.headers["location"] == second.headers["location"]
    assert _count(each_api) == 1


def test_key_of_another_request_is_refused(each_api: Api, images_root: Path) -> None:
    """A key that was used for one folder and lane does not answer for another."""
    headers = {"Idempotency-Key": "k"}
    each_api.http.post("/v1/submissions", json={"folder": str(images_root)}, headers=headers)
    other = each_api.http.post("/v1/submissions", json={"folder": str(images_root), "lane": "urgent"}, headers=headers)
    assert (other.status_code, other.json()["reason"]) == (422, "idempotency_conflict")
    assert _count(each_api) == 1


def test_request_without_a_key_is_always_new(api: Api, images_root: Path) -> None:
    """Handing in a folder twice on purpose works."""
    ids = {api.http.post("/v1/submissions", json={"folder": str(images_root)}).json()["id"] for _ in range(2)}
    assert len(ids) == 2


def test_race_of_the_same_request_makes_one_submission(each_api: Api, images_root: Path) -> None:
    """Sixteen at once with one key: one 202, fifteen 200, one id, one row."""

    def ask(_: int) -> tuple[int, str]:
        answer = each_api.http.post(
            "/v1/submissions", json={"folder": str(images_root)}, headers={"Idempotency-Key": "race"}
        )
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert sorted(status for status, _ in answers) == [200] * 15 + [202]
    assert len({submission_id for _, submission_id in answers}) == 1
    assert _count(each_api) == 1


def test_race_of_uploads_keeps_one_and_leaves_no_files_of_the_others(each_api: Api) -> None:
    """Eight equal uploads with one key: one submission, one folder on disk."""

    def ask(_: int) -> str:
        return str(
            each_api.http.post(
                "/v1/submissions/upload", files={"files": ("a.png", b"x" * 5000)}, headers={"Idempotency-Key": "race"}
            ).json()["id"]
        )

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(ask, range(8)))
    assert len(ids) == 1
    assert [path.name for path in each_api.settings.uploads_dir.iterdir()] == list(ids)


def test_upload_of_other_content_with_the_key_is_refused(api: Api) -> None:
    """The key stands for the very bytes that were sent."""
    headers = {"Idempotency-Key": "k"}
    api.http.post("/v1/submissions/upload", files={"files": ("a.png", b"1")}, headers=headers)
    other = api.http.post("/v1/submissions/upload", files={"files": ("a.png", b"2")}, headers=headers)
    assert (other.status_code, other.json()["reason"]) == (422, "idempotency_conflict")
    assert len(list(api.settings.uploads_dir.iterdir())) == 1


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_key_of_odd_length_is_refused(api: Api, images_root: Path, key: str) -> None:
    """An empty key would make all submissions one."""
    answer = api.http.post("/v1/submissions", json={"folder": str(images_root)}, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["reason"]) == (422, "request_invalid")
