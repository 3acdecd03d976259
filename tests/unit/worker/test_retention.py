"""A worker takes what its settings say is too old, at most once an hour."""

from dataclasses import replace

from sqlmodel import select

from core.database import Database
from core.tables import Audit, Submission
from tests.assets.programs import wait_until
from tests.unit.core.test_retention import add_submission
from worker.context import WorkerContext
from worker.retention import purge_expired


def left(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.exec(select(Submission.id)))


def audited(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.exec(select(Audit.action)))


def _with(context: WorkerContext, **settings: object) -> WorkerContext:
    return replace(context, settings=context.settings.model_copy(update=settings))


def test_what_is_too_old_goes_by_itself(context: WorkerContext) -> None:
    """At the first look; what comes to age later goes an hour later."""
    add_submission(context.database)
    mine = _with(context, retention_days=90, retention_action="delete")
    purge_expired(mine)
    wait_until(lambda: "retention.delete" in audited(context.database), "the purge")
    assert left(context.database) == set()
    later = add_submission(context.database)
    purge_expired(mine)
    assert not mine.purges.begin(after_s=3599)
    assert left(context.database) == {later}


def test_without_the_setting_nothing_goes(context: WorkerContext) -> None:
    """Nobody loses results by an upgrade."""
    kept = add_submission(context.database)
    purge_expired(context)
    assert context.purges.begin(after_s=3600), "no purge began"
    assert left(context.database) == {kept}
