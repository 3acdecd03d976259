"""Engines that were built, kept on disk. ONNX is the truth: what is not exactly as it was written is built again."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from worker.engines.building import BuiltEngine
from worker.engines.key import EngineKey
from worker.engines.locking import file_lock

PLAN, MANIFEST, BUILD_LOG, GATE = "engine.plan", "manifest.json", "build.log", "gate.json"
# Gets what earlier builds learnt, and builds.
Build = Callable[[bytes], BuiltEngine]
# Is told when a build begins, with the reason, and when another process builds and this one waits.
Observer = Callable[[Literal["engine_build_begins", "engine_awaited"], EngineKey, str], None]


def tell_nobody(*_: object) -> None:
    """Observe nothing."""


class EngineManifest(BaseModel):
    """What lies beside an engine and names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: EngineKey
    sha256: str
    bytes: int
    built_at: AwareDatetime
    build_s: float


class _Unusable(Exception):
    """Why an entry cannot be used."""


@dataclass(frozen=True)
class Provided:
    """An engine's bytes.

    Attributes:
        folder: its entry, which holds the build log too.
        why_built: why it had to be built; None where it was there.
    """

    plan: bytes
    folder: Path
    why_built: str | None


@dataclass(frozen=True)
class Entry:
    """What lies in the cache under one name; `fault` says why it cannot be used."""

    folder: Path
    manifest: EngineManifest | None
    fault: str | None


class EngineCache:
    """A folder of engines that processes share: one builds, the others wait for it."""

    def __init__(self, folder: Path, observer: Observer = tell_nobody) -> None:
        self.folder = folder
        self._observer = observer

    def provide(self, key: EngineKey, build: Build) -> Provided:
        """Return the engine of this key: the one that is there, or a new one.

        Raises:
            OSError: the folder cannot be used.
            EngineError: the build failed.
        """
        entry = self.folder / key.name
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock(key.name, lambda: self._observer("engine_awaited", key, "another process builds it")):
            try:
                return Provided(_read_plan(entry, key), entry, None)
            except _Unusable as fault:
                self._observer("engine_build_begins", key, str(fault))
                timing = self.folder / key.timing_name
                built = build(timing.read_bytes() if timing.is_file() else b"")
                self._store(entry, key, built)
                return Provided(built.plan, entry, str(fault))

    def entries(self) -> Iterator[Entry]:
        """Yield what lies in the cache, by name, each engine verified."""
        for folder in sorted(path for path in self.folder.glob("tensorrt*") if path.is_dir()):
            try:
                manifest = _read_manifest(folder)
            except _Unusable as fault:
                yield Entry(folder, None, str(fault))
                continue
            try:
                _read_plan(folder, manifest.key)
            except _Unusable as fault:
                yield Entry(folder, manifest, str(fault))
            else:
                yield Entry(folder, manifest, None)

    def has(self, key: EngineKey) -> bool:
        """Whether a usable engine of this key is there."""
        try:
            _read_plan(self.folder / key.name, key)
        except _Unusable:
            return False
        return True

    def remove(self, entry: Entry) -> None:
        """Delete an entry; a process that loaded its engine keeps it."""
        self.discard(entry.folder.name)

    def discard(self, name: str) -> None:
        """Delete the entry of this name."""
        with self._lock(name):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _lock(self, name: str, when_waiting: Callable[[], None] = tell_nobody) -> AbstractContextManager[None]:
        return file_lock(self.folder / f"{name}.lock", when_waiting)

    def _store(self, entry: Path, key: EngineKey, built: BuiltEngine) -> None:
        """Write all files; the manifest last, so that an entry with one was written to its end."""
        entry.mkdir(exist_ok=True)
        (entry / GATE).unlink(missing_ok=True)
        write_atomically(entry / BUILD_LOG, built.log.encode())
        write_atomically(entry / PLAN, built.plan)
        manifest = EngineManifest(
            key=key,
            sha256=sha256(built.plan).hexdigest(),
            bytes=len(built.plan),
            built_at=datetime.now(UTC),
            build_s=round(built.seconds, 3),
        )
        write_atomically(entry / MANIFEST, manifest.model_dump_json(indent=2).encode())
        if built.timing_cache:
            write_atomically(self.folder / key.timing_name, built.timing_cache)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step that survives a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_manifest(entry: Path) -> EngineManifest:
    try:
        return EngineManifest.model_validate_json((entry / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise _Unusable("no engine is there" if not entry.exists() else "its manifest is missing") from error
    except (OSError, ValidationError) as error:
        raise _Unusable("its manifest cannot be read") from error


def _read_plan(entry: Path, key: EngineKey) -> bytes:
    """Read the engine's bytes, and judge these very bytes, not the file."""
    manifest = _read_manifest(entry)
    if manifest.key != key:
        raise _Unusable("it was built from or for something else")
    try:
        plan = (entry / PLAN).read_bytes()
    except OSError as error:
        raise _Unusable("its engine file cannot be read") from error
    if len(plan) != manifest.bytes or sha256(plan).hexdigest() != manifest.sha256:
        raise _Unusable("its engine file is not the one that was built")
    return plan
