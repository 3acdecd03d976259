"""Keys: shown once, stored as a hash, ended at once."""

import re
from datetime import timedelta

import pytest
from sqlmodel import Session, select

from core.access import Scope
from core.access_tables import ApiKey
from core.database import Database
from core.keys import (
    KeyRefused,
    as_principal,
    find_key,
    is_use_to_note,
    list_keys,
    make_key,
    note_use,
    parse_key,
    revoke_key,
)
from core.tables import Audit, utc_now

_HOUR = timedelta(hours=1)


def _make(database: Database, name: str = "anna", **values: object) -> str:
    with database.write() as session:
        return make_key(session, name, {Scope.READ, Scope.SUBMIT}, made_by="root", **values)[1]  # type: ignore[arg-type]


def _find(session: Session, text: str, moment=None) -> ApiKey | None:
    parts = parse_key(text)
    assert parts is not None
    return find_key(session, parts, moment or utc_now())


def test_a_key_is_found_by_itself_and_stored_as_a_hash(database: Database) -> None:
    """Its form is fixed, its secret has 256 bits and stands nowhere in the database, and no two are the same."""
    text, other = _make(database), _make(database)
    assert re.fullmatch(r"hb_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", text)
    secret = text[16:]
    with database.read() as session:
        key = _find(session, text)
        assert key is not None
        assert (key.name, key.scopes, key.created_by) == ("anna", ["read", "submit"], "root")
        assert secret not in str([row.model_dump() for row in session.exec(select(ApiKey))])
        assert secret not in str([row.model_dump() for row in session.exec(select(Audit))])
        found = _find(session, other)
        assert found is not None
        assert found.id != key.id


def test_what_is_nearly_a_key_opens_nothing(database: Database) -> None:
    """Another secret under a known id, an unknown id, and what has not the form."""
    text, other = _make(database), _make(database)
    with database.read() as session:
        assert _find(session, text[:16] + other[16:]) is None
        assert _find(session, "hb_" + "0" * 12 + text[15:]) is None
    for broken in ("", "hb_", text[:-1], text + "x", text + "\n", text.upper(), text.replace("hb_", "hc_")):
        assert parse_key(broken) is None


def test_a_secret_does_not_show_in_what_is_printed(database: Database) -> None:
    """A key that gets into a message or a log by mistake brings no secret along."""
    text = _make(database)
    assert text[16:] not in repr(parse_key(text))


def test_an_expired_key_is_none(database: Database) -> None:
    """To the moment."""
    now = utc_now()
    text = _make(database, expires_at=now + _HOUR)
    with database.read() as session:
        assert _find(session, text, now + _HOUR - timedelta(seconds=1)) is not None
        assert _find(session, text, now + _HOUR) is None


def test_a_revoked_key_is_none_from_then_on(database: Database) -> None:
    """It stays in the list, and who ended it first is who ended it."""
    text = _make(database)
    for who in ("root", "mallory"):
        with database.write() as session:
            revoke_key(session, text[3:15], who)
    with database.read() as session:
        assert _find(session, text) is None
        (key,) = list_keys(session)
        assert (key.revoked_at is not None, key.revoked_by) == (True, "root")
        rows = session.exec(select(Audit).order_by(Audit.number)).all()  # type: ignore[arg-type]
        assert [(row.who, row.action, row.subject) for row in rows] == [
            ("root", "key.create", key.id),
            ("root", "key.revoke", key.id),
        ]


def test_revoking_what_is_not_there_is_an_error(database: Database) -> None:
    """A slip in the id must not look like a revocation."""
    with pytest.raises(KeyRefused, match="no key 0123"), database.write() as session:
        revoke_key(session, "0123", "root")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[31m", "x" * 101])
def test_a_name_that_cannot_be_read_is_refused(database: Database, name: str) -> None:
    """Names stand in tables, terminals and the audit."""
    with pytest.raises(KeyRefused):
        _make(database, name)


def test_a_key_without_a_scope_is_refused(database: Database) -> None:
    """It would open nothing, and nobody would know why."""
    with pytest.raises(KeyRefused, match="scope"), database.write() as session:
        make_key(session, "anna", set(), made_by="root")


def test_scopes_of_another_version_are_none(database: Database) -> None:
    """After a downgrade a key has less, not more; admin includes all."""
    key = ApiKey(id="0" * 12, name="a", secret_hash="", scopes=["read", "fly"], created_by="root")
    principal = as_principal(key)
    assert (principal.scopes, principal.key_id) == ({Scope.READ}, key.id)
    assert not principal.may(Scope.ADMIN)
    assert as_principal(ApiKey(**(key.model_dump() | {"scopes": ["admin"]}))).may(Scope.REVIEW)


def test_use_is_noted_once_an_hour(database: Database) -> None:
    """Reading stays reading: within the hour no write is asked for, and one that comes all the same changes nothing."""
    text = _make(database)
    first = utc_now()
    for moment, noted in ((first, first), (first + _HOUR / 2, first), (first + _HOUR, first + _HOUR)):
        with database.read() as session:
            key = _find(session, text)
            assert key is not None
            assert is_use_to_note(key, moment) == (noted == moment)
        note_use(database, key.id, moment)
        with database.read() as session:
            assert session.get_one(ApiKey, key.id).last_used_at == noted
