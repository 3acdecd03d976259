"""`histobatch archives` against a real API; the command that waits is a real process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from sqlmodel import select

from cli.main import main
from core.archive_tables import Archive, Scan
from core.states import ScanState, SubmissionState
from core.tables import Submission, utc_now
from tests.assets.programs import wait_until
from tests.integration.api.server import Api

Runner = Callable[..., tuple[int, str]]


def _start(api: Api, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "archives", *map(str, arguments), "--api", str(api.http.base_url)],
        env=dict(os.environ) | {"COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(autouse=True)
def _quiet_api() -> Iterator[None]:
    """The API logs in the same process, from another thread, and would break into what a command prints."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command of `histobatch archives` in this process; its exit status and what it printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_command(api: Api | None, *arguments: object) -> tuple[int, str]:
        address = ["--api", str(api.http.base_url)] if api else []
        monkeypatch.setattr(sys, "argv", ["histobatch", "archives", *map(str, arguments), *address])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = "".join(capsys.readouterr())
        code = ended.value.code
        return (1, f"{printed}{code}") if isinstance(code, str) else (int(code or 0), printed)

    return run_command


def _stored(api: Api) -> Archive | None:
    with api.database.read() as session:
        return session.exec(select(Archive)).one_or_none()


def _end(api: Api, *, state: ScanState = ScanState.DONE, **counts: object) -> None:
    """End the scan that runs, as a worker does."""
    with api.database.write() as session:
        scan = session.exec(select(Scan).where(Scan.state == ScanState.RUNNING)).one()
        scan.state, scan.finished_at = state, utc_now()
        for name, value in counts.items():
            setattr(scan, name, value)
        submission = session.get_one(Submission, scan.submission_id)
        for following in (SubmissionState.LISTING, SubmissionState.RUNNING, SubmissionState.DONE):
            submission.state = following
            session.flush()
        submission.listed_at = submission.finished_at = utc_now()


def test_an_archive_from_its_making_to_its_end(run: Runner, api: Api, tmp_path: Path) -> None:
    """Defined, shown, changed, listed and removed; the secret that was made is shown once."""
    root = api.settings.roots[0]
    status, text = run(
        api, "add", "north", root, "--schedule", "0 12 * * *", "--window", "22:00-06:00", "--include", "**/*.png",
        "--include", "**/*.tif", "--lane", "bulk", "--settle-s", 60, "--webhook", "https://hospital.example/hook",
    )  # fmt: skip
    assert status == 0, text
    stored = _stored(api)
    assert (stored.include, stored.lane, stored.settle_s) == (["**/*.png", "**/*.tif"], "bulk", 60)
    assert stored.webhook_secret in text
    assert "never fires inside its window" in text

    status, text = run(api, "set", "north", "--window", "", "--include", "", "--webhook", "", "--disable")
    assert status == 0, text
    changed = _stored(api)
    assert (changed.window_start, changed.include, changed.webhook_url, changed.enabled) == (None, [], None, False)
    assert changed.schedule == "0 12 * * *"
    assert stored.webhook_secret not in text

    status, text = run(api, "list")
    assert status == 0
    assert "north" in text
    assert "off" in text
    status, text = run(api, "show", "north")
    assert status == 0
    assert str(root) in text

    assert run(api, "remove", "north", "--yes") == (0, "")
    assert _stored(api) is None


def test_a_secret_comes_from_a_file(run: Runner, api: Api, tmp_path: Path) -> None:
    """Every user of a machine can read a command line."""
    secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
    (tmp_path / "secret").write_text(secret + "\n")
    options = ("--webhook", "https://hospital.example", "--webhook-secret-file", tmp_path / "secret")
    status, text = run(api, "add", "north", api.settings.roots[0], *options)
    assert status == 0
    assert secret not in text
    assert _stored(api).webhook_secret == secret


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "North", "/images"), "a name is"),
        (("add", "north", "/etc"), "HISTOBATCH_ROOTS"),
        (("add", "north", "{root}", "--schedule", "0 0 31 2 *"), "never fires"),
        (("show", "nothing"), "no such archive"),
        (("scan", "nothing"), "no such archive"),
        (("add", "north", "{root}", "--webhook-secret-file", "x"), "--webhook"),
    ],
)
def test_a_refusal_is_one_sentence(run: Runner, api: Api, arguments: tuple[str, ...], says: str) -> None:
    """And status 1 or 2, without a traceback."""
    status, text = run(api, *(argument.replace("{root}", str(api.settings.roots[0])) for argument in arguments))
    assert status in (1, 2)
    assert says in " ".join(text.split())
    assert "Traceback" not in text


def test_a_scan_is_followed_to_its_end(run: Runner, api: Api) -> None:
    """Its id comes first, for other programs; then what it found. One that failed ends the command with status 1."""
    run(api, "add", "north", api.settings.roots[0])
    for state, expected in ((ScanState.DONE, 0), (ScanState.FAILED, 1)):
        process = _start(api, "scan", "north", "--wait", "--accept-missing")
        wait_until(lambda: _runs(api), "the scan")
        _end(api, state=state, new=1234, reason="too_many_missing" if state == ScanState.FAILED else None)
        text, _ = process.communicate(timeout=120)
        assert process.returncode == expected, text
        assert "1,234" in text
    assert "too_many_missing" in text
    status, text = run(api, "scans", "north", "--limit", 1)
    assert status == 0
    assert text.count("1,234") == 1


def _runs(api: Api) -> bool:
    with api.database.read() as session:
        return session.exec(select(Scan).where(Scan.state == ScanState.RUNNING)).first() is not None


def test_a_second_scan_names_the_first(run: Runner, api: Api) -> None:
    """At most one of an archive runs at a time."""
    run(api, "add", "north", api.settings.roots[0])
    status, text = run(api, "scan", "north")
    assert status == 0
    status, refused = run(api, "scan", "north")
    assert status == 1
    assert text.strip() in refused


def test_a_report_is_written(run: Runner, api: Api, tmp_path: Path) -> None:
    """By the name of an archive, of its last scan that ended; or by the id of a scan."""
    run(api, "add", "north", api.settings.roots[0])
    status, text = run(api, "report", "north")
    assert status == 1
    assert "no scan of north has ended" in text
    scan_id = run(api, "scan", "north")[1].strip()
    _end(api)
    for subject in ("north", scan_id):
        status, text = run(api, "report", subject)
        assert status == 0
        assert scan_id in json.dumps(json.loads(text))
    assert run(api, "report", "north", "--format", "html", "--output", tmp_path / "report.html") == (0, "")
    assert (tmp_path / "report.html").read_text().lower().startswith("<!doctype html>")


def test_a_file_is_checked_without_an_api(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is put in place: what is wrong, and what is probably not meant."""
    monkeypatch.setenv("HISTOBATCH_ROOTS", str(tmp_path))
    path = tmp_path / "archives.toml"
    path.write_text(f"[archives.north]\nroot = '{tmp_path}'\nschedule = '0 12 * * *'\nwindow = '22:00-06:00'\n")
    status, text = run(None, "check", path)
    assert status == 0
    assert "1 archives, no faults" in text
    assert "next scan" in text
    assert "never fires inside" in text
    path.write_text("[archives.north]\nroot = '/etc'\nsettle = 3\n")
    status, text = run(None, "check", path)
    assert status == 1
    assert "[archives.north] settle" in text
