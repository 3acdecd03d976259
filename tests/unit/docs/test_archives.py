"""docs/archives.md can be followed to the letter."""

import json
import re
from pathlib import Path

import pytest

from api.archive_schemas import ScanPublic
from cli.archives import app as archives
from cli.retention import app as retention
from core.archive_definitions import ArchiveDefinition
from core.archive_file import read_archive_file
from core.archive_tables import Archive, Scan
from core.database import Database
from core.settings import PROJECT, Settings
from core.tables import Submission, utc_now
from core.webhooks import Message, tell

TEXT = (PROJECT / "docs" / "archives.md").read_text()


def _examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def _first_cells(heading: str) -> list[str]:
    section = TEXT.split(f"{heading}\n")[1].split("\n#")[0]
    return re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)[1:]


@pytest.mark.parametrize("example", _examples("toml"))
def test_every_file_in_it_is_valid(example: str, tmp_path: Path) -> None:
    """Who copies an example gets archives, not faults."""
    path = tmp_path / "archives.toml"
    path.write_text(example)
    assert read_archive_file(path, Settings(roots=(Path("/images"),)))


def test_every_field_is_explained() -> None:
    """And none that there is not."""
    named = [name for cell in _first_cells("### Fields") for name in re.findall(r"\w+", cell)]
    assert sorted(named) == sorted(ArchiveDefinition.model_fields)


def test_every_count_is_explained() -> None:
    """Whoever reads a report finds what each number counts."""
    named = [name for cell in _first_cells("## What a scan counts") for name in re.findall(r"\w+", cell)]
    assert sorted(named) == sorted(name for name, field in ScanPublic.model_fields.items() if field.annotation is int)


def test_every_command_exists() -> None:
    """With its options, as far as they are named."""
    programs = {"archives": archives, "retention": retention}
    named = re.findall(r"histobatch (archives|retention) (\w+)((?: [^`\n]*)?)", TEXT)
    assert len(named) > 8
    for group, command, rest in named:
        (found,) = (
            each
            for each in programs[group].registered_commands
            if (each.name or each.callback.__name__.strip("_")) == command
        )
        options = {part for part in rest.split() if part.startswith("--")}
        known = {name.replace("_", "-") for name in found.callback.__annotations__}
        assert {name for name in options if name[2:] not in known} <= {"--format", "--disable"}


def test_what_a_webhook_is_sent_looks_as_shown(sqlite_url: str) -> None:
    """The same fields, at the same places."""
    (shown,) = (json.loads(example) for example in _examples("json"))
    database = Database(sqlite_url)
    archive = Archive(name="pathology-north", root="/images/north")
    submission = Submission(source="archive", folder="/images/north")
    scan = Scan(archive_id=archive.id, submission_id=submission.id, asked_by="schedule", state="done")
    with database.read() as session:
        sent = json.loads(json.dumps(tell(session, scan, archive, "https://histobatch.hospital.example")))
    assert _shape(sent) == _shape(shown)


def _shape(value: object) -> object:
    return {name: _shape(inner) for name, inner in value.items()} if isinstance(value, dict) else None


def test_the_check_of_the_signature_works() -> None:
    """It takes what we sign, and nothing that was altered, or is old."""
    names: dict = {}
    exec(_examples("python")[0], names)
    (secret,) = re.findall(r'secret = "(whsec_\S+)"', TEXT)
    message = Message(id="d1", scan_id="s1", attempt=1, url="http://h", secret=secret, body=b'{"type": "scan.done"}')
    headers = message.headers(utc_now())
    assert names["is_genuine"](headers, message.body, secret)
    assert not names["is_genuine"](headers, message.body + b" ", secret)
    assert not names["is_genuine"](headers | {"webhook-id": "d2"}, message.body, secret)
    old = message.headers(utc_now().replace(year=2020))
    assert not names["is_genuine"](old, message.body, secret)
