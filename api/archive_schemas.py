"""The wire format of /v1/archives and /v1/scans."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, SecretStr, StrictBool, StrictFloat

from core.archive_definitions import ArchiveDefinition
from core.bundle import NOTICE
from core.lanes import Lane
from core.states import ScanState


class ArchiveCreate(ArchiveDefinition):
    """An archive to be made. A webhook without a secret gets one, which the answer shows, once."""


class WebhookChange(BaseModel):
    """Whom to tell from now on. Without a secret the one that is there stays; a first one is made."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: str
    secret: SecretStr | None = None


class ArchiveChange(BaseModel):
    """What is to change of an archive. What is left out stays; null is a value where a field may have none."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    root: str | None = None
    include: list[str] | None = None
    exclude: list[str] | None = None
    schedule: str | None = None
    time_zone: str | None = None
    window: str | None = None
    lane: Lane | None = None
    model: str | None = None
    name_pattern: str | None = None
    manifest: str | None = None
    settle_s: StrictFloat | None = None
    webhook: WebhookChange | None = None
    enabled: StrictBool | None = None


class ScanCreate(BaseModel):
    """A scan that someone asks for.

    Attributes:
        accept_missing: files that are missing count as deleted, however many they are.
    """

    model_config = ConfigDict(extra="forbid")

    accept_missing: StrictBool = False


class ScanPublic(BaseModel):
    """One look through an archive, and what it found.

    Attributes:
        archive: its name.
        submission_id: what it found new or changed; there are progress, images and results. DELETE ends both.
        previous_id: the scan with which its report compares.
        asked_by: who began it; "schedule" for its schedule.
        accepts_missing: whether someone confirmed that missing files are deleted.
        reason, detail: why it failed; while it runs, what it waits for.
        waits_until: it goes on then; null where it does not wait.
        walked_at: when every folder had been compared.
        seen: files that were looked at: unchanged, new, changed, settling and unreadable ones.
        settling: too young, or changing at that moment; the next scan takes them.
        deleted: files that are gone. withheld: seem gone, but their folder was found empty.
        moved, duplicates: counted at the end: new paths with the content of a deleted, or another, file.
    """

    id: str
    archive: str
    submission_id: str
    previous_id: str | None
    state: ScanState
    reason: str | None
    detail: str | None
    waits_until: datetime | None
    asked_by: str
    accepts_missing: bool
    started_at: datetime
    walked_at: datetime | None
    finished_at: datetime | None
    seen: int
    unchanged: int
    new: int
    changed: int
    settling: int
    unreadable: int
    deleted: int
    withheld: int
    moved: int
    duplicates: int
    notice: str = NOTICE


class ScanPage(BaseModel):
    """Scans of an archive, newest first. next_cursor asks for the next page; None at the end."""

    scans: list[ScanPublic]
    next_cursor: str | None
    notice: str = NOTICE


class ArchivePublic(BaseModel):
    """An archive as it is defined, and when it is scanned.

    Attributes:
        root: readable form of the path; odd bytes and control characters are escaped.
        webhook_url: who is told of each report; the secret is never shown.
        defined_by: "api", or "file": the file of archives, which alone may change it.
        window_open: whether its scans may run at this moment.
        next_at: when its schedule begins the next scan.
        last_scan: the one that began last.
        doubts: what is allowed and probably not meant, a sentence each.
    """

    name: str
    root: str
    include: list[str]
    exclude: list[str]
    schedule: str | None
    time_zone: str
    window: str | None
    lane: Lane
    model: str
    name_pattern: str
    manifest: str
    settle_s: float
    webhook_url: str | None
    enabled: bool
    defined_by: str
    window_open: bool
    next_at: datetime | None
    created_at: datetime
    last_scan: ScanPublic | None
    doubts: list[str]
    notice: str = NOTICE


class ArchiveStored(ArchivePublic):
    """An archive that was made or changed.

    Attributes:
        new_webhook_secret: the secret that was made for its webhook in this request. It is never shown again.
    """

    new_webhook_secret: str | None


class ArchiveList(BaseModel):
    """Archives by name. next_cursor asks for the next page; None at the end.

    Attributes:
        file_faults: what is wrong with the file of archives, as this machine reads it; none of it is used meanwhile.
    """

    archives: list[ArchivePublic]
    file_faults: list[str]
    next_cursor: str | None
    notice: str = NOTICE
