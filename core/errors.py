"""The error hierarchy, and the reason codes under which bad images are recorded."""

from enum import StrEnum


class HistobatchError(Exception):
    """Root of every error that this project raises on purpose."""


class PermanentError(HistobatchError):
    """Trying again cannot help: recorded, never retried."""


class TransientError(HistobatchError):
    """Trying again may help: retried a finite number of times."""


class ConfigurationError(PermanentError):
    """A setting is missing, contradictory or points at nothing."""


class BundleError(PermanentError):
    """A model bundle is missing, incomplete, altered or made for another preprocessing."""


class EngineError(PermanentError):
    """An inference engine cannot be built or run here."""


class FolderError(PermanentError):
    """A folder may not be read or is not there."""

    def __init__(self, reason: "Reason", detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class StorageAway(TransientError):
    """The storage that holds a submission's folder does not answer: its images are not at fault."""


class IllegalMove(PermanentError):
    """A state was to follow another that it may never follow: a fault of ours."""


class LeaseLost(TransientError):
    """Another worker holds the batch now: whatever was computed must not be written."""


class Reason(StrEnum):
    """Why an image has no result, or a submission no images. Stored in the database and shown to users."""

    # The content is no image that can be classified.
    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    CORRUPT = "corrupt"
    TRUNCATED = "truncated"
    UNSUPPORTED_PIXELS = "unsupported_pixels"
    MULTIPLE_FRAMES = "multiple_frames"
    TOO_SMALL = "too_small"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_BYTES = "too_many_bytes"
    # The file cannot be read.
    VANISHED = "vanished"
    PERMISSION_DENIED = "permission_denied"
    READ_FAILED = "read_failed"
    STILL_CHANGING = "still_changing"
    NOT_A_FILE = "not_a_file"
    OUTSIDE_ROOT = "outside_root"
    FOLDER_LINK = "folder_link"
    SYSTEM_FILE = "system_file"
    SIDECAR_FILE = "sidecar_file"
    # A zip or tar file in a folder, or a file in it, cannot be read in place.
    CONTAINER_UNREADABLE = "container_unreadable"
    CONTAINER_TOO_LARGE = "container_too_large"
    CONTAINER_NESTED = "container_nested"
    MEMBER_REFUSED = "member_refused"
    # The work was ended.
    CANCELLED = "cancelled"
    KILLS_WORKER = "kills_worker"
    STORAGE_AWAY = "storage_away"
    # The submission as a whole.
    FOLDER_MISSING = "folder_missing"
    FOLDER_NOT_ALLOWED = "folder_not_allowed"
    FOLDER_EMPTY = "folder_empty"
    UPLOAD_INVALID = "upload_invalid"
    # The submission waits.
    DISK_LOW = "disk_low"
    QUEUE_FULL = "queue_full"
    OUTSIDE_WINDOW = "outside_window"
    MODEL_AWAY = "model_away"
    # The scan of an archive as a whole.
    ROOT_EMPTY = "root_empty"
    TOO_MANY_MISSING = "too_many_missing"


class ImageRejected(PermanentError):
    """One image cannot be classified. Its neighbours can.

    Attributes:
        reason: the code that is stored with the image.
        detail: one sentence for people; holds no path and no pixel, so it may be logged.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
