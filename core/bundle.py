"""The model bundle: a folder that holds a trained model, how good it is, and proof that nothing was altered."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.errors import BundleError
from core.imaging import HEIGHT, PREPROCESSING, WIDTH
from core.settings import Settings

MANIFEST = "manifest.json"
NOTICE = "Research use only, not for diagnosis."
CLASSES = ("benign", "malignant")

Decision = Literal["benign", "malignant", "uncertain"]
Role = Literal["onnx", "openvino", "openvino-weights", "report", "card"]
Precision = Literal["fp32", "fp16", "int8", "none"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BundleFile(_Frozen):
    """One file of the bundle.

    Attributes:
        path: relative to the bundle's folder, with forward slashes.
        role: what the file is for; "openvino" names the .xml, "openvino-weights" the .bin beside it.
        precision: of the weights; "none" for files that hold none.
    """

    path: str
    role: Role
    precision: Precision = "none"
    bytes: int
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class InputGeometry(_Frozen):
    """What the exported graph takes: uint8 (N, height, width, 3), RGB, made by core.imaging."""

    width: int = WIDTH
    height: int = HEIGHT
    channels: Literal["RGB"] = "RGB"
    dtype: Literal["uint8"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"
    preprocessing: str = PREPROCESSING


class DecisionRule(_Frozen):
    """How a probability of malignancy becomes a decision.

    Attributes:
        threshold: the cut between the two classes.
        abstain_low, abstain_high: probabilities in between, both included, are "uncertain": a person must look.
            Equal to the threshold, they leave (almost) nothing uncertain.
    """

    threshold: float = Field(gt=0, lt=1)
    abstain_low: float = Field(ge=0, le=1)
    abstain_high: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> "DecisionRule":
        if not self.abstain_low <= self.threshold <= self.abstain_high:
            raise ValueError("abstain_low <= threshold <= abstain_high must hold")
        return self

    def decide(self, probability: float) -> Decision:
        """Name the decision for one probability of malignancy in [0, 1].

        Raises:
            ValueError: it is none, NaN for instance, which would otherwise compare as benign.
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"{probability} is no probability: the engine is broken")
        if self.abstain_low < self.abstain_high and self.abstain_low <= probability <= self.abstain_high:
            return "uncertain"
        return "malignant" if probability >= self.threshold else "benign"


class Metrics(_Frozen):
    """How good the model is, and how that was found out.

    Attributes:
        protocol: one sentence: which images, split how, by whom judged.
        shares_patients: whether training and judged images share patients (then the numbers flatter).
        values: metric name to value.
    """

    protocol: str
    shares_patients: bool
    values: dict[str, float]


class DataSet(_Frozen):
    """What the model was trained on.

    Attributes:
        fingerprint: sha256 over the sorted content hashes of the training images.
    """

    name: str
    images: int
    patients: int
    fingerprint: str
    licence: str
    attribution: str


class Manifest(_Frozen):
    """The bundle's table of contents, manifest.json."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    created_at: AwareDatetime
    classes: tuple[str, str] = CLASSES
    input: InputGeometry = InputGeometry()
    files: tuple[BundleFile, ...]
    decision: DecisionRule
    metrics: tuple[Metrics, ...]
    dataset: DataSet
    git_commit: str
    licence: str
    attribution: str
    notice: str = NOTICE

    @property
    def model_version(self) -> str:
        """The name under which results are stored: name@version."""
        return f"{self.name}@{self.version}"


class Bundle:
    """A verified bundle: every file that the manifest names is there and unaltered."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def model_version(self) -> str:
        """The name under which results are stored."""
        return self.manifest.model_version

    def file(self, role: Role, precision: Precision) -> Path | None:
        """Path of the file with this role and precision, None where the bundle has none."""
        for entry in self.manifest.files:
            if (entry.role, entry.precision) == (role, precision):
                return self.folder / entry.path
        return None


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and verify every file's sha256.

    Raises:
        BundleError: naming the file at fault and what to do.
    """
    manifest = read_usable_manifest(folder)
    for entry in manifest.files:
        _verify(folder, entry)
    return Bundle(folder, manifest)


def read_usable_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle that this version can serve, without verifying the files it names.

    Raises:
        BundleError: where it is missing, malformed or made for another preprocessing.
    """
    manifest = read_manifest(folder)
    if manifest.input.preprocessing != PREPROCESSING:
        raise BundleError(
            f"bundle {folder} was trained with preprocessing {manifest.input.preprocessing}, this version makes "
            f"{PREPROCESSING}: export it again, or use the version of histobatch that made it"
        )
    return manifest


def find_serving_folder(settings: Settings) -> Path:
    """Find the bundle with which workers that start now classify, where no model was activated.

    Raises:
        BundleError: where there is none.
    """
    return settings.model or newest_bundle_folder(settings.models)


def newest_bundle_folder(models: Path) -> Path:
    """Find the bundle with the highest version below a folder of bundles; verifies nothing.

    Raises:
        BundleError: where there is none.
    """
    found = [(_version_key(read_manifest(folder)), folder) for folder in iter_bundle_folders(models)]
    if not found:
        raise BundleError(f"no model bundle below {models}: set HISTOBATCH_MODEL to a bundle's folder")
    return max(found)[1]


def describe_file(folder: Path, path: Path, role: Role, precision: Precision = "none") -> BundleFile:
    """Make the manifest's entry for a file that lies inside the bundle's folder."""
    return BundleFile(
        path=path.relative_to(folder).as_posix(),
        role=role,
        precision=precision,
        bytes=path.stat().st_size,
        sha256=file_sha256(path),
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json, replacing an older one in a single step."""
    temporary = folder / f".{MANIFEST}.part"
    temporary.write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / MANIFEST)


def file_sha256(path: Path) -> str:
    """Hash a file in pieces; hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def iter_bundle_folders(models: Path) -> Iterator[Path]:
    """Yield the folders below models that hold a manifest, by name."""
    for path in sorted(models.glob(f"*/{MANIFEST}")):
        yield path.parent


def read_manifest(folder: Path) -> Manifest:
    """Read manifest.json without verifying the files it names.

    Raises:
        BundleError: where it is missing or malformed.
    """
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(f"no readable {MANIFEST} in {folder} ({error.strerror}): is this a model bundle?") from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{folder / MANIFEST} is not UTF-8: fetch the bundle again") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{folder / MANIFEST} is malformed at {where!r}: {first['msg']}") from error


def _verify(folder: Path, entry: BundleFile) -> None:
    path = folder / entry.path
    if re.search(r"(^|/)\.\.(/|$)|^/", entry.path):
        raise BundleError(f"bundle {folder} names a file outside itself: {entry.path}")
    if not path.is_file():
        raise BundleError(f"bundle {folder} lacks {entry.path}: fetch the bundle again")
    try:
        found = file_sha256(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): fetch the bundle again") from error
    if found != entry.sha256:
        raise BundleError(f"{path} is not the file its manifest names (sha256 differs): fetch the bundle again")


def _version_key(manifest: Manifest) -> tuple[tuple[int, ...], AwareDatetime]:
    return tuple(int(part) for part in manifest.version.split(".")), manifest.created_at
