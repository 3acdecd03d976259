"""Worker contexts that classify with an engine of the test's own."""

from dataclasses import replace

from worker.context import WorkerContext
from worker.engines.protocol import Engine
from worker.serving import Slot


def with_engine(context: WorkerContext, engine: Engine) -> WorkerContext:
    """The same worker with another engine under the same model."""
    serving = context.slot.current
    assert serving is not None
    return replace(context, slot=Slot(replace(serving, engine=engine)))
