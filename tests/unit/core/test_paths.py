"""Any file name becomes text and back; only what lies below an allowed root may be read."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import FolderError, Reason
from core.paths import path_to_text, readable, resolve_folder, text_to_path

_MARKS = [chr(code).encode() for code in (0xF77F, 0xF780, 0xF7C3, 0xF7FF, 0xF800)]
# Bytes of all kinds, and often those that UTF-8 spells the private-use characters with.
_NAMES = st.lists(
    st.one_of(st.binary(max_size=8), st.sampled_from(_MARKS), st.text().map(lambda t: t.encode("utf-8", "replace")))
)


@given(_NAMES.map(b"".join).map(lambda name: name.replace(b"\0", b"")))
def test_every_name_survives_the_way_to_text_and_back(name):
    """Any bytes without NUL come back unchanged, and their text is one that a database stores."""
    text = path_to_text(name)
    assert text_to_path(text) == name
    text.encode("utf-8")
    assert "\0" not in text


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_two_names_never_share_a_text(one, other):
    """A text names one file: bytes that differ have texts that differ."""
    assert (path_to_text(one) == path_to_text(other)) == (one == other)


@given(st.text(st.characters(exclude_categories=["Cs", "Co"])))
def test_names_that_are_utf8_read_as_they_are(name):
    """Nearly all names are UTF-8, and stay legible."""
    assert path_to_text(name.encode()) == name


def test_a_name_with_one_of_our_marks_is_not_mistaken_for_odd_bytes():
    """The character U+F7E4 itself and the byte E4 are two names."""
    assert path_to_text("\uf7e4".encode()) != path_to_text(b"\xe4")
    assert text_to_path(path_to_text("\uf7e4".encode())) == "\uf7e4".encode()


def test_people_read_odd_names_on_one_line():
    """Odd bytes and control characters are escaped, the rest stays."""
    assert readable(path_to_text("Gewebe\n\t\x1b[2J/é".encode() + b"\xe4.png")) == "Gewebe\\n\\t\\x1b[2J/é\\xe4.png"


@pytest.fixture
def roots(tmp_path):
    (tmp_path / "data" / "night").mkdir(parents=True)
    (tmp_path / "database").mkdir()
    return (tmp_path / "data",)


def refusal(folder: object, roots: tuple) -> FolderError:
    with pytest.raises(FolderError) as caught:
        resolve_folder(str(folder), roots)
    return caught.value


def test_a_root_and_what_lies_below_are_allowed(roots):
    """The root itself may be submitted, and any folder below."""
    assert resolve_folder(str(roots[0]), roots) == roots[0]
    assert resolve_folder(f"{roots[0]}/night/", roots) == roots[0] / "night"


def test_a_folder_whose_name_begins_like_a_root_is_not_below_it(roots):
    """/data does not allow /database."""
    assert refusal(roots[0].parent / "database", roots).reason == Reason.FOLDER_NOT_ALLOWED


def test_dots_do_not_lead_out(roots):
    """.. is resolved before the check."""
    assert refusal(f"{roots[0]}/night/../../database", roots).reason == Reason.FOLDER_NOT_ALLOWED
    assert resolve_folder(f"{roots[0]}/night/../night", roots) == roots[0] / "night"


def test_a_link_out_of_the_roots_is_refused(roots):
    """Links are resolved before the check; links inside are fine."""
    (roots[0] / "out").symlink_to(roots[0].parent / "database")
    (roots[0] / "in").symlink_to(roots[0] / "night")
    assert refusal(roots[0] / "out", roots).reason == Reason.FOLDER_NOT_ALLOWED
    assert resolve_folder(str(roots[0] / "in"), roots) == roots[0] / "night"


@pytest.mark.parametrize("folder", ["", "night", "./night", "~", "/\0", "/data\0/night", "/\ud800", "/\ude00x"])
def test_what_is_no_absolute_path_is_refused(folder, roots):
    """Relative names, NUL bytes and text that no name can hold are refused, not raised over."""
    assert refusal(folder, roots).reason == Reason.FOLDER_NOT_ALLOWED


def test_without_roots_nothing_is_allowed(roots):
    """An installation that names no roots takes uploads only, and says how to change that."""
    rejected = refusal(roots[0], ())
    assert rejected.reason == Reason.FOLDER_NOT_ALLOWED
    assert "HISTOBATCH_ROOTS" in str(rejected)


def test_the_answer_does_not_tell_what_exists_outside(roots):
    """Outside the roots, what is there and what is not get the same answer."""
    there, missing = refusal("/etc", roots), refusal("/no-such-folder", roots)
    assert (there.reason, there.detail) == (missing.reason, missing.detail)


def test_missing_folders_and_files_below_a_root_are_missing(roots):
    """Inside the roots the answer says that there is no folder; a file is none."""
    (roots[0] / "image.png").touch()
    assert refusal(roots[0] / "gone", roots).reason == Reason.FOLDER_MISSING
    assert refusal(roots[0] / "image.png", roots).reason == Reason.FOLDER_MISSING


def test_a_folder_of_any_encoding_can_be_named(roots):
    """Bytes that are not UTF-8 arrive as Python's escapes and lead to the folder."""
    os.mkdir(os.fsencode(roots[0]) + b"/n\xe4chtlich")
    folder = os.fsdecode(os.fsencode(roots[0]) + b"/n\xe4chtlich")
    assert os.fsencode(resolve_folder(folder, roots)).endswith(b"/n\xe4chtlich")
