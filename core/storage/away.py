"""Tell storage that is away from a file that is at fault."""

import errno
import os

# What network file systems and devices answer when they themselves are gone.
_AWAY = frozenset(
    {
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOMEDIUM,
    }
)
# Where these come, either the file or its storage may be at fault.
_DOUBTFUL = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.EREMOTEIO})


def is_storage_away(error: OSError, folder: bytes) -> bool:
    """Whether an error on a file below a submission's folder means that its storage is away.

    A folder that is gone, cannot be listed, or lies there empty (as a mount point does) speaks for its storage: it
    held the file when it was listed.
    """
    if error.errno in _AWAY:
        return True
    return error.errno in _DOUBTFUL and is_gone_or_empty(folder)


def is_gone_or_empty(folder: bytes) -> bool:
    """Whether a folder shows no file at all."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except (PermissionError, NotADirectoryError):
        return False
    except OSError:
        return True
