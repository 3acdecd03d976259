"""Which files of an archive count: glob patterns on paths below its root."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from re import Pattern

_PIECES = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
_FIXED = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Patterns:
    """What takes files in and what leaves them out, compiled; None takes in all, or leaves nothing out."""

    include: Pattern[str] | None = None
    exclude: Pattern[str] | None = None
    exclude_folder: Pattern[str] | None = None

    @property
    def take_all(self) -> bool:
        """Whether every file counts."""
        return self.include is None and self.exclude is None

    def takes(self, path: str) -> bool:
        """Whether a file counts."""
        if self.include is not None and self.include.fullmatch(path) is None:
            return False
        return self.exclude is None or self.exclude.fullmatch(path) is None

    def enters(self, folder: str) -> bool:
        """Whether anything in a folder may count; False spares its listing."""
        return self.exclude_folder is None or self.exclude_folder.fullmatch(folder) is None


def compile_patterns(include: Sequence[str], exclude: Sequence[str]) -> Patterns:
    """Compile globs: * and ? stay within a name, ** crosses folders, [ab] and [!ab] are one character.

    A pattern without a slash is for names in any folder. An exclude pattern that ends with /** spares the folder.
    """
    folders = [pattern.removesuffix("/**") for pattern in exclude if pattern.endswith("/**")]
    return Patterns(_compile(include), _compile(exclude), _compile([folder for folder in folders if folder]))


def _compile(patterns: Sequence[str]) -> Pattern[str] | None:
    if not patterns:
        return None
    return re.compile("|".join(f"(?:{_translate(pattern)})" for pattern in patterns), re.DOTALL)


def _translate(pattern: str) -> str:
    if "/" not in pattern and pattern != "**":
        pattern = "**/" + pattern
    return "".join(_FIXED.get(piece) or _literal(piece) for piece in _PIECES.findall(pattern))


def _literal(piece: str) -> str:
    if len(piece) == 1:
        return re.escape(piece)
    is_negative = piece.startswith("[!")
    characters = piece[2 if is_negative else 1 : -1]
    # A minus between two characters stays a range; all else that means something to regular expressions does not.
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", characters)
    return f"(?!/)[{'^' if is_negative else ''}{escaped}]"
