"""Ways out of the allowed roots, over HTTP and through real listing and reading: none is ever opened."""

import os
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from blake3 import blake3
from sqlmodel import select

from core.database import Database
from core.errors import ImageRejected, Reason, StorageAway
from core.lanes import Lane
from core.queue import WorkQueue
from core.settings import Settings
from core.states import SubmissionState
from core.storage.local import LocalStorage
from core.storage.reading import hash_content
from core.tables import Item, Result
from tests.assets import images
from tests.assets.programs import Program, wait_until
from tests.assets.rows import add_submission, items_of, submission_of
from tests.integration.api.pictures import add_pictures
from tests.integration.api.server import Api, running
from tests.unit.core.storage.test_containers import pack_tar, pack_zip

# Lies outside every root; its content must never be known to the database.
CANARY = images.plain(seed=4711)
CANARY_HASH = blake3(CANARY).hexdigest()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the allowed root, whose name begins like it, with an image in it."""
    folder = tmp_path / "images-of-others"
    folder.mkdir()
    (folder / "canary.png").write_bytes(CANARY)
    return folder


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    """A running API with remote roots, too."""
    changed = settings.model_copy(update={"remote_roots": ("s3://bucket/allowed", "sftp://host/allowed")})
    database = Database(changed.database)
    database.migrate()
    with running(changed, database) as opened:
        yield opened
    database.close()


def _escapes(root: Path, outside: Path) -> list[str]:
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to(root / "loop")
    (root / "chain").symlink_to(root / "link")
    (root / "case").mkdir()
    above = str(outside.parent)
    return [
        str(outside),
        f"{root}/../{outside.name}",
        f"{root}/./../{outside.name}/.",
        f"{root}/case/../../{outside.name}",
        f"//{outside}",
        f"{root}/link",
        f"{root}/link/.",
        f"{root}/chain",
        f"{root}/loop",
        f"{root}-of-others",
        f"{root}\0/../{outside.name}",
        f"{root}/..\\{outside.name}",
        f"{root}\\..\\{outside.name}",
        f"{root}/%2e%2e/{outside.name}",
        f"{root}/..%2f{outside.name}",
        f"{root}/\uff0e\uff0e/{outside.name}",
        f"{root}/\u2025\uff0f{outside.name}",
        f"{root}/\uf7c0\uf7ae\uf7c0\uf7ae/{outside.name}",
        f"{root}/\u2024\u2024/{outside.name}",
        f"{root}/..\u2215{outside.name}",
        f"{root}/{'a' * 300}/../../{outside.name}",
        f"{root}/\ud800/../../{outside.name}",
        f"{root}/\n/../../{outside.name}",
        f"{above}/IMAGES",
        f"file://{outside}",
        f"FILE://{outside}",
        "C:\\images",
        "\\\\server\\share",
        "~root",
        "$HOME",
        "..",
        ".",
        "/proc/self/cwd",
        "/dev/fd/0",
        "s3://bucket/allowed/../other",
        "s3://bucket/allowed-too",
        "s3://bucket/allowed/./../x",
        "s3://bucket/",
        "s3://other/allowed",
        "S3://bucket/allowed",
        "sftp://host/allowed/../../etc",
        "sftp://user@host/allowed",
        "sftp://host:22/allowed",
        "http://169.254.169.254/latest",
        "gopher://host/allowed",
    ]


def _post(api: Api, address: str, body: dict[str, object]) -> httpx.Response:
    # Half characters are JSON, too, and no Python client sends them by itself.
    import json

    return api.http.post(address, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


def test_no_folder_outside_of_the_roots_can_be_named(api: Api, outside: Path) -> None:
    """For submissions, new archives and changed ones: refused, and nothing is recorded."""
    root = api.settings.roots[0]
    assert _post(api, "/v1/archives", {"name": "mine", "root": str(root)}).status_code == 201
    for folder in _escapes(root, outside):
        answers = [
            _post(api, "/v1/submissions", {"folder": folder}),
            _post(api, "/v1/archives", {"name": "escape", "root": folder}),
            api.http.patch("/v1/archives/mine", json={"root": folder}) if "\ud800" not in folder else None,
        ]
        for answer in answers:
            assert answer is None or answer.status_code in {403, 404, 422}, (folder, answer.text)
            assert answer is None or answer.json()["reason"] in {
                "folder_not_allowed",
                "folder_missing",
                "request_invalid",
            }
    with api.database.read() as session:
        assert submission_count(session) == 0
    assert api.http.get("/v1/archives/mine").json()["root"] == str(root)


def submission_count(session: object) -> int:
    """How many submissions there are."""
    from sqlmodel import Session, func

    from core.tables import Submission

    assert isinstance(session, Session)
    return session.exec(select(func.count()).select_from(Submission)).one()


def test_two_spellings_of_a_name_are_two_folders(api: Api) -> None:
    """NFC and NFD are other bytes: no check is passed by one spelling while the other is opened."""
    composed, parted = (unicodedata.normalize(form, "Gewebe-\u00fc") for form in ("NFC", "NFD"))
    (api.settings.roots[0] / composed).mkdir()
    assert _post(api, "/v1/submissions", {"folder": f"{api.settings.roots[0]}/{parted}"}).status_code == 404
    assert _post(api, "/v1/submissions", {"folder": f"{api.settings.roots[0]}/{composed}"}).status_code == 202


@pytest.mark.parametrize(
    "change",
    [
        {"include": ["../**"]},
        {"exclude": ["/etc/*"]},
        {"include": ["a/../../**"]},
        {"include": ["a\0"]},
        {"manifest": "../manifest.csv"},
        {"manifest": "/etc/passwd"},
        {"manifest": "a/../../b.csv"},
        {"manifest": "a\0.csv"},
    ],
)
def test_patterns_and_manifests_lie_below_the_root(api: Api, change: dict[str, object]) -> None:
    """Neither leads out of an archive."""
    body = {"name": "mine", "root": str(api.settings.roots[0])}
    assert _post(api, "/v1/archives", body | change).status_code == 422
    assert _post(api, "/v1/archives", body).status_code == 201
    assert api.http.patch("/v1/archives/mine", json=change).status_code == 422


def test_names_of_an_upload_stay_below_its_folder(api: Api, outside: Path, images_root: Path) -> None:
    """Whatever a form or a zip calls a file, what is written lies below the upload's folder, and nothing else is."""
    names = [
        "../../escape.png",
        "/etc/escape.png",
        "..\\..\\escape.png",
        "C:\\escape.png",
        "a\0b.png",
        ".." + "/.." * 40,
    ]
    names += ["\uff0e\uff0e/escape.png", "x" * 5000 + ".png", "a\nb.png", "con", "\u202egnp.png", "%2e%2e/escape.png"]
    before = _tree(api.settings.data_dir.parent, but=api.settings.uploads_dir)
    forms = [
        api.http.post("/v1/submissions/upload", files=[("files", (name, images.plain(number)))]).status_code
        for number, name in enumerate(names)
    ]
    packed = pack_zip(images_root.parent / "up.zip", {name: images.plain() for name in names if "\0" not in name})
    before.add(packed)
    body = api.http.post(
        "/v1/submissions/upload", content=packed.read_bytes(), headers={"Content-Type": "application/zip"}
    )
    assert set(forms) == {202, 422}
    # A head of 5000 bytes is no form.
    assert forms.count(422) == 1
    assert body.status_code in {202, 422}
    assert {
        path
        for path in _tree(api.settings.data_dir.parent, but=api.settings.uploads_dir)
        if "histobatch.db" not in path.name
    } == {path for path in before if "histobatch.db" not in path.name}
    for file in api.settings.uploads_dir.rglob("*"):
        assert file.resolve().is_relative_to(api.settings.uploads_dir)
        assert not file.is_symlink()


