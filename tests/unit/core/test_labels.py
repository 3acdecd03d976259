"""Patient, slide and magnification come from the manifest, else from the name, and are never guessed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import StorageAway
from core.labels import NO_LABELS, Labeller, Labels, open_labeller, parse_name_pattern
from core.storage.local import LocalStorage

BREAKHIS = "benign/SOB_B_A-14-22549AB-40-001.png"
Label = Callable[[bytes | str], Labeller]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds a file."""
    (tmp_path / "x.png").touch()
    return tmp_path


@pytest.fixture
def label(folder: Path) -> Label:
    """Open a labeller beside a manifest of this text."""

    def open_beside(manifest: bytes | str, pattern: str = "breakhis") -> Labeller:
        data = manifest.encode() if isinstance(manifest, str) else manifest
        (folder / "manifest.csv").write_bytes(data)
        return open_labeller(LocalStorage(os.fsencode(folder), (folder,)), pattern, "manifest.csv")

    return open_beside


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        (BREAKHIS, Labels("14-22549", "14-22549AB", "40")),
        ("SOB_M_DC-14-2523-400-027.png", Labels("14-2523", "14-2523", "400")),
        ("SOB_M_DC-14-2523-400-027.jpeg", Labels("14-2523", "14-2523", "400")),
        ("xSOB_M_DC-14-2523-400-027.png", NO_LABELS),
        ("SOB_M_DC-14-2523-500-027.png", NO_LABELS),
        ("14-2523.png", NO_LABELS),
        ("", NO_LABELS),
    ],
)
def test_breakhis_names_are_built_in(path: str, labels: Labels) -> None:
    """The slide is year and number as published; its letters number the slides of one patient."""
    assert parse_name_pattern("breakhis").read(path) == labels
    assert parse_name_pattern("none").read(path) == NO_LABELS


def test_a_pattern_reads_the_whole_relative_path() -> None:
    """Archives often keep the patient in the name of a folder."""
    pattern = parse_name_pattern(r"^(?P<patient>P\d+)/(?:(?P<slide>S\d+)_)?.*_(?P<magnification>\d+)x\.")
    assert pattern.read("P12/S3_a_40x.png") == Labels("P12", "S3", "40")
    assert pattern.read("P12/a_40x.png") == Labels("P12", None, "40")
    assert pattern.read("a_40x.png") == NO_LABELS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(", "no regular expression"),
        (r"(?P<patient>a)(?=b)", "no regular expression"),
        (r"\d+", "must be"),
        (r"(?P<name>\d+)", "'name'"),
        ("", "must be"),
        ("(?P<patient>" + "a" * 1000 + ")", "characters"),
    ],
)
def test_what_is_no_pattern_is_refused_in_one_sentence(text: str, why: str) -> None:
    """It is refused when it is configured, not at night."""
    with pytest.raises(ValueError, match=why) as caught:
        parse_name_pattern(text)
    assert "\n" not in str(caught.value)


def test_no_pattern_takes_for_ever() -> None:
    """This one takes longer than the universe with a backtracking matcher."""
    pattern = parse_name_pattern(r"(?P<patient>(a+)+)$")
    assert pattern.read("a" * 4000 + "!") == NO_LABELS


def test_the_manifest_wins_label_by_label(label: Label) -> None:
    """What it leaves open is read from the name."""
    labeller = label(f"path,patient,slide,magnification\n{BREAKHIS},Anna,,\nx.png,Bea,7,100\n")
    assert labeller.of(BREAKHIS) == Labels("Anna", "14-22549AB", "40")
    assert labeller.of("x.png") == Labels("Bea", "7", "100")
    assert labeller.of("other.png") == NO_LABELS
    assert labeller.notice is None


@pytest.mark.parametrize(
    "manifest",
    [
        "\ufeffpath;patient\nsub/x.png;Anna\n",
        "Patient\tPATH\r\nAnna\tsub/x.png\r\n",
        'patient,path\n"Anna","sub/x.png"\n\n',
        "path,patient\n./sub\\x.png, Anna \n",
        "path,patient\nsub/x.png,Anna",
    ],
)
def test_manifests_of_common_programs_are_understood(label: Label, manifest: str) -> None:
    """Spreadsheets differ in mark, separator, quotes, ends of lines, and slashes."""
    assert label(manifest).of("sub/x.png") == Labels("Anna")


def test_a_file_that_is_named_twice_differently_has_no_labels(label: Label) -> None:
    """Whichever patient we took, it might be the wrong one; the name is not asked either."""
    labeller = label(f"path,patient\n{BREAKHIS},Anna\n{BREAKHIS},Bea\nx.png,Carla\nx.png,Carla\n")
    assert labeller.of(BREAKHIS) == NO_LABELS
    assert labeller.of("x.png") == Labels("Carla")
    assert labeller.notice is not None
    assert "1 files were named twice with different labels" in labeller.notice


def test_faults_are_counted_and_said_without_names(label: Label) -> None:
    """A bad line costs itself only."""
    labeller = label(
        b"path,patient,age\nx.png,Anna,5\nshort\n,nobody,1\ny.png,\xe4,3\n" + b"z.png," + b"P" * 201 + b",4\n"
    )
    assert labeller.of("x.png") == Labels("Anna")
    assert [labeller.of(name) for name in ("short", "y.png", "z.png")] == [NO_LABELS] * 3
    assert labeller.notice == "of the manifest, 4 lines could not be read, 1 columns are unknown"


@pytest.mark.parametrize("manifest", [b"file,patient\nx.png,Anna\n", "path,patient\nx.png,A\n".encode("utf-16"), b""])
def test_a_manifest_that_says_nothing_is_reported(label: Label, manifest: bytes) -> None:
    """Names are read instead."""
    labeller = label(manifest)
    assert labeller.notice is not None
    assert labeller.notice.startswith("the manifest was not used")
    assert labeller.of(BREAKHIS).patient == "14-22549"


def test_names_of_any_bytes_are_found(label: Label) -> None:
    """A manifest that was made by a listing holds the bytes of the names."""
    assert label(b"path,patient\n\xe4.png,Anna\n").of("\uf7e4.png") == Labels("Anna")


def test_storage_that_is_away_is_noticed_by_the_first_file(folder: Path) -> None:
    """A manifest that could not be read must not be taken for none."""
    (folder / "x.png").unlink()
    labeller = open_labeller(LocalStorage(os.fsencode(folder), (folder,)), "breakhis", "manifest.csv")
    with pytest.raises(StorageAway):
        labeller.of(BREAKHIS)
    (folder / "manifest.csv").write_text(f"path,patient\n{BREAKHIS},Anna\n")
    assert labeller.of(BREAKHIS).patient == "Anna"


def test_without_a_manifest_names_are_read(folder: Path) -> None:
    """It is not asked for again with each file."""
    labeller = open_labeller(LocalStorage(os.fsencode(folder), (folder,)), "breakhis", "manifest.csv")
    (folder / "manifest.csv").write_text(f"path,patient\n{BREAKHIS},Anna\n")
    assert labeller.of(BREAKHIS).patient == "14-22549"
    assert labeller.notice is None
