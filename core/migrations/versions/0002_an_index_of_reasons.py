"""An index of reasons"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    has_reason = sa.text("reason IS NOT NULL")
    op.create_index(
        "ix_item_reason",
        "item",
        ["submission_id", "reason", "id"],
        sqlite_where=has_reason,
        postgresql_where=has_reason,
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_item_reason", "item")
