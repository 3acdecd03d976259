"""The written pages: complete, short, and true to the code."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.problems import ProblemReason
from core.errors import Reason
from core.settings import PROJECT
from tests.conftest import missing_part

DOCS = PROJECT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md"])
ADRS = sorted((DOCS / "adr").glob("*.md"))


def test_every_reason_code_is_explained_with_what_to_do() -> None:
    """Who sees a code must find its meaning, and the codes here must exist."""
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", (DOCS / "reasons.md").read_text(), re.MULTILINE)
    explained = [code for code, _, _ in rows]
    assert sorted(explained) == sorted({*Reason} | {*ProblemReason})
    assert all(meaning.endswith(".") and advice.endswith(".") for _, meaning, advice in rows)


def test_the_glossary_defines_every_word_once() -> None:
    """Two definitions of one word are none."""
    text = (DOCS / "glossary.md").read_text()
    words = re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE)
    assert len(words) > 40
    assert len(words) == len(set(words))
    assert text.count("**: ") + text.count("**, **") >= len(words)


@pytest.mark.parametrize("page", ADRS, ids=lambda path: path.stem)
def test_a_decision_record_is_short_and_names_its_cost(page: Path) -> None:
    """A decision without a cost is advertising."""
    text = page.read_text()
    assert len(text.splitlines()) < 40
    assert text.startswith(f"# {page.name[:4]}: ")
    assert [section for section in ("Context", "Decision", "Cost") if f"\n## {section}\n" not in text] == []


def test_decision_records_have_a_number_each() -> None:
    """Two records with one number cannot be cited."""
    numbers = [page.name[:4] for page in ADRS]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    """A moved file takes its links along."""
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", page.read_text())]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_changelog_keeps_its_form() -> None:
    """Newest first; one sentence a line."""
    text = (PROJECT / "CHANGELOG.md").read_text()
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[0] in ("Unreleased", project["version"])
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"
    }  # fmt: skip
    assert all(line.endswith(".") for line in text.splitlines() if line.startswith("- "))


def test_constraints_name_no_registry() -> None:
    """Whoever installs uses the registry that is configured there; a name here would be a hospital's dead link."""
    for file in sorted((PROJECT / "constraints").glob("*.txt")):
        text = file.read_text()
        assert "://" not in text
        assert not re.search(r"^--?(i|f|index-url|extra-index-url|find-links|trusted-host)\b", text, re.MULTILINE)
        pins = re.findall(r"^[a-z0-9][\w.-]*(?:\[[\w,]+\])?==", text, re.MULTILINE)
        assert pins
        assert text.count("--hash=sha256:") >= len(pins)


def test_tracked_files_name_no_machine() -> None:
    """A path of one developer's machine works nowhere else."""
    machine = re.compile(r"(?<![\w.}])/(?:" + "|".join(("work", "root", r"ho" r"me/\w+", r"Us" r"ers/\w+")) + r")/")
    found = [
        f"{path.relative_to(PROJECT)}: {line.strip()[:100]}"
        for path in _tracked_text_files()
        for line in path.read_text(encoding="utf-8").splitlines()
        if machine.search(line)
    ]
    assert found == []


def _tracked_text_files() -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode:
        missing_part("a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        path = PROJECT / name
        if path.is_file() and b"\0" not in path.read_bytes()[:4096]:
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            yield path
