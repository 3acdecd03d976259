"""The real worker program around an engine that keeps a ledger: `python -m tests.faults.ledger_worker`."""

import os
import resource
from pathlib import Path

LEDGER = "FAULTS_LEDGER"
PAUSE_MS = "FAULTS_PAUSE_MS"


def main() -> None:
    """Run a worker as `histobatch worker` does, with the settings of the environment."""
    from core.log import configure_logging
    from core.settings import read_settings
    from tests.faults.ledger import LedgerEngine
    from worker import serving
    from worker.engines.protocol import Engine
    from worker.program import run_worker

    load_engine = serving.load_engine

    def load_with_ledger(*arguments: object) -> Engine:
        return LedgerEngine(load_engine(*arguments), Path(os.environ[LEDGER]), float(os.environ[PAUSE_MS]) / 1000)

    serving.load_engine = load_with_ledger
    # The engine may call abort(): nobody wants its core.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    settings = read_settings()
    configure_logging(settings.log_format)
    run_worker(settings)


if __name__ == "__main__":
    main()
