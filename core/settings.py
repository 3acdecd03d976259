"""Everything that can be configured, read once at start from HISTOBATCH_ variables."""

import math
import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.errors import ConfigurationError
from core.imaging import ImageLimits
from core.labels import parse_name_pattern
from core.storage.addresses import parse_address

PROJECT = Path(__file__).resolve().parent.parent
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_RATE = r"^(off|[1-9]\d{0,8}/(second|minute|hour))$"


class Settings(BaseSettings):
    """Settings of all programs; every field is the variable HISTOBATCH_<NAME>.

    Attributes:
        data_dir: where uploads, the default database and scratch files live; made when missing.
        database_url: SQLAlchemy URL; empty means SQLite in data_dir. PostgreSQL: postgresql+psycopg://...
        redis_url: the broker; carries ids of work, never results.
        roots: folders that may be submitted, with all below them; separated as in PATH. None means no folder
            may be submitted, only uploads.
        remote_roots: addresses that may be submitted, with all below them, separated by spaces: s3://bucket/prefix,
            sftp://host/folder.
        name_pattern: how patient, slide and magnification are read from the names of submitted files (core.labels).
        archives_file: TOML file that defines archives; None means that only the API and the command line do.
        public_url: address at which people reach the API, such as https://histobatch.hospital.example; begins the links
            in what webhooks are told.
        webhooks_to_this_machine: whether a webhook may be an address of a worker's own machine or of its link
            (127.0.0.1, 169.254.0.0/16 and their like), where services listen that trust who is near.
        retention_days: days after a submission's end at which retention_action is taken; 0: never.
        retention_action: "anonymise" takes names, patients and slides away and keeps results; "delete" deletes all.
        models: folder of model bundles; the one with the highest version serves.
        model: folder of the one bundle that serves, instead of the newest in models.
        engine: which engine classifies; "auto" takes the best that this machine can run.
        precision: of the CPU engine.
        engines: folder that keeps compiled GPU engines; None means engines in data_dir.
        gpu_opt_batch, gpu_max_batch: images in a call that GPU engines are tuned for, and the most they take.
        gpu_streams: calls that one worker has on its GPU at once, so that copies overlap with inference.
        batch_size: images in one unit of work.
        worker_concurrency: batches that one worker has in hand at once, so that one decodes while another infers.
        decode_processes: processes that decode for all batches of one worker; 0 takes one a core. Each may need 8 bytes
            a pixel of the largest image allowed.
        lease_s: seconds of silence after which a worker's batches are given to others; a live worker is heard four
            times in it.
        image_time_limit_s: seconds that decoding one image may take; longer counts as a death of its process.
        stuck_after_s: seconds without any progress on a batch or a listing after which a worker ends itself.
        deaf_after_s: seconds without a message, while some wait and a thread is free, after which a worker ends itself.
        worker_memory_bytes: resident memory (with decoding processes) above which a worker finishes and ends; 0: never.
        health_file: written by a worker that hears its database and broker, for orchestrators; None: nowhere.
        shutdown_grace_s: seconds that a stopping worker gives its batches before it hands them back.
        database_patience_s: seconds for which a worker tries again while the database is away.
        poison_after: times a batch may take its worker down before it is split in halves.
        reconcile_every_s: seconds between two looks for lost work.
        shares: weights of submitters within a lane, as "name=3,other=0.5"; who is not named has 1.
        storage_retry_s: seconds until the first new try of a submission whose storage is away; then twice as long.
        storage_give_up_s: seconds after which the images of storage that stays away fail.
        max_waiting_images: listed images without an outcome above which listing waits; urgent ones never do.
        min_free_bytes: free space in data_dir below which nothing new is taken in.
        max_image_bytes, max_image_pixels, min_image_side_px: outside of these an image is refused with a reason.
        max_upload_bytes, max_upload_files: of one upload; a zip counts unpacked.
        thumbnail_cache_bytes: what small pictures for people may take below data_dir; 0 keeps none.
        api_host, api_port: where the API listens.
        api_token: bearer token of an admin, beside the keys in the database; without it and without require_key the API
            must listen on loopback, and whoever reaches it there may do everything.
        require_key: nobody gets in without a key or the token, not even on loopback.
        api_key: key that the command line shows to the API, instead of api_token.
        session_hours: after which a browser must log in again.
        rate_limit, login_limit: requests of one key (of one address, where there is none), and tries to log in of one
            address, as "100/second", "6000/minute" or "1000/hour"; "off" for no limit. Each API process counts alone.
        max_body_bytes: of a request that is no upload.
        flower_port, flower_user, flower_password: Flower never runs without a password.
        log_format: "json" for machines, "console" for people.
    """

    model_config = SettingsConfigDict(env_prefix="HISTOBATCH_", frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Path("~/.local/share/histobatch")
    database_url: str = Field("", repr=False)
    redis_url: str = Field("redis://127.0.0.1:6379/0", repr=False)
    roots: Annotated[tuple[Path, ...], NoDecode] = ()
    remote_roots: Annotated[tuple[str, ...], NoDecode] = ()
    name_pattern: str = "breakhis"
    archives_file: Path | None = None
    public_url: str = ""
    webhooks_to_this_machine: bool = False
    retention_days: int = Field(0, ge=0, le=36_500)
    retention_action: Literal["anonymise", "delete"] = "anonymise"
    models: Path = PROJECT / "models"
    model: Path | None = None
    engine: Literal["auto", "openvino", "tensorrt", "fake"] = "auto"
    precision: Literal["int8", "fp32"] = "int8"
    engines: Path | None = None
    gpu_opt_batch: int = Field(128, ge=1, le=4096)
    gpu_max_batch: int = Field(256, ge=1, le=4096)
    gpu_streams: int = Field(2, ge=1, le=8)
    batch_size: int = Field(256, ge=1, le=4096)
    worker_concurrency: int = Field(2, ge=1, le=16)
    decode_processes: int = Field(0, ge=0, le=256)
    lease_s: float = Field(8, gt=0)
    image_time_limit_s: float = Field(60, gt=0)
    stuck_after_s: float = Field(300, gt=0)
    deaf_after_s: float = Field(30, gt=0)
    worker_memory_bytes: int = Field(0, ge=0)
    health_file: Path | None = None
    shutdown_grace_s: float = Field(8, ge=0)
    database_patience_s: float = Field(30, gt=0)
    poison_after: int = Field(2, ge=1)
    reconcile_every_s: float = Field(10, gt=0)
    shares: Annotated[dict[str, float], NoDecode] = Field(default_factory=dict)
    storage_retry_s: float = Field(20, gt=0)
    storage_give_up_s: float = Field(3 * 86400, gt=0)
    max_waiting_images: int = Field(5_000_000, gt=0)
    min_free_bytes: int = Field(2**30, ge=0)
    max_image_bytes: int = Field(256 * 2**20, gt=0)
    max_image_pixels: int = Field(50_000_000, gt=0)
    min_image_side_px: int = Field(32, ge=1)
    max_upload_bytes: int = Field(2 * 2**30, gt=0)
    max_upload_files: int = Field(20_000, gt=0)
    thumbnail_cache_bytes: int = Field(256 * 2**20, ge=0)
    api_host: str = "127.0.0.1"
    api_port: int = Field(8000, ge=0, le=65535)
    api_token: SecretStr = SecretStr("")
    require_key: bool = False
    api_key: SecretStr = SecretStr("")
    session_hours: float = Field(12, gt=0, le=24 * 31)
    rate_limit: str = Field("6000/minute", pattern=_RATE)
    login_limit: str = Field("10/minute", pattern=_RATE)
    max_body_bytes: int = Field(2**20, ge=2**10)
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

    @field_validator("remote_roots", mode="before")
    @classmethod
    def _split_remote_roots(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("name_pattern")
    @classmethod
    def _check_name_pattern(cls, value: str) -> str:
        parse_name_pattern(value)
        return value

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("write an address that begins with http:// or https://")
        return value.rstrip("/")

    @field_validator("redis_url")
    @classmethod
    def _refuse_open_broker(cls, value: str) -> str:
        url = urlsplit(value)
        # A socket is guarded by its file's rights, and TLS may ask for a certificate.
        is_guarded = url.password or not url.hostname or "ssl_certfile" in url.query
        if not is_guarded and url.hostname not in _LOOPBACK:
            raise ValueError(
                f"the broker at {url.hostname} has no password, so whoever reaches it could give workers orders: "
                "write redis://:PASSWORD@HOST:PORT/0"
            )
        return value

    @field_validator("remote_roots")
    @classmethod
    def _check_remote_roots(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(parse_address(root)) for root in value)

    @field_validator("shares", mode="before")
    @classmethod
    def _split_shares(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.rpartition("=") for part in value.split(",") if part.strip()]
        return {name.strip(): weight.strip() for name, _, weight in pairs}

    @field_validator("shares")
    @classmethod
    def _refuse_no_share(cls, value: dict[str, float]) -> dict[str, float]:
        for name, weight in value.items():
            if not name or not 0 < weight < math.inf:
                raise ValueError("write name=weight, separated by commas, each weight above 0")
        return value

    @field_validator("data_dir", "models", "model", "engines", "health_file", "archives_file")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return _expand_home(value).resolve() if value else None

    @model_validator(mode="after")
    def _refuse_open_door(self) -> "Settings":
        if self.api_host not in _LOOPBACK and not self.asks_who:
            raise ValueError(
                "HISTOBATCH_API_TOKEN must be set, or HISTOBATCH_REQUIRE_KEY be true, "
                "when HISTOBATCH_API_HOST is not loopback"
            )
        return self

    @model_validator(mode="after")
    def _refuse_untuned_gpu(self) -> "Settings":
        if self.gpu_opt_batch > self.gpu_max_batch:
            raise ValueError("HISTOBATCH_GPU_OPT_BATCH must not be larger than HISTOBATCH_GPU_MAX_BATCH")
        return self

    @property
    def asks_who(self) -> bool:
        """Whether the API lets nobody in without a key or the token."""
        return self.require_key or bool(self.api_token.get_secret_value())

    @property
    def database(self) -> str:
        """The database's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'histobatch.db'}"

    @property
    def uploads_dir(self) -> Path:
        """Where uploaded images lie, one folder a submission."""
        return self.data_dir / "uploads"

    @property
    def thumbnails_dir(self) -> Path:
        """Where thumbnails are kept, by content hash."""
        return self.data_dir / "thumbnails"

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
