"""Whether the data disk has room for more."""

from http import HTTPStatus

from api.problems import ApiError
from core.errors import Reason
from core.pressure import free_bytes
from core.settings import Settings

# Somebody has to free the disk, or work has to end: neither takes seconds.
_RETRY_AFTER_S = 60


def check_disk(settings: Settings, coming_bytes: int = 0) -> None:
    """Refuse what would leave less free than must stay free. A full queue refuses nothing: listing waits instead.

    Args:
        coming_bytes: about to be written.

    Raises:
        ApiError: 507 disk_low.
    """
    free = free_bytes(settings.data_dir)
    if free - coming_bytes < settings.min_free_bytes:
        raise ApiError(
            HTTPStatus.INSUFFICIENT_STORAGE,
            Reason.DISK_LOW,
            f"{free // 2**20} MiB are free on the data disk, and {settings.min_free_bytes // 2**20} MiB must stay so",
            retry_after_s=_RETRY_AFTER_S,
        )
