"""Everything that can be configured, read once at start from HISTOBATCH_ variables."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.errors import ConfigurationError
from core.imaging import ImageLimits

PROJECT = Path(__file__).resolve().parent.parent
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """Settings of all programs; every field is the variable HISTOBATCH_<NAME>.

    Attributes:
        data_dir: where uploads, the default database and scratch files live; made when missing.
        database_url: SQLAlchemy URL; empty means SQLite in data_dir. PostgreSQL: postgresql+psycopg://...
        redis_url: the broker; carries ids of work, never results.
        roots: folders that may be submitted, with all below them; separated as in PATH. None means no folder
            may be submitted, only uploads.
        models: folder of model bundles; the one with the highest version serves.
        model: folder of the one bundle that serves, instead of the newest in models.
        engine: which engine classifies; "auto" takes the best that this machine can run.
        precision: of the CPU engine.
        batch_size: images in one unit of work.
        worker_concurrency: batches that one worker has in hand at once, so that one decodes while another infers.
        decode_processes: processes that decode for all batches of one worker; 0 takes one a core. Each may need 8 bytes
            a pixel of the largest image allowed.
        lease_s: seconds after which a batch whose worker fell silent is given to another; a live worker renews.
        shutdown_grace_s: seconds that a stopping worker gives its batches before it hands them back.
        poison_after: times a batch may take its worker down before it is split in halves.
        reconcile_every_s: seconds between two looks for lost work.
        max_image_bytes, max_image_pixels, min_image_side_px: outside of these an image is refused with a reason.
        max_upload_bytes, max_upload_files: of one upload; a zip counts unpacked.
        api_host, api_port: where the API listens.
        api_token: bearer token that /v1 and the pages ask for; required unless the API listens on loopback.
        flower_port, flower_user, flower_password: Flower never runs without a password.
        log_format: "json" for machines, "console" for people.
    """

    model_config = SettingsConfigDict(env_prefix="HISTOBATCH_", frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Path("~/.local/share/histobatch")
    database_url: str = ""
    redis_url: str = "redis://127.0.0.1:6379/0"
    roots: Annotated[tuple[Path, ...], NoDecode] = ()
    models: Path = PROJECT / "models"
    model: Path | None = None
    engine: Literal["auto", "openvino", "tensorrt", "fake"] = "auto"
    precision: Literal["int8", "fp32"] = "int8"
    batch_size: int = Field(256, ge=1, le=4096)
    worker_concurrency: int = Field(2, ge=1, le=16)
    decode_processes: int = Field(0, ge=0, le=256)
    lease_s: float = Field(120, gt=0)
    shutdown_grace_s: float = Field(8, ge=0)
    poison_after: int = Field(2, ge=1)
    reconcile_every_s: float = Field(10, gt=0)
    max_image_bytes: int = Field(256 * 2**20, gt=0)
    max_image_pixels: int = Field(50_000_000, gt=0)
    min_image_side_px: int = Field(32, ge=1)
    max_upload_bytes: int = Field(2 * 2**30, gt=0)
    max_upload_files: int = Field(20_000, gt=0)
    api_host: str = "127.0.0.1"
    api_port: int = Field(8000, ge=0, le=65535)
    api_token: SecretStr = SecretStr("")
    flower_host: str = "127.0.0.1"
    flower_port: int = Field(5555, ge=0, le=65535)
    flower_user: str = "histobatch"
    flower_password: SecretStr = SecretStr("")
    log_format: Literal["json", "console"] = "json"

    @field_validator("roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part for part in value.split(os.pathsep) if part)
        return value

    @field_validator("roots")
    @classmethod
    def _resolve_roots(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        expanded = tuple(_expand_home(root) for root in value)
        for root in expanded:
            if not root.is_absolute():
                raise ValueError(f"{root} is relative: name roots from /")
        return tuple(root.resolve() for root in expanded)

    @field_validator("data_dir", "models", "model")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return _expand_home(value).resolve() if value else None

    @model_validator(mode="after")
    def _refuse_open_door(self) -> "Settings":
        if self.api_host not in _LOOPBACK and not self.api_token.get_secret_value():
            raise ValueError("HISTOBATCH_API_TOKEN must be set when HISTOBATCH_API_HOST is not loopback")
        return self

    @property
    def database(self) -> str:
        """The database's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'histobatch.db'}"

    @property
    def uploads_dir(self) -> Path:
        """Where uploaded images lie, one folder a submission."""
        return self.data_dir / "uploads"

    def roots_of(self, source: str) -> tuple[Path, ...]:
        """Where files of a submission may lie, links followed, by its source: "folder" or "upload"."""
        return (self.uploads_dir,) if source == "upload" else self.roots

    @property
    def image_limits(self) -> ImageLimits:
        """What the decoder accepts."""
        return ImageLimits(max_pixels=self.max_image_pixels, min_side_px=self.min_image_side_px)


def read_settings() -> Settings:
    """Read and validate the environment.

    Raises:
        ConfigurationError: naming each variable at fault in one line.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [_one_line(fault["loc"], fault["msg"]) for fault in error.errors()]
        raise ConfigurationError("; ".join(lines)) from error


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path} names a home that is unknown here: name the folder from /") from error


def _one_line(location: tuple[int | str, ...], message: str) -> str:
    text = message.removeprefix("Value error, ")
    return f"HISTOBATCH_{str(location[0]).upper()}: {text}" if location else text
