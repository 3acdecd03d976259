"""Keep the archives as the TOML file of archives says."""

import structlog
from sqlalchemy.exc import IntegrityError

from core.archive_file import ArchiveFileError, read_archive_file, store_archive_file
from worker.context import WorkerContext

log = structlog.get_logger()


def read_definitions(context: WorkerContext) -> None:
    """Read the file of archives, where there is one, and store what differs.

    It is read at each look of the reconciler, not when its time changes: reading takes milliseconds, and a database
    that was restored, or a share whose times are wrong, needs no special case. A file that has a fault changes nothing.
    """
    path = context.settings.archives_file
    if path is None:
        return
    try:
        definitions = read_archive_file(path, context.settings)
    except ArchiveFileError as error:
        # Its faults may name folders: `histobatch archives` and `histobatch archives check` show them.
        log.error("archive_file_refused", faults=len(error.faults))
        return
    try:
        with context.database.write() as session:
            changed = store_archive_file(session, definitions)
    except IntegrityError:
        log.info("archive_file_read_elsewhere")  # another worker recorded the same new archive at this moment
        return
    if changed:
        log.info("archives_changed", archives=len(changed))
