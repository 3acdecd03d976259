"""A run folder: what was asked, what came out, and the weights."""

import csv
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from core.bundle import DecisionRule
from trainer.errors import RunError

CHECKPOINT = "checkpoint.safetensors"
_Model = TypeVar("_Model", bound=BaseModel)


class RunConfig(BaseModel):
    """config.json: everything that decides the outcome of a run.

    Attributes:
        data: the folder of images, absolute; export reads calibration images from it.
        weights: the ImageNet weights and their source.
        judged_patients: the patients that each fold judged.
        bf16: whether the steps were computed in bfloat16.
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


class RunMetrics(BaseModel):
    """metrics.json: out-of-fold metrics, all images together and by magnification ("100")."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    decision: DecisionRule
    overall: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    by_magnification: dict[str, dict[str, float]]


@dataclass(frozen=True)
class RunFolder:
    """Paths and formats of one run."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make the folder.

        Raises:
            RunError: it holds another run, which is not overwritten.
        """
        if (path / "config.json").exists():
            raise RunError(f"{path} already holds a run: name another folder with --out, or remove this one")
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @property
    def checkpoint(self) -> Path:
        """The weights that are exported."""
        return self.path / CHECKPOINT

    def fold_checkpoint(self, fold: int) -> Path:
        """The weights of the network that judged a fold."""
        return self.path / f"fold-{fold}.safetensors"

    def write_config(self, config: RunConfig) -> None:
        """Write config.json."""
        write_json(self.path / "config.json", config.model_dump(mode="json"))

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
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Write a CSV file, replacing an older one in a single step."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    os.replace(temporary, path)


def _read(model: type[_Model], path: Path) -> _Model:
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"no readable {path.name} in {path.parent}: did the training end?") from error
    except ValidationError as error:
        raise RunError(f"{path} is malformed: {error.errors()[0]['msg']}") from error
