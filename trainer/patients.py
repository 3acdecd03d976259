"""Are the patients who are judged strangers to the model?"""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from core.bundle import Bundle
from trainer.dataset.images import DataSet
from trainer.errors import RunError
from trainer.recipe import SHARED_PATIENTS
from trainer.run import RunConfig


@dataclass(frozen=True, kw_only=True)
class TrainingPatients:
    """The patients that a model was trained on.

    Attributes:
        names: those that are known by name.
        count: how many there were.
    """

    names: frozenset[str]
    count: int


@dataclass(frozen=True, kw_only=True)
class Acquaintance:
    """How many judged patients the model knows.

    Attributes:
        judged, known: numbers of patients.
        nameless: training patients whose names were not kept, so that any judged patient may be one of them.
    """

    judged: int
    known: int
    nameless: int

    @property
    def shared(self) -> bool:
        """Whether patients are shared, or cannot be shown not to be."""
        return self.known > 0 or self.nameless > 0

    @property
    def brand(self) -> str:
        """What every output must carry, "" where no patient is shared."""
        if self.known:
            return SHARED_PATIENTS
        return f"perhaps {SHARED_PATIENTS}" if self.nameless else ""

    def explain(self) -> str:
        """Say it in one sentence."""
        if self.known:
            return f"{self.known} of the {self.judged} judged patients are among those that the model was trained on"
        if self.nameless:
            return f"the names of {self.nameless} training patients were not kept, so any judged patient may be one"
        return f"none of the {self.judged} judged patients is among those that the model was trained on"


class _TrainedOn(BaseModel):
    """The part of a bundle's report/training.json that names patients."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    patients: int
    judged_patients: list[list[str]]


def patients_of_run(config: RunConfig) -> TrainingPatients:
    """Return a run's patients: each fold's judged ones are the others' training patients."""
    return _known(config.judged_patients, config.patients)


def patients_of_bundle(bundle: Bundle) -> TrainingPatients:
    """Return a bundle's patients, from its report.

    Raises:
        RunError: the report does not name them.
    """
    path = bundle.folder / "report" / "training.json"
    try:
        trained = _TrainedOn.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise RunError(f"{path} does not name the patients of the training: fetch the bundle again") from error
    return _known(trained.judged_patients, trained.patients)


def acquaintance(data: DataSet, trained: TrainingPatients) -> Acquaintance:
    """Compare the judged patients with those of the training."""
    return Acquaintance(
        judged=data.patient_count,
        known=len(set(data.patients.tolist()) & trained.names),
        nameless=trained.count - len(trained.names),
    )


def _known(judged: list[list[str]], count: int) -> TrainingPatients:
    names = frozenset(patient for fold in judged for patient in fold)
    return TrainingPatients(names=names, count=max(count, len(names)))
