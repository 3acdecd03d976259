"""Names that programs agree on across the broker: lanes, queues and tasks."""

from enum import StrEnum


class Lane(StrEnum):
    """How urgent a submission is. Each lane is a queue; a worker empties an earlier lane first."""

    URGENT = "urgent"
    BULK = "bulk"
    NIGHTLY = "nightly"


# Intake and reconciliation: short or rare work that all lanes wait for, so it goes before them.
CONTROL_QUEUE = "control"
# The order in which a worker looks into the queues.
QUEUES = (CONTROL_QUEUE, *Lane)

INTAKE_TASK = "histobatch.intake"
CLASSIFY_TASK = "histobatch.classify"
RECONCILE_TASK = "histobatch.reconcile"
