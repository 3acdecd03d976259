"""File names of any encoding as text, and the rule which folders may be read."""

import os
from pathlib import Path

from core.errors import FolderError, Reason

# A file name is bytes; a database and JSON want text. Bytes that are not UTF-8 become the private-use characters
# U+F780..U+F7FF, one each, and a name that really holds such a character has its bytes mapped in the same way. So
# every name has exactly one text and back; names that are UTF-8 (nearly all) read as they are.
_FIRST = 0xF780
_LAST = 0xF7FF
_OFFSET = 0xF700


def path_to_text(path: bytes) -> str:
    """Turn the bytes of a path into text that any database stores; text_to_path undoes it."""
    if path.isascii():
        return path.decode()  # nearly all names
    out = []
    for character in path.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            out.append(chr(code - 0xDC00 + _OFFSET))
        elif _FIRST <= code <= _LAST:
            out.extend(chr(byte + _OFFSET) for byte in character.encode())
        else:
            out.append(character)
    return "".join(out)


def text_to_path(text: str) -> bytes:
    """Turn text from path_to_text back into the bytes of the path."""
    if text.isascii():
        return text.encode()
    out = bytearray()
    for character in text:
        code = ord(character)
        out += bytes((code - _OFFSET,)) if _FIRST <= code <= _LAST else character.encode()
    return bytes(out)


def readable(text: str) -> str:
    """Show text from path_to_text to people: odd bytes as \\xNN, control characters escaped."""
    if text.isprintable():
        return text  # nearly all names; what stands for odd bytes is not printable
    return "".join(_readable_character(character) for character in text)


def _readable_character(character: str) -> str:
    code = ord(character)
    if _FIRST <= code <= _LAST:
        return f"\\x{code - _OFFSET:02x}"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


def resolve_folder(folder: str, roots: tuple[Path, ...]) -> Path:
    """Resolve a folder that someone asks for, links and all, and check that it lies below an allowed root.

    Raises:
        FolderError: FOLDER_NOT_ALLOWED or FOLDER_MISSING. What lies outside the roots is refused before it is
            looked at, so that the answer does not tell what exists there.
    """
    if not _is_absolute_name(folder):
        raise FolderError(Reason.FOLDER_NOT_ALLOWED, "name the folder by an absolute path")
    resolved = Path(os.path.realpath(folder))
    check_allowed(resolved, roots)
    if not _is_folder(resolved):
        raise FolderError(Reason.FOLDER_MISSING, "there is no such folder; is the storage mounted on this machine?")
    return resolved


def check_allowed(resolved: Path, roots: tuple[Path, ...]) -> None:
    """Refuse a folder that does not lie below an allowed root.

    Args:
        resolved: without links.

    Raises:
        FolderError: FOLDER_NOT_ALLOWED.
    """
    if not any(resolved.is_relative_to(root) for root in roots):
        allowed = ", ".join(str(root) for root in roots) or "none are configured"
        raise FolderError(
            Reason.FOLDER_NOT_ALLOWED,
            f"the folder is not below an allowed root ({allowed}); see HISTOBATCH_ROOTS",
        )


def _is_absolute_name(folder: str) -> bool:
    try:
        os.fsencode(folder)
    except UnicodeEncodeError:
        # JSON can carry half a character, which no name of a file can hold.
        return False
    return "\0" not in folder and os.path.isabs(folder)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        # A name that is too long, a parent that may not be entered, storage that does not answer: not there for us.
        return False
