"""The wire format of /v1/lanes and /v1/status: the service as a whole."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from core.bundle import NOTICE
from core.errors import Reason
from core.lanes import Lane
from core.pressure import Level
from core.states import SubmissionState


class LaneSummary(BaseModel):
    """What waits and runs in a lane.

    Attributes:
        paused_at, paused_by: since when, and by whom, none of its batches is started; null while it runs.
        waiting: batches that no worker holds, those of parked submissions among them.
        at_broker: those of them whose turn has come; the others wait for theirs in the database.
        running: batches that workers hold.
        oldest_s: seconds since the oldest waiting batch was cut; 0 where none waits.
    """

    model_config = ConfigDict(from_attributes=True)

    lane: Lane
    paused_at: datetime | None
    paused_by: str | None
    waiting: int
    at_broker: int
    running: int
    waiting_images: int
    oldest_s: float


class SubmitterPublic(BaseModel):
    """How many images of one submitter wait in a lane, and which share of the lane is theirs.

    Attributes:
        weight: who has 2 is served twice as many images as who has 1, while both wait; from HISTOBATCH_SHARES.
    """

    submitter: str
    waiting_images: int
    weight: float


class LanePublic(LaneSummary):
    """A lane and whose images wait in it: at most 50 submitters, most images first."""

    submitters: list[SubmitterPublic]
    notice: str = NOTICE


class LaneList(BaseModel):
    """The lanes, in the order in which workers look into them."""

    lanes: list[LanePublic]
    notice: str = NOTICE


class IntakePublic(BaseModel):
    """Whether there is room for new work.

    Attributes:
        level: open; slow: listing pauses between batches; stopped: listing waits, and where the disk is full,
            nothing may be handed in.
        reason, detail: what limits; null while it is open.
        free_bytes: on the disk of the data folder, as the API's machine sees it.
        waiting_images: listed images that wait for a worker.
    """

    model_config = ConfigDict(from_attributes=True)

    level: Level
    reason: Reason | None
    detail: str | None
    free_bytes: int
    waiting_images: int


class StatusPublic(BaseModel):
    """The service at a glance.

    Attributes:
        submissions: how many there are in each state.
        outbox: batches that wait in the database for their turn, over all lanes.
        images_per_s: images with an outcome a second, over the last minute.
        engines: images of the last hour by the engine that their batches went to; where a GPU engine was refused and
            the CPU serves instead, it shows here.
    """

    intake: IntakePublic
    lanes: list[LaneSummary]
    submissions: dict[SubmissionState, int]
    outbox: int
    images_per_s: float
    engines: dict[str, int]
    notice: str = NOTICE
