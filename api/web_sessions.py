"""Sessions of browsers: a cookie whose hash the database knows, until it expires or what began it ends."""

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import Request, Response
from sqlalchemy import delete
from sqlmodel import Session, col, select

from core.access import Principal
from core.access_tables import ApiKey, WebSession
from core.audit import record
from core.database import execute_dml
from core.keys import hash_secret, is_usable
from core.settings import Settings

COOKIE = "histobatch_session"
_LONGEST_COOKIE = 100
# Subject of the audit where no key began the session.
_TOKEN = "token"  # noqa: S105 - a word, no secret


@dataclass(frozen=True)
class FoundSession:
    """A session that goes on: whose it is, and the key that began it, if one did."""

    name: str
    key: ApiKey | None


def begin_session(session: Session, principal: Principal, settings: Settings, now: datetime) -> str:
    """Begin a session of whoever showed a key or the token; returns what the cookie is to hold.

    Sessions that expired are swept here, where rows are written anyway.
    """
    session.execute(delete(WebSession).where(col(WebSession.expires_at) <= now))
    cookie = secrets.token_urlsafe(32)
    session.add(
        WebSession(
            token_hash=hash_secret(cookie),
            name=principal.name,
            key_id=principal.key_id,
            credential_hash="" if principal.key_id else _hash_token(settings),
            created_at=now,
            expires_at=now + timedelta(hours=settings.session_hours),
        )
    )
    record(session, principal.name, "session.begin", principal.key_id or _TOKEN)
    return cookie


def find_session(session: Session, cookie: str, settings: Settings, now: datetime) -> FoundSession | None:
    """Find the session of a cookie and the key that began it, in one read; None where either has ended."""
    if len(cookie) > _LONGEST_COOKIE:
        return None
    row = session.exec(
        select(WebSession, ApiKey)
        .outerjoin(ApiKey, col(ApiKey.id) == col(WebSession.key_id))
        .where(WebSession.token_hash == hash_secret(cookie))
    ).one_or_none()
    if row is None or row[0].expires_at <= now:
        return None
    found, key = row[0], row[1]
    if found.key_id is None:
        is_alive = bool(settings.api_token.get_secret_value()) and hmac.compare_digest(
            found.credential_hash, _hash_token(settings)
        )
    else:
        is_alive = key is not None and is_usable(key, now)
    return FoundSession(found.name, key) if is_alive else None


def end_session(session: Session, cookie: str, principal: Principal) -> None:
    """End the session of a cookie; nothing where it has ended."""
    is_its = col(WebSession.token_hash) == hash_secret(cookie)
    if execute_dml(session, delete(WebSession).where(is_its)):
        record(session, principal.name, "session.end", principal.key_id or _TOKEN)


def set_cookie(response: Response, request: Request, cookie: str, settings: Settings) -> None:
    """Have a browser keep the cookie: out of scripts' reach, never sent from other sites."""
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(settings.session_hours * 3600),
        path=_path(request),
        secure=is_https(request.scope.get("scheme"), settings),
        httponly=True,
        samesite="strict",
    )


def drop_cookie(response: Response, request: Request, settings: Settings) -> None:
    """Have a browser forget the cookie."""
    secure = is_https(request.scope.get("scheme"), settings)
    response.delete_cookie(COOKIE, path=_path(request), secure=secure, httponly=True, samesite="strict")


def is_https(scheme: str | None, settings: Settings) -> bool:
    """Whether people reach the API over HTTPS: as the request or the address that the settings name says."""
    return scheme == "https" or settings.public_url.startswith("https://")


def _hash_token(settings: Settings) -> str:
    return hash_secret(settings.api_token.get_secret_value())


def _path(request: Request) -> str:
    return str(request.scope.get("root_path", "")) or "/"
