"""Find the storage that holds a submission's folder."""

from core.paths import text_to_path
from core.settings import Settings
from core.storage.addresses import is_address
from core.storage.local import LocalStorage
from core.storage.protocol import Storage
from core.storage.remote import RemoteStorage


def open_storage(folder: str, settings: Settings, source: str) -> Storage:
    """Make the storage of a submission's folder or an archive's root; looks at nothing yet.

    Whether the folder is there, and below an allowed root, is asked when it is listed and when a file is opened.

    Args:
        folder: absolute path as text (core.paths), or an address.
        source: "folder", "upload" or "archive".
    """
    if is_address(folder):
        return RemoteStorage(folder, settings.remote_roots)
    return LocalStorage(text_to_path(folder), settings.roots_of(source))
