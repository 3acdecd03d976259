"""What single values of an archive's definition must look like: each fault is a ValueError of one sentence."""

import base64
import binascii
import re
from datetime import time
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from core.schedule import Window, find_zone

SECRET_PREFIX = "whsec_"  # noqa: S105 - how the scheme marks a secret, and no secret
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
_WINDOW = re.compile(f"{_CLOCK}-{_CLOCK}")
_CLASS = re.compile(r"\[!?(\]?[^\]]*)\]")
_MOST_DEEP = 4


def read_window(text: str | None, time_zone: str) -> Window | None:
    """Read "HH:MM-HH:MM".

    Raises:
        ValueError: it is something else, or has no length.
    """
    if text is None:
        return None
    if not _WINDOW.fullmatch(text):
        raise ValueError(f'the window must be two times of day such as "22:00-06:00", not {text!r}')
    start, _, stop = text.partition("-")
    return Window(time.fromisoformat(start), time.fromisoformat(stop), find_zone(time_zone))


def check_glob(glob: str) -> None:
    """Check a pattern of paths.

    Raises:
        ValueError: it means nothing, or leads out of the root.
    """
    if glob.startswith("/") or ".." in PurePosixPath(glob).parts or "\0" in glob:
        raise ValueError(f"the pattern {glob!r} must be for paths below the root, such as **/*.png")
    if "[" in _CLASS.sub("", glob):
        raise ValueError(f"the pattern {glob!r} opens a [ that it never closes")
    if "" in _CLASS.findall(glob):
        raise ValueError(f"the pattern {glob!r} has brackets that hold nothing")
    ranges = (pair for inside in _CLASS.findall(glob) for pair in re.findall(r"(.)-(.)", inside))
    if any(first > last for first, last in ranges):
        raise ValueError(f"the pattern {glob!r} has a range that ends before it begins")
    if glob.count("**") > _MOST_DEEP:
        raise ValueError(f"the pattern {glob!r} has more than {_MOST_DEEP} times **, which takes too long to compare")


def is_web_address(url: str) -> bool:
    """Whether this is http or https, with a host, and without user and password."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    is_clean = url.isascii() and url.isprintable() and " " not in url
    return is_clean and parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc


def secret_key(secret: str) -> bytes:
    """The bytes with which a webhook's secret signs.

    Raises:
        ValueError: it is no secret of the Standard Webhooks scheme. Does not repeat it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(f"the webhook's secret must be {SECRET_PREFIX} and 24 to 64 random bytes in base64")
    return key
