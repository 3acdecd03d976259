"""Glob patterns take files in and leave them out."""

import pytest

from tests.unit.worker.scanning.test_scan import counts
from worker.scanning.patterns import compile_patterns


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.png", "a.png", True),
        ("*.png", "deep/down/a.png", True),
        ("*.png", "a.PNG", False),
        ("a/*.png", "a/b.png", True),
        ("a/*.png", "a/b/c.png", False),
        ("a/**/*.png", "a/c.png", True),
        ("a/**/*.png", "a/b/c/d.png", True),
        ("**/*.png", "c.png", True),
        ("a/**", "a/b/c", True),
        ("a/**", "ab/c", False),
        ("**", "a/b", True),
        ("?.png", "a.png", True),
        ("a?c/x", "a/c/x", False),
        ("[ab].png", "b.png", True),
        ("[!ab].png", "b.png", False),
        ("[0-9]*.png", "7x.png", True),
        ("a.png", "axpng", False),
        ("(a|b).png", "a.png", False),
        ("a[/]b", "a/b", False),
    ],
)
def test_globs_match_as_people_expect(pattern, path, matches):
    """Stars stay within a name unless doubled, and nothing but * ? [ ] means anything."""
    assert compile_patterns([pattern], []).takes(path) is matches
    assert compile_patterns([], [pattern]).takes(path) is not matches


def test_what_is_left_out_is_as_if_it_were_not_there(open_house):
    """Neither recorded nor counted; a folder that is left out is not even listed."""
    house = open_house(include=["*.png"], exclude=["tmp/**", "*-copy.png"])
    for path in ("a.png", "b.jpg", "tmp/c.png", "deep/a-copy.png", "deep/d.png"):
        house.write(path)
    scan = house.scan()
    assert counts(scan) == {"seen": 2, "new": 2}
    assert set(house.items(scan.id)) == {"a.png", "deep/d.png"}
    assert not compile_patterns(["*.png"], ["tmp/**"]).enters("tmp")
    assert compile_patterns(["*.png"], ["tmp/**"]).enters("tmp2")
