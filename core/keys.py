"""Keys of people and programs: making, finding and revoking them. A key is shown once and stored as a hash."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import or_, update
from sqlmodel import Session, col, select

from core.access import Principal, Scope
from core.access_tables import ApiKey
from core.audit import record
from core.database import Database, execute_dml
from core.errors import PermanentError
from core.tables import utc_now

_SHAPE = re.compile(r"hb_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})", re.ASCII)
_SECRET_BYTES = 32
_LONGEST_NAME = 100
# Written no more often, so that reading stays reading.
_USE_NOTED_EVERY = timedelta(hours=1)


class KeyRefused(PermanentError):
    """A key cannot be made as it was asked for, or there is none to revoke."""


@dataclass(frozen=True)
class KeyParts:
    """A key that was shown, taken apart."""

    id: str
    secret: str = field(repr=False)


def make_key(
    session: Session, name: str, scopes: Collection[Scope], *, made_by: str, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key; returns its row and the key itself, which cannot be had again.

    Raises:
        KeyRefused: no name, a name that cannot be printed, or no scope.
    """
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise KeyRefused(f"a key's name has 1 to {_LONGEST_NAME} characters that can be printed")
    if not scopes:
        raise KeyRefused(f"a key without a scope opens nothing: give one of {', '.join(Scope)}")
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    key = ApiKey(
        id=secrets.token_hex(6),
        name=name,
        secret_hash=hash_secret(secret),
        scopes=sorted(scopes),
        created_by=made_by,
        expires_at=expires_at,
    )
    session.add(key)
    detail = {"name": name, "scopes": key.scopes, "expires_at": expires_at and expires_at.isoformat(timespec="seconds")}
    record(session, made_by, "key.create", key.id, detail)
    return key, f"hb_{key.id}_{secret}"


def hash_secret(secret: str) -> str:
    """Hash something that is random enough to be hashed fast: SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_key(text: str) -> KeyParts | None:
    """Take a key apart; None for what is no key."""
    match = _SHAPE.fullmatch(text)
    return KeyParts(match["id"], match["secret"]) if match else None


def find_key(session: Session, parts: KeyParts, now: datetime) -> ApiKey | None:
    """Find the key that was shown by its id, in one read; None where it is unknown, wrong, expired or revoked."""
    key = session.get(ApiKey, parts.id)
    # Hashed and compared also where there is no such key, so that an answer's time does not tell.
    is_right = hmac.compare_digest(hash_secret(parts.secret), key.secret_hash if key is not None else "0" * 64)
    return key if key is not None and is_right and is_usable(key, now) else None


def is_usable(key: ApiKey, now: datetime) -> bool:
    """Whether a key is neither revoked nor expired."""
    return key.revoked_at is None and (key.expires_at is None or now < key.expires_at)


def as_principal(key: ApiKey) -> Principal:
    """Say who asks with a key. Scopes that this version does not know are none."""
    known = frozenset(Scope(name) for name in key.scopes if name in frozenset(Scope))
    return Principal(key.name, known, key.id)


def revoke_key(session: Session, key_id: str, revoked_by: str) -> ApiKey:
    """End a key from the next request on, and with it the sessions that it began. Revoking twice changes nothing.

    Raises:
        KeyRefused: there is no such key.
    """
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None:
        raise KeyRefused(f"there is no key {key_id}: see `histobatch keys list`")
    if key.revoked_at is None:
        key.revoked_at, key.revoked_by = utc_now(), revoked_by
        session.add(key)
        record(session, revoked_by, "key.revoke", key_id, {"name": key.name})
    return key


def list_keys(session: Session) -> list[ApiKey]:
    """List all keys, oldest first, with those that have ended."""
    return list(session.exec(select(ApiKey).order_by(col(ApiKey.created_at), col(ApiKey.id))))


def is_use_to_note(key: ApiKey, now: datetime) -> bool:
    """Whether a use of the key now is worth a write."""
    return key.last_used_at is None or key.last_used_at <= now - _USE_NOTED_EVERY


def note_use(database: Database, key_id: str, now: datetime) -> None:
    """Note that a key was used; once an hour, whoever else notes it at the same time."""
    is_old = or_(col(ApiKey.last_used_at).is_(None), col(ApiKey.last_used_at) <= now - _USE_NOTED_EVERY)
    with database.write() as session:
        execute_dml(session, update(ApiKey).where(col(ApiKey.id) == key_id, is_old).values(last_used_at=now))
