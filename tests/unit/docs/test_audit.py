"""docs/api.md names what is recorded, and everything that is recorded is named there."""

import re
from pathlib import Path

from core.settings import PROJECT

_ACTION = re.compile(
    r"[\"`]((?:archive|audit|key|lane|model|results|retention|review|scan|session|submission)\.[a-z]+)[\"`]"
)
# Columns and templates, whose names look alike.
_OTHERS = re.compile(r".*\.(id|html)")
# Put together from retention's two kinds of work.
_COMPOSED = {"retention.delete", "retention.anonymise"}


def _recorded() -> set[str]:
    found = set(_COMPOSED)
    for program in ("core", "api", "worker", "cli"):
        for file in (PROJECT / program).rglob("*.py"):
            if "migrations" not in file.parts:
                found |= set(_ACTION.findall(file.read_text(encoding="utf-8")))
    return {action for action in found if not _OTHERS.fullmatch(action)}


def _documented() -> set[str]:
    text = (PROJECT / "docs" / "api.md").read_text(encoding="utf-8")
    table = text[text.index("## The audit") : text.index("Reading means")]
    return set(_ACTION.findall(table))


def test_every_action_is_documented() -> None:
    """Who reads the audit finds what a row means; what the issue of the audit asks for is among it."""
    assert _documented() == _recorded()


def test_every_kind_that_was_asked_for_is_recorded() -> None:
    """Who submitted, read, exported, reviewed, changed the model, deleted; keys and lanes."""
    asked = {
        "submission.create",
        "results.read",
        "results.export",
        "review.create",
        "model.activate",
        "model.rollback",
        "submission.delete",
        "key.create",
        "key.revoke",
        "lane.pause",
    }
    assert asked <= _recorded()


def test_every_action_has_a_test() -> None:
    """Somewhere a test asks for the row of each action by its name."""
    files = [file for file in (PROJECT / "tests").rglob("*.py") if file != Path(__file__)]
    tests = "".join(file.read_text(encoding="utf-8") for file in files)
    assert [action for action in sorted(_recorded()) if f'"{action}"' not in tests] == []
