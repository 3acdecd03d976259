"""Beat and Flower: programs beside the worker, which need the broker and nothing else."""

import os

from celery.signals import setup_logging

from core.errors import ConfigurationError
from core.queue import make_celery
from core.settings import Settings


def run_beat(settings: Settings) -> None:
    """Ask for reconciliation at intervals until a signal ends it."""
    keep_logging()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    app = make_celery(settings)
    # The file remembers the last run; beat is content without it, so that it may lie on scratch storage.
    app.start(
        ["--quiet", "beat", f"--schedule={settings.data_dir / 'beat-schedule'}", "--pidfile=", "--loglevel=WARNING"]
    )


def run_flower(settings: Settings) -> None:
    """Show workers and tasks in Flower, behind a password, until a signal ends it.

    Raises:
        ConfigurationError: no password is set.
    """
    password = settings.flower_password.get_secret_value()
    if not password:
        raise ConfigurationError("HISTOBATCH_FLOWER_PASSWORD must be set: Flower can steer workers")
    # By the environment, because every user of the machine can read a command line.
    os.environ["FLOWER_BASIC_AUTH"] = f"{settings.flower_user}:{password}"
    app = make_celery(settings)
    app.start(["flower", f"--address={settings.flower_host}", f"--port={settings.flower_port}", "--persistent=False"])


def keep_logging() -> None:
    """Keep Celery from replacing the log format that the command line set up."""

    @setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
    def leave_alone(**_: object) -> None:
        return
