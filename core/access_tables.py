"""Tables of access: keys of people and programs, and sessions of browsers."""

from datetime import datetime

from sqlalchemy import JSON, Index
from sqlalchemy import Text as SqlText
from sqlmodel import Field, SQLModel

from core.tables import UtcDateTime, utc_now


class ApiKey(SQLModel, table=True):
    """A key with which a person or a program asks. The key itself is shown once and stored nowhere.

    Attributes:
        id: its public part, 12 hex digits; stands in logs and lists.
        name: whom it belongs to; submissions, reviews and the audit name this.
        secret_hash: SHA-256 of its secret part in hex. The secret has 256 random bits, so a slow hash adds nothing.
        scopes: what it may do (core.access.Scope).
        expires_at: None means never.
        last_used_at: to the hour.
    """

    __tablename__ = "api_key"

    id: str = Field(primary_key=True, max_length=12)
    name: str = Field(sa_type=SqlText)
    secret_hash: str = Field(max_length=64)
    scopes: list[str] = Field(default_factory=list, sa_type=JSON)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    created_by: str = Field(sa_type=SqlText)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_by: str | None = Field(default=None, sa_type=SqlText)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class WebSession(SQLModel, table=True):
    """A browser that logged in.

    Attributes:
        token_hash: SHA-256 of what the cookie holds, in hex.
        name: who logged in.
        key_id: the key that was shown; None for the token of the settings. A key's end is its sessions' end.
        credential_hash: SHA-256 of the token that was shown, in hex, so that a changed token ends its sessions; ""
            where key_id says it.
    """

    __tablename__ = "web_session"
    __table_args__ = (Index("ix_web_session_expires", "expires_at"),)

    token_hash: str = Field(primary_key=True, max_length=64)
    name: str = Field(sa_type=SqlText)
    key_id: str | None = Field(default=None, max_length=12)
    credential_hash: str = Field(default="", max_length=64)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
