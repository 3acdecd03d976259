"""Times of the stages between decoding and inference: resize, wait, copy"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None

_STAGES = ("resize_ms", "wait_ms", "copy_ms")


def upgrade() -> None:
    """Apply."""
    for name in _STAGES:
        op.add_column("batch", sa.Column(name, sa.Float(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take back."""
    for name in _STAGES:
        op.drop_column("batch", name)
