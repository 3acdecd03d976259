"""Walk a storage: every file below its root becomes one entry, whatever it is."""

from collections.abc import Iterator

from core.storage.protocol import Entry, Folder, Storage


def walk(storage: Storage) -> Iterator[Entry]:
    """Yield an entry for each file, in the order of the storage, memory flat.

    Raises:
        FolderError: the root itself cannot be listed.
        StorageAway: the storage went away, before or while it was listed.
    """
    pending = [""]
    while pending:
        for found in storage.list_folder(pending.pop()):
            if isinstance(found, Folder):
                pending.append(found.path)
            else:
                yield found
