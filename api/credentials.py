"""What a request shows to be let in, and whom that makes it."""

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from datetime import datetime

from api.context import ANONYMOUS
from api.web_sessions import find_session
from core.access import ALL_SCOPES, Principal
from core.access_tables import ApiKey
from core.database import Database
from core.keys import as_principal, find_key, parse_key
from core.settings import Settings

_LONGEST_NAME = 100


@dataclass(frozen=True)
class Shown:
    """A secret and the user name beside it, from an Authorization header or a form."""

    secret: bytes = field(repr=False)
    name: str = ANONYMOUS


@dataclass(frozen=True)
class Visitor:
    """Who asks, as far as the way it was shown matters.

    Attributes:
        principal: who it is and what they may do.
        form_secret: what only they and we know; forms are bound to it.
        key: the key that was shown, or that began the session; None for the token and where nothing is asked for.
        has_session: whether a session's cookie was shown.
    """

    principal: Principal
    form_secret: bytes = field(repr=False)
    key: ApiKey | None = None
    has_session: bool = False


def read_header(header: str) -> Shown | None:
    """Take the secret out of an Authorization header; None where it holds none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        # The server decoded the header as Latin-1; these are the bytes that were sent.
        return Shown(value.strip().encode("latin-1", "replace"))
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(value, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    name = "".join(character for character in user.decode("utf-8", "replace") if character.isprintable())
    return Shown(password, name[:_LONGEST_NAME] or ANONYMOUS)


def is_token(shown: Shown, settings: Settings) -> bool:
    """Whether the token of the settings was shown."""
    token = settings.api_token.get_secret_value().encode()
    return bool(token) and hmac.compare_digest(shown.secret, token)


def recognise(shown: Shown, settings: Settings, database: Database, now: datetime) -> Visitor | None:
    """Find out who shows a secret; None for one that is unknown, expired or revoked. The database knows keys.

    A key says whose it is; beside the token, which has no owner, the user name is believed.
    """
    if is_token(shown, settings):
        return Visitor(Principal(shown.name, ALL_SCOPES), shown.secret)
    parts = parse_key(shown.secret.decode("ascii", "replace"))
    if parts is None:
        return None
    with database.read() as session:
        key = find_key(session, parts, now)
    return None if key is None else Visitor(as_principal(key), shown.secret, key)


def recognise_session(cookie: str, settings: Settings, database: Database, now: datetime) -> Visitor | None:
    """Find out whose browser shows a session's cookie; None where the session, or what began it, has ended."""
    with database.read() as session:
        found = find_session(session, cookie, settings, now)
    if found is None:
        return None
    key = found.key
    principal = Principal(found.name, ALL_SCOPES) if key is None else as_principal(key)
    return Visitor(principal, cookie.encode(), key, has_session=True)
