"""The health file: its age tells an orchestrator whether the worker works, at no cost."""

import json
import os
from datetime import UTC, datetime

from worker.context import WorkerContext


def write_health(context: WorkerContext) -> None:
    """Say that database and broker answered just now, where the settings name a file for that."""
    file = context.settings.health_file
    if file is None:
        return
    serving = context.slot.current
    text = json.dumps(
        {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "worker": context.name,
            "engine": serving.engine.name if serving else None,
            "model": serving.model_version if serving else None,
            # A worker that cannot serve the active model is well all the same: a restart would mend nothing.
            "state": context.slot.state,
            "detail": context.slot.trouble,
            "in_hand": [{"kind": holding.kind, "id": holding.id} for holding in context.holdings.all()],
        }
    )
    # Replaced in one step, so that a reader never sees half of it.
    scratch = file.with_name(f"{file.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(file)