def _tree(folder: Path, but: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_relative_to(but)}


def test_no_page_shows_a_file_that_was_replaced_by_a_way_out(api: Api, outside: Path, images_root: Path) -> None:
    """Thumbnails and reports open files when they are asked for: a link that came since is not followed."""
    submission_id, (item_id,) = add_pictures(api.database, images_root / "a", 1)
    (images_root / "a").rename(images_root / "kept")
    (images_root / "a").symlink_to(outside)
    (outside / "0.png").write_bytes((images_root / "kept" / "0.png").read_bytes())
    # The same content, so that only the place can be why it is refused.
    answer = api.http.get(f"/v1/submissions/{submission_id}/items/{item_id}/thumbnail")
    assert (answer.status_code, answer.json()["reason"]) == (410, "outside_root")
    report = api.http.get(f"/v1/submissions/{submission_id}/report.html")
    assert report.status_code == 200
    assert "data:image/jpeg" not in report.text


def test_a_folder_that_is_swapped_while_it_is_read_leads_nowhere(images_root: Path, outside: Path) -> None:
    """Between resolving a path and opening it, a folder on it may become a link: thousands of tries, no byte of it."""
    (images_root / "case").mkdir()
    (images_root / "case" / "canary.png").write_bytes(b"mine")
    (images_root / "other").touch()
    (outside / "name-of-a-patient.png").touch()
    storage, stop = LocalStorage(os.fsencode(images_root), (images_root,)), threading.Event()
    swapping = threading.Thread(target=_swap, args=(images_root, outside, stop), daemon=True)
    swapping.start()
    seen: Counter[str] = Counter()
    try:
        while seen["tries"] < 3000 or not (seen["read"] and seen[Reason.OUTSIDE_ROOT]):
            seen["tries"] += 1
            try:
                assert hash_content(storage, "case/canary.png", 10_000).content_hash == blake3(b"mine").hexdigest()
                seen["read"] += 1
            except ImageRejected as rejected:
                seen[rejected.reason] += 1
            except StorageAway:
                seen["away"] += 1
            assert "name-of-a-patient" not in str([*storage.list_folder("case")])
    finally:
        stop.set()
        swapping.join()


