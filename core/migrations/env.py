"""Run migrations on the connection that core.database hands over."""

from alembic import context
from sqlmodel import SQLModel

import core.access_tables
import core.archive_tables
import core.review_tables
import core.serving_tables
import core.tables  # noqa: F401 - these register the tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
