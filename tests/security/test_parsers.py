"""Whatever a manifest, bundle, file of archives, address or pattern says: a result, or the parser's own error."""

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.archive_definitions import ArchiveDefinition
from core.archive_file import ArchiveFileError, read_archive_file
from core.bundle import MANIFEST, read_usable_manifest
from core.errors import BundleError, FolderError
from core.labels import Labels, parse_name_pattern
from core.manifests import ManifestUnusable, read_manifest
from core.paths import path_to_text
from core.schedule import next_fire
from core.settings import Settings
from core.storage.addresses import parse_address, resolve_address
from core.tables import utc_now
from tests.security.memory import Bytes
from worker.scanning.patterns import compile_patterns

# The same examples each time, so that a fault that is found is found again.
quick = settings(derandomize=True, deadline=None, database=None, max_examples=150)


@quick
@given(st.binary(max_size=2000))
@example(b"path,patient\r\n" + b'"' * 5000)
@example(b"\xef\xbb\xbfpath;slide\na\xff;b\n")
@example(b"path\n\0\n")
def test_bytes_for_a_manifest_are_read_or_refused(data: bytes) -> None:
    """Any bytes at all: lines that say something, lines that are counted as bad, or an unusable manifest."""
    _read_manifest(data)
    _read_manifest(b"path,patient,slide,magnification\n" + data)


def _read_manifest(data: bytes) -> None:
    try:
        manifest = read_manifest(Bytes(data))
    except ManifestUnusable:
        return
    manifest.find("a.png")
    manifest.describe_faults()
    manifest.close()


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=40)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner), max_leaves=8
)
_FIELDS = st.dictionaries(st.sampled_from([*ArchiveDefinition.model_fields, "other"]), _VALUES, max_size=14)


@quick
@given(_FIELDS)
@example({"name": "a", "root": "/a", "webhook": {"url": "http://[::1", "secret": "x"}})
@example({"name": "a", "root": "/a", "schedule": "* * 31 2 *", "time_zone": "../../etc/passwd"})
def test_an_archives_definition_is_stored_or_refused(fields: dict[str, object]) -> None:
    """Fields of any type: a definition, or faults that pydantic words without their values."""
    with suppress(ValidationError):
        ArchiveDefinition.model_validate(fields).columns()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a file may lie."""
    return tmp_path_factory.mktemp("files") / "archives.toml"


_TOML = st.text(alphabet=st.sampled_from(list("abz_-=.[]{}\"'\n,0159:TZ \t\\u#é")), max_size=120)


@quick
@given(data=st.binary(max_size=200) | _TOML.map(lambda text: b"[archives.a]\n" + text.encode()))
@example(data=b"[archives]\na = 1\n")
@example(data=b"archives = 7\n")
@example(data=b"[archives.a]\nroot = " + b"[" * 5000)
@example(data=b"[archives.a" + b".a" * 5000 + b"]\n")
@example(data=b"a = 1" + b"0" * 5000)
@example(data=b"a = 2026-99-99\n")
def test_a_file_of_archives_is_read_or_refused(file: Path, data: bytes) -> None:
    """Any bytes: definitions, or its faults."""
    file.write_bytes(data)
    with suppress(ArchiveFileError):
        read_archive_file(file, Settings())


_MANIFEST = {"name": "n", "version": "1.0.0", "files": [], "decision": {}, "metrics": [], "dataset": {}}
_BUNDLES = st.dictionaries(st.sampled_from([*_MANIFEST]), _VALUES)


@quick
@given(data=st.binary(max_size=200) | _BUNDLES.map(lambda made: json.dumps(made).encode()))
@example(data=b"[" * 100_000)
@example(data=b"1" * 10_000)
@example(data=b'{"name": "\\ud800"}')
def test_a_bundles_manifest_is_read_or_refused(file: Path, data: bytes) -> None:
    """Any bytes: never anything but a manifest or BundleError."""
    (file.parent / MANIFEST).write_bytes(data)
    with pytest.raises(BundleError):
        read_usable_manifest(file.parent)


_REGEX = st.text(alphabet=st.sampled_from(list("abP<>patientslide()[]{}*+?|\\.^$0,1-é\0")), max_size=60)


@quick
@given(pattern=_REGEX | st.text(max_size=60), path=st.text(max_size=60))
@example(pattern="(?P<patient>(a+)+$)", path="a" * 4000 + "b")
@example(pattern="(" * 500 + ")" * 500, path="")
@example(pattern="(?P<patient>a{1000}{1000})", path="a")
def test_a_name_pattern_reads_or_is_refused_in_a_sentence(pattern: str, path: str) -> None:
    """Whatever people write, and whatever the file is called."""
    try:
        parsed = parse_name_pattern(pattern)
    except ValueError:
        return
    assert isinstance(parsed.read(path), Labels)


_GLOB = st.text(alphabet=st.sampled_from(list("ab*?[]!-^&|~/.\\{}é\n")), min_size=1, max_size=30)


@quick
@given(glob=_GLOB | st.text(min_size=1, max_size=30), path=st.text(max_size=40))
@example(glob="[]]", path="]")
@example(glob="[[:alpha:]]", path="a")
@example(glob="[a&&b]", path="a")
@example(glob="[--a]", path="-")
@example(glob="[\\]", path="\\")
def test_a_glob_that_is_taken_compiles(glob: str, path: str) -> None:
    """What the definition lets pass never breaks the scan, which compiles it in the night."""
    try:
        definition = ArchiveDefinition(name="a", root="/a", include=(glob,), exclude=(glob,))
    except ValidationError:
        return
    patterns = compile_patterns(definition.include, definition.exclude)
    assert patterns.takes(path) in {True, False}


@quick
@given(st.text(max_size=60) | st.from_regex(re.compile(r"(s3|sftp|file|http)://[a-z./@:\[\]%]{0,40}"), fullmatch=True))
@example("s3://bucket/../other")
@example("s3://bucket/a/%2e%2e/other")
@example("sftp://-oProxyCommand=x/a")
def test_an_address_is_understood_or_refused(text: str) -> None:
    """And what is understood never has a part that leads up."""
    try:
        address = parse_address(text)
    except ValueError:
        with pytest.raises(FolderError):
            resolve_address(text, ("s3://bucket/a",))
        return
    assert not {"..", "."} & set(address.path.split("/"))
    assert parse_address(str(address)) == address


@quick
@given(st.text(alphabet="0123456789*/,- LW#@MONJAN", max_size=30), st.sampled_from(["UTC", "Europe/Berlin"]))
@example("0 0 30 2 *", "UTC")
@example("*/0 * * * *", "UTC")
@example("99999999999999999999 * * * *", "UTC")
def test_a_schedule_fires_or_is_refused(text: str, time_zone: str) -> None:
    """Never an endless search for a time that never comes."""
    with suppress(ValueError):
        next_fire(text, time_zone, utc_now())


@quick
@given(st.binary(max_size=60))
def test_a_name_of_any_bytes_is_text_that_databases_take(name: bytes) -> None:
    """It has no half characters, which neither JSON nor PostgreSQL would store."""
    path_to_text(name).encode()
