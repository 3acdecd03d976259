"""Tables of serving: which model was activated when, and which workers there are."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Text
from sqlmodel import Field, SQLModel

from core.tables import BIG_KEY, UtcDateTime, utc_now


class ModelActivation(SQLModel, table=True):
    """Someone made a model the one that serves. Rows are only added; the newest counts.

    Without any row, the bundle that the settings name serves, or else the one with the highest version.

    Attributes:
        manifest_sha256: of the manifest that was verified, which names every file with its hash; null where the row
            only records what served before the first activation.
        follows: id of the row to which a rollback of this one returns; null where there is none.
    """

    __tablename__ = "model_activation"

    id: int | None = Field(default=None, sa_column=Column(BIG_KEY, primary_key=True, autoincrement=True))
    at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    who: str = Field(sa_type=Text)
    model_version: str = Field(sa_type=Text)
    note: str = Field(default="", sa_type=Text)
    manifest_sha256: str | None = Field(default=None, max_length=64)
    follows: int | None = Field(default=None, sa_type=BigInteger)


class WorkerPresence(SQLModel, table=True):
    """A worker that is there, as it says itself every few seconds; a worker that ends in order takes its row away.

    Attributes:
        name: host and process, as stored with the batches it classified.
        seen_at: by the worker's clock; one that has been silent for a minute is away.
        state: "serving", "loading" the active model, "waiting" where it cannot serve that, or "stopping".
        detail: why it waits.
        engine: what computes, and on what; empty where none is loaded.
        model_version: name@version that it has loaded; empty where none is.
        wanted: name@version that was activated, as far as it knows; null where none was.
    """

    __tablename__ = "worker_presence"

    name: str = Field(primary_key=True, sa_type=Text)
    started_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    seen_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    state: str = Field(default="serving", sa_type=Text)
    detail: str | None = Field(default=None, sa_type=Text)
    engine: str = Field(sa_type=Text)
    model_version: str = Field(sa_type=Text)
    wanted: str | None = Field(default=None, sa_type=Text)
