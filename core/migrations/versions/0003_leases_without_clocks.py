"""Leases without clocks, parking, fair shares, and states that only move as drawn"""

import sqlalchemy as sa
from alembic import op

from core.lanes import Lane
from core.tables import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The moves of this version, written out: a migration must stay what it was when core.states changes.
_MOVES = {
    "submission": "accepted>listing accepted>parked accepted>cancelled listing>accepted listing>running "
    "listing>parked listing>cancelled listing>failed running>done running>parked running>cancelled parked>accepted "
    "parked>running parked>cancelled parked>failed",
    "batch": "queued>running queued>done queued>cancelled running>queued running>done running>split",
    "item": "pending>done pending>failed pending>skipped",
}
_UNSENT = sa.text("state = 'queued' AND sent_at IS NULL")
_SENT = sa.text("state = 'queued' AND sent_at IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    op.drop_index("ix_submission_open", "submission")
    op.drop_index("ix_batch_state_lease", "batch")
    # Column by column: SQLite would otherwise make the table anew, which rows that point to it do not survive.
    for table in ("submission", "batch"):
        op.drop_column(table, "lease_expires_at")
        op.add_column(table, sa.Column("heartbeats", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("batch", sa.Column("suspect", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("submission", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
    for name in ("listed_at", "parked_at", "retry_at"):
        op.add_column("submission", sa.Column(name, UtcDateTime(timezone=True), nullable=True))
    op.execute("UPDATE submission SET listed_at = created_at WHERE state IN ('running', 'done')")
    op.create_index("ix_submission_open", "submission", ["state", "lane"])
    op.create_index("ix_batch_unsent", "batch", ["submission_id", "id"], sqlite_where=_UNSENT, postgresql_where=_UNSENT)
    op.create_index("ix_batch_sent", "batch", ["lane", "sent_at"], sqlite_where=_SENT, postgresql_where=_SENT)
    lanes = op.create_table(
        "lane_control",
        sa.Column("lane", sa.Text(), primary_key=True),
        sa.Column("paused_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("virtual_time", sa.Float(), nullable=False),
    )
    op.bulk_insert(lanes, [{"lane": lane.value, "virtual_time": 0.0} for lane in Lane])
    op.create_table(
        "share",
        sa.Column("lane", sa.Text(), primary_key=True),
        sa.Column("submitter", sa.Text(), primary_key=True),
        sa.Column("served", sa.Float(), nullable=False),
    )
    _guard_moves()


def _guard_moves() -> None:
    """Have the database refuse every move of a state that is not drawn."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    if is_postgresql:
        op.execute(
            "CREATE FUNCTION refuse_move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'illegal move of % from % to %', TG_TABLE_NAME, OLD.state, NEW.state "
            "USING ERRCODE = 'check_violation'; END $$"
        )
    for table, moves in _MOVES.items():
        legal = ", ".join(f"'{move}'" for move in moves.split())
        is_illegal = f"OLD.state <> NEW.state AND (OLD.state || '>' || NEW.state) NOT IN ({legal})"
        refuse = (
            "EXECUTE FUNCTION refuse_move()"
            if is_postgresql
            else f"BEGIN SELECT RAISE(ABORT, 'illegal move of {table}'); END"
        )
        op.execute(
            f"CREATE TRIGGER {table}_moves BEFORE UPDATE OF state ON {table} FOR EACH ROW WHEN ({is_illegal}) {refuse}"
        )


def downgrade() -> None:
    """Take back."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    for table in _MOVES:
        op.execute(f"DROP TRIGGER {table}_moves" + (f" ON {table}" if is_postgresql else ""))
    if is_postgresql:
        op.execute("DROP FUNCTION refuse_move()")
    # What the older version does not know goes on as if it had just begun to wait.
    op.execute("UPDATE submission SET state = 'running' WHERE state = 'parked' AND listed_at IS NOT NULL")
    op.execute("UPDATE submission SET state = 'accepted' WHERE state = 'parked'")
    op.drop_table("share")
    op.drop_table("lane_control")
    op.drop_index("ix_batch_unsent", "batch")
    op.drop_index("ix_batch_sent", "batch")
    op.drop_index("ix_submission_open", "submission")
    for name in ("listed_at", "parked_at", "retry_at", "tries"):
        op.drop_column("submission", name)
    op.drop_column("batch", "suspect")
    for table in ("submission", "batch"):
        op.drop_column(table, "heartbeats")
        op.add_column(table, sa.Column("lease_expires_at", UtcDateTime(timezone=True), nullable=True))
    # What the newer version held has no end by the clock: the older one may take it at once.
    op.execute("UPDATE submission SET lease_expires_at = CURRENT_TIMESTAMP WHERE state = 'listing'")
    op.execute("UPDATE batch SET lease_expires_at = CURRENT_TIMESTAMP WHERE state = 'running'")
    op.create_index("ix_batch_state_lease", "batch", ["state", "lease_expires_at"])
    op.create_index("ix_submission_open", "submission", ["state", "lease_expires_at"])
