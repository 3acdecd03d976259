"""The database itself, for commands that do not go by the API."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.database import Database
    from core.settings import Settings


@contextmanager
def open_database(settings: "Settings") -> Iterator["Database"]:
    """Open the settings' database for the time of a command.

    Raises:
        ConfigurationError: it does not answer, is damaged, or has not the tables of this version.
    """
    from sqlalchemy.exc import DatabaseError

    from core.database import Database
    from core.errors import ConfigurationError

    database = Database(settings.database)
    try:
        if not database.is_current():
            raise ConfigurationError("the database has not the tables of this version: run `histobatch migrate`")
        yield database
    except DatabaseError as error:
        raise ConfigurationError(f"the database cannot be read ({error.orig}): see `histobatch doctor`") from error
    finally:
        database.close()
