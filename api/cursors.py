"""Cursors of pages whose order is that of names: JSON in letters that an address takes as they are."""

import base64
import binascii
import json
from http import HTTPStatus

from api.problems import ApiError, ProblemReason
from core.rollup import Grouping, Key


def cursor_of(key: Key) -> str:
    """Write a key down; names may hold anything."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def key_of(cursor: str, grouping: Grouping) -> Key:
    """Read a key.

    Raises:
        ApiError: the cursor was not made here (422).
    """
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor))
    except (binascii.Error, ValueError):
        parts = None
    size = 1 if grouping == Grouping.PATIENT else 2
    if not isinstance(parts, list) or len(parts) != size or not all(_is_name(part) for part in parts):
        detail = "query.cursor: take next_cursor as it was given"
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, ProblemReason.REQUEST_INVALID, detail)
    return tuple(parts)


def _is_name(part: object) -> bool:
    return isinstance(part, str) and "\0" not in part
