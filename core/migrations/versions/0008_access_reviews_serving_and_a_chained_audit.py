"""Keys, sessions, reviews, activations, workers, and an audit whose rows are chained"""

import hashlib
import json
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from core.tables import BIG_KEY, UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TO_REVIEW = sa.text("decision IN ('malignant', 'uncertain')")
_MOMENT = UtcDateTime(timezone=True)
_WORDS = ("who", "action", "subject")


def upgrade() -> None:
    """Apply."""
    _add_access()
    _add_serving()
    op.create_table(
        "review",
        sa.Column("id", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("result_id", BIG_KEY, nullable=False),
        sa.Column("item_id", BIG_KEY, nullable=False),
        sa.Column("submission_id", sa.String(32), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("reviewer", "said", "verdict", "note")),
    )
    op.create_index("ix_review_result", "review", ["result_id", "id"])
    op.create_index("ix_review_submission", "review", ["submission_id"])
    op.create_index(
        "ix_item_to_review", "item", ["decision", "id"], sqlite_where=_TO_REVIEW, postgresql_where=_TO_REVIEW
    )
    op.drop_index("ix_item_result_id", "item")
    op.create_index("ix_item_result_id", "item", ["result_id", "id"])
    _chain_audit()


def downgrade() -> None:
    """Take back; keys, reviews and activations are forgotten, the audit keeps its rows without their chain."""
    rows = op.get_bind().execute(sa.text("SELECT number, at, who, action, subject FROM audit ORDER BY number"))
    old = [dict(row._mapping) for row in rows]
    op.drop_table("audit")
    op.drop_table("audit_chain")
    if _is_postgresql():
        op.execute("DROP FUNCTION refuse_change()")
    table = op.create_table(
        "audit",
        sa.Column("id", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("at", _MOMENT, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _WORDS),
    )
    if old:
        op.bulk_insert(table, [{name: row[name] for name in _WORDS} | {"at": _as_moment(row["at"])} for row in old])
    op.drop_index("ix_item_result_id", "item")
    op.create_index("ix_item_result_id", "item", ["result_id"])
    op.drop_index("ix_item_to_review", "item")
    for name in ("review", "worker_presence", "model_activation", "web_session", "api_key"):
        op.drop_table(name)


def _add_access() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=True),
        sa.Column("revoked_at", _MOMENT, nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("last_used_at", _MOMENT, nullable=True),
    )
    op.create_table(
        "web_session",
        sa.Column("token_hash", sa.String(64), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_id", sa.String(12), nullable=True),
        sa.Column("credential_hash", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
    )
    op.create_index("ix_web_session_expires", "web_session", ["expires_at"])


def _add_serving() -> None:
    op.create_table(
        "model_activation",
        sa.Column("id", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("at", _MOMENT, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("who", "model_version", "note")),
        sa.Column("manifest_sha256", sa.String(64), nullable=True),
        sa.Column("follows", sa.BigInteger(), nullable=True),
    )
    op.create_table(
        "worker_presence",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("seen_at", _MOMENT, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("engine", "model_version")),
        sa.Column("wanted", sa.Text(), nullable=True),
    )


def _chain_audit() -> None:
    """Make the audit anew, with its rows in a chain, and have the database refuse to change one."""
    rows = op.get_bind().execute(sa.text("SELECT at, who, action, subject FROM audit ORDER BY id"))
    old = [dict(row._mapping) for row in rows]
    op.drop_table("audit")
    table = op.create_table(
        "audit",
        sa.Column("number", BIG_KEY, primary_key=True, autoincrement=False),
        sa.Column("at", _MOMENT, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in (*_WORDS, "detail")),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    end = "0" * 64
    chained = []
    for number, row in enumerate(old, start=1):
        moment = _as_moment(row["at"])
        fields = [number, moment.isoformat(timespec="microseconds"), *(row[name] for name in _WORDS), "{}"]
        text = json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        end = hashlib.sha256(end.encode() + text.encode()).hexdigest()
        chained.append({**row, "at": moment, "number": number, "detail": "{}", "hash": end})
    for name in _WORDS:
        op.create_index(f"ix_audit_{name}", "audit", [name, "number"])
    if chained:
        op.bulk_insert(table, chained)
    chain = op.create_table(
        "audit_chain",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.bulk_insert(chain, [{"id": 1, "length": len(chained), "hash": end}])
    _guard_audit()


def _guard_audit() -> None:
    if _is_postgresql():
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'rows of % are only ever added', TG_TABLE_NAME USING ERRCODE = 'check_violation'; END $$"
        )
    refuse = (
        "EXECUTE FUNCTION refuse_change()"
        if _is_postgresql()
        else "BEGIN SELECT RAISE(ABORT, 'rows of audit are only ever added'); END"
    )
    for event in ("update", "delete"):
        op.execute(f"CREATE TRIGGER audit_{event} BEFORE {event.upper()} ON audit FOR EACH ROW {refuse}")
    op.execute(f"CREATE TRIGGER audit_chain_delete BEFORE DELETE ON audit_chain FOR EACH ROW {refuse}")
    if _is_postgresql():
        for table in ("audit", "audit_chain"):
            op.execute(f"CREATE TRIGGER {table}_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refuse}")
    else:
        # INSERT OR REPLACE removes the row that was there without asking the trigger of DELETE.
        there = "EXISTS (SELECT 1 FROM audit WHERE number = NEW.number)"
        op.execute(f"CREATE TRIGGER audit_insert BEFORE INSERT ON audit FOR EACH ROW WHEN {there} {refuse}")


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _as_moment(value: datetime | str) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
