"""Alembic's folder: how the tables came to their present form."""
