"""Indexes that find images over all submissions: by patient, by slide, by decision and time"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    for name in ("patient", "slide"):
        condition = sa.text(f"{name} IS NOT NULL")
        op.create_index(f"ix_item_any_{name}", "item", [name, "id"], sqlite_where=condition, postgresql_where=condition)
    op.create_index("ix_result_decision", "result", ["decision", "created_at"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_result_decision", "result")
    for name in ("patient", "slide"):
        op.drop_index(f"ix_item_any_{name}", "item")
