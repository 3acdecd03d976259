"""What a file's name, or a manifest beside the files, says of an image: patient, slide, magnification."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from core.errors import ImageRejected, Reason, StorageAway
from core.manifests import Manifest, ManifestUnusable, read_manifest
from core.paths import path_to_text
from core.storage.protocol import Storage

log = structlog.get_logger()

_LABELS = ("patient", "slide", "magnification")
# As published: SOB_B_A-14-22549AB-40-001.png is of patient 14-22549; the letters number the slides of one patient.
_BREAKHIS = re.compile(
    r"(?:^|/)SOB_[BM]_[A-Z]{1,2}-(?P<slide>(?P<patient>\d{2}-\d{1,9})[A-Z]{0,4})"
    r"-(?P<magnification>40|100|200|400)-\d{3}\.(?:png|jpe?g)$"
)
# Names are given by people; these are generous.
_LONGEST_PATTERN = 1000
_LONGEST_LABEL = 200
_LONGEST_PATH = 4096


@dataclass(frozen=True)
class Labels:
    """Who and what an image shows; None where nothing says so."""

    patient: str | None = None
    slide: str | None = None
    magnification: str | None = None


NO_LABELS = Labels()


@dataclass(frozen=True)
class NamePattern:
    """How labels are read from names.

    Attributes:
        text: "breakhis", "none" or a regular expression.
    """

    text: str
    _read: Callable[[str], Labels]

    def read(self, path: str) -> Labels:
        """Read the labels in a relative path; what the pattern does not meet says nothing."""
        return self._read(path) if len(path) <= _LONGEST_PATH else NO_LABELS


def parse_name_pattern(text: str) -> NamePattern:
    """Understand "breakhis", "none", or a regular expression with groups named patient, slide, magnification.

    The expression is searched in the relative path. It is matched by RE2, whose time grows with the length of the path
    and never explodes, whatever the expression; therefore it knows no look-around and no back-references.

    Raises:
        ValueError: one sentence for people.
    """
    if text == "breakhis":
        return NamePattern(text, _read_breakhis)
    if text == "none":
        return NamePattern(text, lambda _path: NO_LABELS)
    pattern = _compile(text)
    return NamePattern(text, lambda path: _read_groups(pattern, path))


class Labeller:
    """Says of each file of one storage what its manifest and its name say. For one thread.

    Attributes:
        notice: what is wrong with the manifest, a sentence without names; None where nothing is.
    """

    def __init__(self, storage: Storage, pattern: NamePattern, manifest: str) -> None:
        self._storage = storage
        self._pattern = pattern
        self._path = path_to_text(manifest.encode())
        self._manifest: Manifest | None = None
        self._is_read = not manifest
        self.notice: str | None = None

    def of(self, path: str) -> Labels:
        """Label a file by its path as text; each label of the manifest wins over the name's.

        Raises:
            StorageAway: the manifest could not be read before, and cannot now.
        """
        self.read()
        named = self._pattern.read(path)
        row = self._manifest.find(path) if self._manifest else None
        if row is None:
            return named
        if row.is_contradictory:
            return NO_LABELS
        return Labels(row.patient or named.patient, row.slide or named.slide, row.magnification or named.magnification)

    def read(self) -> None:
        """Read the manifest if that is still to do.

        Raises:
            StorageAway: the storage does not answer.
        """
        if self._is_read:
            return
        try:
            with self._storage.open(self._path) as file:
                self._manifest = read_manifest(file)
        except (ManifestUnusable, ImageRejected) as error:
            if not (isinstance(error, ImageRejected) and error.reason == Reason.VANISHED):
                why = error.detail if isinstance(error, ImageRejected) else str(error)
                self.notice = f"the manifest was not used: {why}"
                log.warning("manifest_unusable", why=why)
        else:
            self.notice = self._manifest.describe_faults()
            if self.notice:
                log.warning("manifest_with_faults", lines=self._manifest.lines, **self._manifest.faults)
        self._is_read = True

    def close(self) -> None:
        """Free the manifest."""
        if self._manifest is not None:
            self._manifest.close()


def open_labeller(storage: Storage, name_pattern: str, manifest: str) -> Labeller:
    """Read a storage's manifest, if there is one, and understand the pattern.

    A storage that is away is for the listing to notice: then the manifest is read when the first file asks for it.

    Args:
        manifest: path of a CSV file below the root; "" for none.

    Raises:
        ValueError: the pattern is none.
    """
    labeller = Labeller(storage, parse_name_pattern(name_pattern), manifest)
    with suppress(StorageAway):
        labeller.read()
    return labeller


def _read_breakhis(path: str) -> Labels:
    found = _BREAKHIS.search(path)
    if found is None:
        return NO_LABELS
    return Labels(found["patient"], found["slide"], found["magnification"])


def _read_groups(pattern: Any, path: str) -> Labels:
    found = pattern.search(path)
    if found is None:
        return NO_LABELS
    groups = found.groupdict()
    return Labels(*((groups.get(name) or "").strip()[:_LONGEST_LABEL] or None for name in _LABELS))


def _compile(text: str) -> Any:
    import re2  # noqa: PLC0415  (a library of its own, which most need not)

    if len(text) > _LONGEST_PATTERN:
        raise ValueError(f"the name pattern has more than {_LONGEST_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    try:
        pattern = re2.compile(text, options)
    except re2.error as error:
        raise ValueError(f"the name pattern is no regular expression that RE2 knows: {_words(error)}") from error
    groups = set(pattern.groupindex)
    if not groups:
        raise ValueError('the name pattern must be "breakhis", "none", or have groups such as (?P<patient>[0-9]+)')
    if unknown := sorted(groups - set(_LABELS)):
        raise ValueError(f"the name pattern has a group {unknown[0]!r}; only patient, slide, magnification are known")
    return pattern


def _words(error: Exception) -> str:
    first = error.args[0] if error.args else b""
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
