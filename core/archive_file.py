"""The TOML file of archives: where it is configured, it is the truth about the archives that it names."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlmodel import Session, col, select

from core.archive_definitions import ArchiveDefinition, describe_faults
from core.archive_tables import Archive
from core.archives import BY_FILE, change_archive, check_root, create_archive, find_archive, release_archive
from core.errors import ConfigurationError, FolderError
from core.settings import Settings

# A thousand archives need less; a larger file is another one by mistake.
_LARGEST_BYTES = 2**20


class ArchiveFileError(ConfigurationError):
    """The file of archives cannot be used; nothing of it is.

    Attributes:
        faults: what is wrong, a sentence each.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("the file of archives is not used: " + "; ".join(faults))
        self.faults = faults


def read_archive_file(path: Path, settings: Settings) -> list[ArchiveDefinition]:
    """Read every definition of the file and check it.

    Storage that is away at the moment is no fault.

    Raises:
        ArchiveFileError: with all faults at once.
    """
    definitions, faults = [], []
    for name, fields in _read_tables(path).items():
        try:
            definitions.append(_define(name, fields, settings))
        except ValidationError as error:
            faults += [f"[archives.{name}] {fault}" for fault in describe_faults(error)]
        except (FolderError, ValueError) as error:
            faults.append(f"[archives.{name}] {getattr(error, 'detail', error)}")
    if faults:
        raise ArchiveFileError(faults)
    return definitions


def store_archive_file(session: Session, definitions: list[ArchiveDefinition]) -> list[str]:
    """Make the archives what the file says; returns the names of those that it changed.

    One that is gone from the file is switched off and keeps all that is known of it. One of the same name that came by
    the API belongs to the file from now on. Safe to repeat: without a difference nothing is written.
    """
    changed = [definition.name for definition in definitions if _store(session, definition)]
    names = {definition.name for definition in definitions}
    gone = session.exec(select(Archive).where(col(Archive.defined_by) == BY_FILE, col(Archive.name).not_in(names)))
    for archive in gone.all():
        release_archive(session, archive, BY_FILE)
        changed.append(archive.name)
    return changed


def _store(session: Session, definition: ArchiveDefinition) -> bool:
    archive = find_archive(session, definition.name)
    if archive is None:
        create_archive(session, definition, BY_FILE, BY_FILE)
        return True
    return change_archive(session, archive, definition, BY_FILE, BY_FILE)


def _read_tables(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ArchiveFileError([f"it is larger than {_LARGEST_BYTES // 2**10} KiB"])
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchiveFileError([f"it cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ArchiveFileError(["it is not UTF-8"]) from error
    except ValueError as error:  # TOMLDecodeError, and a number of more digits than Python reads
        raise ArchiveFileError([f"it is no TOML: {error}"]) from error
    except RecursionError as error:
        raise ArchiveFileError(["its values lie too deep in each other"]) from error
    tables = document.pop("archives", {})
    unknown = [f"it may hold [archives.NAME] only, not {name}" for name in document]
    if not isinstance(tables, dict):
        unknown.append("write each archive as [archives.NAME]")
    if unknown:
        raise ArchiveFileError(unknown)
    return dict(tables)


def _define(name: str, fields: object, settings: Settings) -> ArchiveDefinition:
    if not isinstance(fields, dict):
        raise ValueError("write an archive as [archives.NAME] with its fields below")
    if "name" in fields:
        raise ValueError("its name stands in the brackets only")
    definition = ArchiveDefinition.model_validate(fields | {"name": name})
    if definition.webhook is not None and definition.webhook.secret is None:
        raise ValueError("its webhook needs a secret, which the other side knows, too")
    root = check_root(definition.root, settings, must_exist=False)
    return definition.model_copy(update={"root": root})
