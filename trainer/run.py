"""A run folder: what was asked, what came out, and the weights."""

import csv
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.bundle import NOTICE, DecisionRule
from trainer.errors import RunError

CHECKPOINT = "checkpoint.safetensors"
PLAN, STATE = "plan.json", "state.safetensors"
_Model = TypeVar("_Model", bound=BaseModel)


class RunConfig(BaseModel):
    """config.json: everything that decides the outcome of a run. While it is not finished it stands in plan.json.

    Attributes:
        data: the folder of images, absolute; export reads calibration images from it.
        weights: the ImageNet weights and their source, or that the network began from scratch.
        folds: how many folds judged.
        judged_patients: the patients that each fold judged.
        bf16: whether the steps were computed in bfloat16.
        shares_patients: whether judged and training images share patients, which every output must say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    fingerprint: str
    images: int
    patients: int
    weights: str
    weights_sha256: str
    stride: str
    recipe: dict[str, object]
    folds: int
    seed: int
    judged_patients: list[list[str]]
    bf16: bool
    torch: str
    git_commit: str
    shares_patients: bool = False
    from_scratch: bool = False
    device: str = "cpu"
    processes: int = 1
    notice: str = NOTICE

    def decisive(self) -> dict[str, object]:
        """Return by name what a resumed run must have in common with the interrupted one."""
        names = ("fingerprint", "weights_sha256", "from_scratch", "stride", "folds", "seed", "judged_patients")
        machine = ("bf16", "device", "processes")
        recipe = {f"recipe.{key}": value for key, value in self.model_dump(mode="json")["recipe"].items()}
        return {name: getattr(self, name) for name in (*names, *machine)} | recipe

    def digest(self) -> str:
        """Return the sha256 of what is decisive."""
        return hashlib.sha256(json.dumps(self.decisive(), sort_keys=True).encode()).hexdigest()


class RunMetrics(BaseModel):
    """metrics.json: out-of-fold metrics, all images together, by magnification ("100") and by fold ("0").

    Attributes:
        shares_patients: whether judged and training images share patients, which every output must say.
        decision: on probabilities after `temperature`; so are all metrics.
        temperature: what the logits of the shipped network are divided by; fitted on all out-of-fold predictions.
        calibration: calibration errors before and after temperature scaling, cross-fitted by patient; see
            trainer.calibrate.
        by_fold: where judged folds overlap, as the official ones do, `overall` is the mean of these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    decision: DecisionRule
    overall: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    by_magnification: dict[str, dict[str, float]]
    shares_patients: bool = False
    by_fold: dict[str, dict[str, float]] = {}
    temperature: float = Field(default=1.0, gt=0)
    calibration: dict[str, float] = {}
    notice: str = NOTICE


@dataclass(frozen=True)
class RunFolder:
    """Paths and formats of one run."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Self:
        """Name a folder for a new run; nothing is written before the run begins.

        Raises:
            RunError: it holds another run, which is not overwritten, or is no folder.
        """
        if (path / "config.json").exists():
            raise RunError(f"{path} already holds a run: name another folder with --out, or remove this one")
        if (path / PLAN).exists():
            raise RunError(f"{path} holds an interrupted run: go on with --resume, or name another folder with --out")
        if any(path.glob("*.safetensors")):
            raise RunError(f"{path} holds weights of an unknown run: remove them, or name another folder with --out")
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file: name a folder with --out")
        return cls(path)

    @classmethod
    def resume(cls, path: Path) -> Self:
        """Open the folder of an interrupted run.

        Raises:
            RunError: there is none, or the run is finished.
        """
        if (path / "config.json").exists():
            raise RunError(f"the run in {path} is finished, there is nothing to resume")
        if not (path / PLAN).exists():
            raise RunError(f"{path} holds no interrupted run: leave --resume out to begin one")
        return cls(path)

    @contextmanager
    def begun(self, config: RunConfig) -> Iterator[None]:
        """Hold the folder, with the plan in it, against other processes while the run goes on.

        Raises:
            RunError: another process trains there, or the interrupted run was another one; the message names each
                difference.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(f"another process trains in {self.path}: wait for it, or name another --out") from error
            if (self.path / PLAN).exists():
                self._require_same(config)
            else:
                write_json(self.path / PLAN, config.model_dump(mode="json"))
            yield

    def _require_same(self, config: RunConfig) -> None:
        before, now = _read(RunConfig, self.path / PLAN).decisive(), config.decisive()
        odd = [
            f"{name} was {_short(before.get(name))}, is {_short(now.get(name))}"
            for name in sorted(before | now)
            if before.get(name) != now.get(name)
        ]
        if odd:
            raise RunError(
                f"{self.path} was begun otherwise ({'; '.join(odd)}): resume with the same, or name another --out"
            )

    @property
    def state(self) -> Path:
        """The state of the fit that is under way."""
        return self.path / STATE

    @property
    def checkpoint(self) -> Path:
        """The weights that are exported."""
        return self.path / CHECKPOINT

    def fold_checkpoint(self, fold: int) -> Path:
        """The weights of the network that judged a fold."""
        return self.path / f"fold-{fold}.safetensors"

    def finish(self, config: RunConfig) -> None:
        """Write config.json in place of plan.json: a folder with config.json is a whole run."""
        write_json(self.path / "config.json", config.model_dump(mode="json"))
        for name in (PLAN, ".lock"):
            (self.path / name).unlink(missing_ok=True)

    def write_metrics(self, metrics: RunMetrics) -> None:
        """Write metrics.json."""
        write_json(self.path / "metrics.json", metrics.model_dump(mode="json"))

    def read_config(self) -> RunConfig:
        """Read config.json; RunError where it is missing or malformed."""
        return _read(RunConfig, self.path / "config.json")

    def read_metrics(self) -> RunMetrics:
        """Read metrics.json; RunError where it is missing or malformed."""
        return _read(RunMetrics, self.path / "metrics.json")


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file, replacing an older one in a single step."""
    with _replacing(path) as stream:
        stream.write(json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Write a CSV file, replacing an older one in a single step."""
    with _replacing(path) as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def brand_csv(path: Path, column: str, value: str) -> None:
    """Add a column that says the same in every row."""
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    write_csv(path, (*header, column), [(*row, value) for row in rows])


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            yield stream
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read(model: type[_Model], path: Path) -> _Model:
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"no readable {path.name} in {path.parent}: did the training end?") from error
    except ValidationError as error:
        raise RunError(f"{path} is malformed: {error.errors()[0]['msg']}") from error
