"""Each fault of a definition is refused in one clear sentence, before anything is stored."""

import base64

import pytest
from pydantic import ValidationError

from core.archive_definitions import ArchiveDefinition, definition_of, describe_faults, find_doubts
from core.archive_tables import Archive
from core.definition_rules import secret_key

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
FULL = {
    "name": "pathology-north",
    "root": "/images/north",
    "include": ["**/*.png"],
    "exclude": ["test/**"],
    "schedule": "0 22 * * MON-FRI",
    "time_zone": "Europe/Berlin",
    "window": "22:00-06:00",
    "lane": "bulk",
    "model": "resnet50@1.2.0",
    "name_pattern": "none",
    "manifest": "",
    "settle_s": 60,
    "webhook": {"url": "https://hospital.example/hooks", "secret": SECRET},
    "enabled": False,
}


def test_a_definition_survives_its_row() -> None:
    """What is read back is what was stored."""
    definition = ArchiveDefinition.model_validate(FULL)
    assert ArchiveDefinition.model_validate(definition_of(Archive(**definition.columns()))) == definition


def test_a_name_and_a_root_are_enough() -> None:
    """Without a schedule people start its scans; without a window they always run; the newest model serves."""
    columns = ArchiveDefinition(name="a", root="/images").columns()
    for name in ("schedule", "window_start", "window_stop", "model", "webhook_url", "webhook_secret"):
        assert columns[name] is None
    assert columns["lane"] == "nightly"
    assert columns["enabled"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "", "a name is"),
        ("name", "North", "a name is"),
        ("name", "-north", "a name is"),
        ("name", "a/b", "a name is"),
        ("name", "n" * 64, "a name is"),
        ("name", "0123456789abcdef" * 2, "no id"),
        ("root", "images", "absolute path"),
        ("root", "/im\0ages", "absolute path"),
        ("include", ["/images/*.png"], "below the root"),
        ("include", ["../*.png"], "below the root"),
        ("exclude", ["[ab*.png"], "never closes"),
        ("exclude", ["[!].png"], "hold nothing"),
        ("exclude", ["**/[z-a].png"], "ends before it begins"),
        ("include", ["**/a" * 5], "too long"),
        ("include", [""], "include.0"),
        ("schedule", "every night", "five fields"),
        ("schedule", "0 25 * * *", "hour"),
        ("schedule", "0 0 31 2 *", "never fires"),
        ("time_zone", "Berlin", "no time zone"),
        ("window", "22-6", "two times of day"),
        ("window", "22:00-24:00", "two times of day"),
        ("window", "22:00-22:00", "no length"),
        ("lane", "slow", "lane"),
        ("model", "resnet50", "name@version"),
        ("name_pattern", "(?P<patient", "name_pattern"),
        ("name_pattern", "[a-z]+", "name_pattern"),
        ("name_pattern", "(?P<patient>\0)", "must be text"),
        ("manifest", "/etc/passwd", "below the root"),
        ("manifest", "../m.csv", "below the root"),
        ("settle_s", -1, "settle_s"),
        ("settle_s", float("nan"), "settle_s"),
        ("settle_s", 1e9, "settle_s"),
        ("webhook", {"url": "ftp://hospital.example"}, "http"),
        ("webhook", {"url": "https://"}, "http"),
        ("webhook", {"url": "https://host:port/"}, "http"),
        ("webhook", {"url": "https://user:word@hospital.example"}, "without user"),
        ("webhook", {"url": "https://hospital.example", "secret": "hunter2"}, "whsec_"),
        ("webhook", {"url": "https://hospital.example", "secret": "whsec_aHVudGVyMg=="}, "24 to 64"),
        ("scedule", "0 22 * * *", "scedule"),
    ],
)
def test_a_fault_is_named_in_one_sentence(field: str, value: object, says: str) -> None:
    """The sentence says what is wrong and what would be right; secrets are not repeated."""
    with pytest.raises(ValidationError) as caught:
        ArchiveDefinition.model_validate(FULL | {field: value})
    (fault,) = describe_faults(caught.value)
    assert says in fault
    assert "hunter2" not in fault + str(caught.value)
    assert "aHVudGVyMg" not in fault + str(caught.value)


def test_all_faults_are_named_at_once() -> None:
    """Three wrong fields are mended in one go."""
    with pytest.raises(ValidationError) as caught:
        ArchiveDefinition.model_validate(FULL | {"name": "A", "root": "x", "settle_s": -1})
    assert len(describe_faults(caught.value)) == 3


def test_a_secret_is_not_shown() -> None:
    """Neither in a log nor in a dump for people."""
    definition = ArchiveDefinition.model_validate(FULL)
    assert SECRET not in repr(definition) + definition.model_dump_json()
    assert secret_key(SECRET) == b"k" * 32


@pytest.mark.parametrize(
    ("schedule", "window", "doubts"),
    [
        ("0 12 * * *", "22:00-06:00", 1),
        ("0 23 * * *", "22:00-06:00", 0),
        ("0 12 * * *", None, 0),
        (None, "22:00-06:00", 0),
    ],
)
def test_a_schedule_outside_its_window_is_doubted(schedule: str | None, window: str | None, doubts: int) -> None:
    """It is allowed: the scan waits. But each night begins with a scan that was asked for at noon."""
    definition = ArchiveDefinition(name="a", root="/images", schedule=schedule, window=window)
    assert len(find_doubts(definition, {})) == doubts


def test_archives_that_share_files_are_doubted() -> None:
    """Roots that are equal, inside or around; not one whose name only begins alike, and not the archive itself."""
    definition = ArchiveDefinition(name="mine", root="/images/north")
    others = {
        "mine": "/images/north",
        "same": "/images/north",
        "inside": "/images/north/2026",
        "around": "/images",
        "beside": "/images/northern",
    }
    named = [name for name in others if any(f"archive {name}," in doubt for doubt in find_doubts(definition, others))]
    assert named == ["same", "inside", "around"]
