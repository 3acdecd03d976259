"""Archives, their scans and files, webhooks, and patients of images"""

import sqlalchemy as sa
from alembic import op

from core.tables import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = UtcDateTime(timezone=True)
_COUNTS = (
    "seen",
    "unchanged",
    "new",
    "changed",
    "settling",
    "unreadable",
    "deleted",
    "withheld",
    "moved",
    "duplicates",
)


def upgrade() -> None:
    """Apply."""
    op.add_column("submission", sa.Column("model", sa.Text(), nullable=True))
    op.add_column("submission", sa.Column("anonymised_at", _TIME, nullable=True))
    for name in ("patient", "slide", "magnification"):
        op.add_column("item", sa.Column(name, sa.Text(), nullable=True))
    _add_index("ix_item_patient", "item", ["submission_id", "patient", "slide"], where="patient IS NOT NULL")
    _create_archives()
    _create_scans()
    _create_files()
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("scan_id", sa.String(32), sa.ForeignKey("scan.id"), nullable=False, unique=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("next_at", _TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("delivered_at", _TIME, nullable=True),
        sa.Column("ended_at", _TIME, nullable=True),
    )
    _add_index("ix_delivery_waiting", "delivery", ["next_at"], where="ended_at IS NULL")


def downgrade() -> None:
    """Take back; archives are forgotten, the results of their images stay."""
    for table in ("delivery", "archive_file", "archive_folder", "scan", "archive"):
        op.drop_table(table)
    op.drop_index("ix_item_patient", "item")
    for name in ("patient", "slide", "magnification"):
        op.drop_column("item", name)
    for name in ("model", "anonymised_at"):
        op.drop_column("submission", name)


def _create_archives() -> None:
    op.create_table(
        "archive",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("include", sa.JSON(), nullable=False),
        sa.Column("exclude", sa.JSON(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("window_start", sa.Text(), nullable=True),
        sa.Column("window_stop", sa.Text(), nullable=True),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("name_pattern", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("settle_s", sa.Float(), nullable=False),
        sa.Column("webhook_url", sa.Text(), nullable=True),
        sa.Column("webhook_secret", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("defined_by", sa.Text(), nullable=False),
        sa.Column("next_at", _TIME, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
    )


def _create_scans() -> None:
    op.create_table(
        "scan",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("archive_id", sa.String(32), sa.ForeignKey("archive.id"), nullable=False),
        sa.Column("submission_id", sa.String(32), sa.ForeignKey("submission.id"), nullable=False, unique=True),
        sa.Column("previous_id", sa.String(32), nullable=True),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("accepts_missing", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("walked_at", _TIME, nullable=True),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.Column("position", sa.Text(), nullable=True),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _COUNTS),
    )
    op.create_index("ix_scan_archive", "scan", ["archive_id", "id"])
    _add_index("uq_scan_running", "scan", ["archive_id"], where="state = 'running'", unique=True)


def _create_files() -> None:
    op.create_table(
        "archive_folder",
        sa.Column("id", _BIG, primary_key=True, autoincrement=True),
        sa.Column("archive_id", sa.String(32), sa.ForeignKey("archive.id"), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("parent_id", _BIG, nullable=True),
        sa.UniqueConstraint("archive_id", "path", name="uq_archive_folder_path"),
    )
    op.create_index("ix_archive_folder_parent", "archive_folder", ["parent_id"])
    op.create_table(
        "archive_file",
        sa.Column("id", _BIG, primary_key=True, autoincrement=True),
        sa.Column("archive_id", sa.String(32), sa.ForeignKey("archive.id"), nullable=False),
        sa.Column("folder_id", _BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("item_id", _BIG, nullable=True),
        sa.Column("deleted_at", _TIME, nullable=True),
        sa.Column("deleted_by", sa.String(32), nullable=True),
        sa.UniqueConstraint("folder_id", "name", name="uq_archive_file_name"),
    )
    op.create_index("ix_archive_file_item", "archive_file", ["item_id"])
    op.create_index("ix_archive_file_deleted", "archive_file", ["deleted_by"])
    _add_index("ix_archive_file_there", "archive_file", ["archive_id", "id"], where="deleted_at IS NULL")


def _add_index(name: str, table: str, columns: list[str], *, where: str, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
