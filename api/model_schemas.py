"""The wire format of /v1/models and /v1/workers: which model serves, and which workers there are."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import ModelPublic
from core.bundle import NOTICE
from core.presence import WorkerState

# name@version, as the manifest of a bundle has them.
MODEL_VERSION = "^[a-z0-9][a-z0-9-]*@[0-9]+\\.[0-9]+\\.[0-9]+$"
_MAX_NOTE = 500


class ActivationRequest(BaseModel):
    """Why a model is activated.

    Attributes:
        note: for the audit; never anything about a patient.
    """

    model_config = ConfigDict(extra="forbid")

    note: str = Field(default="", max_length=_MAX_NOTE)


class RollbackRequest(ActivationRequest):
    """Why the model before is to serve again.

    Attributes:
        serving: the model that whoever asks believes to serve; where another does by now, nothing is rolled back.
    """

    serving: str | None = Field(default=None, max_length=200)


class ActivationPublic(BaseModel):
    """Which model was activated last, so that it serves.

    Attributes:
        before: the model to which a rollback returns; null where none is known.
    """

    model_config = ConfigDict(protected_namespaces=())

    model_version: str
    at: datetime
    who: str
    note: str
    before: str | None
    notice: str = NOTICE


class ModelList(BaseModel):
    """The model bundles on the API's machine, the one that serves first.

    Attributes:
        activation: null where no model was ever activated; then the one of the settings serves.
    """

    models: list[ModelPublic]
    activation: ActivationPublic | None
    notice: str = NOTICE


class WorkerPublic(BaseModel):
    """A worker, as it said itself a few seconds ago.

    Attributes:
        state: serving; loading the active model, or waiting because it cannot, while it begins no batch; stopping; or
            away, where it was not heard for a minute.
        detail: why it waits.
        engine, model_version: what it has loaded; empty where nothing is.
        wanted: the model that was activated, as far as it knows.
    """

    model_config = ConfigDict(from_attributes=True, protected_namespaces=())

    name: str
    state: WorkerState
    detail: str | None
    engine: str
    model_version: str
    wanted: str | None
    started_at: datetime
    seen_at: datetime


class WorkerList(BaseModel):
    """The workers of the last day, by name; who ended in order is not among them."""

    workers: list[WorkerPublic]
    notice: str = NOTICE