def _swap(root: Path, outside: Path, stop: threading.Event) -> None:
    while not stop.is_set():
        (root / "case").rename(root / "kept")
        (root / "case").symlink_to(outside)
        (root / "case").unlink()
        (root / "kept").rename(root / "case")


@pytest.fixture
def worker(tmp_path: Path, settings: Settings) -> Iterator[Callable[[], Program]]:
    """Start a real worker."""
    started: list[Program] = []

    def start() -> Program:
        started.append(Program("worker", settings, tmp_path / "worker.log"))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_a_real_worker_opens_nothing_outside(
    settings: Settings, images_root: Path, outside: Path, worker: Callable[[], Program]
) -> None:
    """A folder full of ways out: each is an outcome with a reason, and the canary's content is known to no table."""
    case = images_root / "case"
    case.mkdir()
    (case / "mine.png").write_bytes(images.plain())
    (case / "link.png").symlink_to(outside / "canary.png")
    (case / "relative.png").symlink_to(f"../../{outside.name}/canary.png")
    (case / "folder").symlink_to(outside)
    (case / "up").symlink_to("..")
    (case / "loop.png").symlink_to("loop.png")
    (case / "proc.png").symlink_to("/proc/self/environ")
    (case / "packed.zip").symlink_to(outside / "packed.zip")
    pack_zip(outside / "packed.zip", {"canary.png": CANARY})
    pack_zip(case / "in.zip", {f"../../{outside.name}/canary.png": images.plain(1), str(outside / "canary.png"): b"x"})
    pack_tar(case / "in.tar", {f"../../../{outside.name}/canary.png": images.plain(2)})
    (case / "a\nb.png").symlink_to(outside / "canary.png")
    (case / "manifest.csv").write_text(f"path,patient\n../../{outside.name}/canary.png,P1\n")
    database, queue = Database(settings.database), WorkQueue(settings)
    database.migrate()
    with database.write() as session:
        mine = add_submission(session, case, state=SubmissionState.ACCEPTED, lane=Lane.BULK)
        away = add_submission(session, outside, state=SubmissionState.ACCEPTED, lane=Lane.BULK)
    for submission_id in (mine, away):
        queue.send_intake(submission_id)
    worker()
    ended = {SubmissionState.DONE, SubmissionState.FAILED}
    wait_until(lambda: {submission_of(database, one).state for one in (mine, away)} <= ended, "both have ended")
    items = items_of(database, mine)
    assert {path for path, item in items.items() if item.state == "done"} == {"mine.png"}
    assert items["link.png"].reason == items["relative.png"].reason == items["proc.png"].reason == "outside_root"
    assert items["packed.zip"].reason == items["a\nb.png"].reason == "outside_root"
    assert items["folder"].reason == items["up"].reason == "folder_link"
    assert submission_of(database, away).reason == "folder_not_allowed"
    with database.read() as session:
        hashes = {*session.exec(select(Item.content_hash)), *session.exec(select(Result.content_hash))}
    assert CANARY_HASH not in hashes
    assert len(hashes - {None}) == 1
    queue.close()
    database.close()
