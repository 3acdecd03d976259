"""docs/reliability.md and docs/security.md promise nothing that no test holds."""

import ast
import re

import pytest

from core.settings import PROJECT

TEXTS = {name: (PROJECT / "docs" / f"{name}.md").read_text() for name in ("reliability", "security")}
# Rows that there are at least.
LEAST = {"reliability": 30, "security": 30}


def _rows(text: str) -> list[tuple[str, str]]:
    """The first and the last cell of each row of tables whose last column is "held by"."""
    rows = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        head, _, *lines = table.strip().splitlines()
        if head.rstrip("| ").endswith("held by"):
            cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
            rows += [(line[0], line[-1]) for line in cells]
    return rows


@pytest.mark.parametrize("name", TEXTS)
def test_every_promise_names_a_test(name: str) -> None:
    """A row without one is a wish."""
    rows = _rows(TEXTS[name])
    assert len(rows) > LEAST[name]
    assert [promise for promise, held_by in rows if "::test_" not in held_by] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/\S+::\w+)`", "".join(TEXTS.values())))))
def test_the_tests_that_are_named_exist(name: str) -> None:
    """A test that was renamed takes its promise along."""
    file, _, function = name.partition("::")
    tree = ast.parse((PROJECT / file).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
