"""What people write down of an archive, checked before anything is stored: each fault in one clear sentence."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)

from core.archive_tables import Archive
from core.definition_rules import check_glob, is_web_address, read_window, secret_key
from core.labels import parse_name_pattern
from core.lanes import Lane
from core.schedule import find_zone, fires_inside, next_fire
from core.storage.addresses import is_address
from core.tables import utc_now

NEWEST = "newest"
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_ID = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9._+-]+")
_MONTH_S = 31 * 86400

Glob = Annotated[str, Field(min_length=1, max_length=1024)]


class WebhookDefinition(BaseModel):
    """Who is told of each scan's report.

    Attributes:
        url: http or https. No redirects are followed.
        secret: whsec_ and 24 to 64 random bytes in base64; signs what is sent, and is never shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[str, Field(max_length=2048)]
    secret: SecretStr | None = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not is_web_address(value):
            raise ValueError("the webhook's url must be http://host/... or https://host/..., without user or password")
        return value

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            secret_key(value.get_secret_value())
        return value


class ArchiveDefinition(BaseModel):
    """A folder that is scanned again and again, and how.

    Attributes:
        name: lower-case letters, digits, - and _; for people and addresses, and never changed.
        root: absolute path below one of the roots that are allowed, or an address below a remote one.
        include, exclude: glob patterns on paths below the root; an empty include means every file.
        schedule: cron expression of five fields, in time_zone; null: people start its scans.
        time_zone: IANA name, such as Europe/Berlin.
        window: "22:00-06:00": nothing of a scan runs outside of it; null: always.
        lane: of its images; nightly comes last.
        model: "newest", or name@version, which then must serve.
        name_pattern: how patient, slide and magnification are read from names.
        manifest: CSV file below the root that says them instead; "" for none.
        settle_s: files younger than this wait for the next scan: someone may still write them.
        webhook: who is told of each report; null: nobody.
        enabled: whether the schedule counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str
    root: Annotated[str, Field(min_length=1, max_length=4096)]
    include: Annotated[tuple[Glob, ...], Field(max_length=100)] = ()
    exclude: Annotated[tuple[Glob, ...], Field(max_length=100)] = ()
    schedule: Annotated[str, Field(max_length=200)] | None = None
    time_zone: Annotated[str, Field(max_length=100)] = "UTC"
    window: str | None = None
    lane: Lane = Lane.NIGHTLY
    model: Annotated[str, Field(max_length=200)] = NEWEST
    name_pattern: Annotated[str, Field(max_length=1000)] = "breakhis"
    manifest: Annotated[str, Field(max_length=1024)] = "manifest.csv"
    settle_s: Annotated[float, Field(ge=0, le=_MONTH_S, strict=True)] = 300.0
    webhook: WebhookDefinition | None = None
    enabled: StrictBool = True

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value) or _ID.fullmatch(value):
            raise ValueError("a name is 1 to 63 of a-z, 0-9, - and _, begins and ends with a letter or digit, is no id")
        return value

    @field_validator("root")
    @classmethod
    def _check_root(cls, value: str) -> str:
        if "\0" in value or not (value.startswith("/") or is_address(value)):
            raise ValueError("the root must be an absolute path, or an address such as s3://bucket/prefix")
        return value

    @field_validator("include", "exclude")
    @classmethod
    def _check_globs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for glob in value:
            check_glob(glob)
        return value

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        find_zone(value)
        return value

    @field_validator("model")
    @classmethod
    def _check_model(cls, value: str) -> str:
        if value != NEWEST and not _MODEL.fullmatch(value):
            raise ValueError(f'the model must be "{NEWEST}" or name@version')
        return value

    @field_validator("name_pattern")
    @classmethod
    def _check_name_pattern(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("the name pattern must be text")
        parse_name_pattern(value)
        return value

    @field_validator("manifest")
    @classmethod
    def _check_manifest(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\0" in value:
            raise ValueError("the manifest must be a file below the root, named from there")
        return value

    @model_validator(mode="after")
    def _check_times(self) -> "ArchiveDefinition":
        read_window(self.window, self.time_zone)
        if self.schedule is not None and next_fire(self.schedule, self.time_zone, utc_now()) is None:
            raise ValueError(f"the schedule {self.schedule!r} never fires: no month that it names has such a day")
        return self

    def columns(self) -> dict[str, Any]:
        """The columns of its row."""
        start, _, stop = (self.window or "").partition("-")
        hook = self.webhook
        secret = hook.secret if hook else None
        own = {"window", "webhook", "model", "include", "exclude"}
        return self.model_dump(exclude=own) | {
            "include": list(self.include),
            "exclude": list(self.exclude),
            "window_start": start or None,
            "window_stop": stop or None,
            "model": None if self.model == NEWEST else self.model,
            "webhook_url": hook.url if hook else None,
            "webhook_secret": secret.get_secret_value() if secret else None,
        }


def definition_of(archive: Archive) -> dict[str, Any]:
    """What ArchiveDefinition would be read from to give this row; not checked again."""
    hook = {"url": archive.webhook_url, "secret": archive.webhook_secret} if archive.webhook_url else None
    derived = {"window", "model", "webhook"}
    fields = {name: getattr(archive, name) for name in ArchiveDefinition.model_fields.keys() - derived}
    return fields | {
        "window": f"{archive.window_start}-{archive.window_stop}" if archive.window_start else None,
        "model": archive.model or NEWEST,
        "webhook": hook,
    }


def find_doubts(definition: ArchiveDefinition, others: Mapping[str, str]) -> list[str]:
    """What is allowed and probably not meant, a sentence each.

    Args:
        others: roots of the other archives by name.
    """
    doubts = []
    window = read_window(definition.window, definition.time_zone)
    if definition.schedule and window and not fires_inside(definition.schedule, window, utc_now()):
        doubts.append("its schedule never fires inside its window: each scan waits until the window opens")
    for name, root in sorted(others.items()):
        if name != definition.name and (_is_below(definition.root, root) or _is_below(root, definition.root)):
            doubts.append(f"it shares files with the archive {name}, which reports them, too")
    return doubts


def describe_faults(error: ValidationError) -> list[str]:
    """What is wrong, a sentence each, without any value that was given."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{place}: {message}" if place else message)
    return faults


def _is_below(inner: str, outer: str) -> bool:
    return PurePosixPath(inner).is_relative_to(PurePosixPath(outer))
