"""Room on the disk: looked for before a run, and named when it ends all the same."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from trainer.errors import RunError
from trainer.recipe import Recipe

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OPTIMIZER_COPIES = {"adamw": 2, "sgd": 1, "rmsprop": 1}


def require_space(folder: Path, network: nn.Module, recipe: Recipe, checkpoints: int) -> None:
    """Refuse to begin a run that the disk cannot hold.

    Args:
        folder: of the run; it need not be there yet.
        network: what each checkpoint holds.
        recipe: decides how much the state of a fit holds.
        checkpoints: how many networks are still to be saved.

    Raises:
        RunError: naming what is needed and what is free.
    """
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    copies = 2 + _OPTIMIZER_COPIES[recipe.optimizer] + (recipe.soup > 1) + (recipe.early_stop is not None)
    needed = size * (checkpoints + 2 * copies)  # twice: the new state is written beside the old one
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise RunError(
            f"{folder} needs {needed / 1e9:.1f} GB for {checkpoints} checkpoints and the state of a fit, and "
            f"{free / 1e9:.1f} GB are free: free some space, or name a folder on another disk with --out"
        )


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turn the errors of writing into one that says what to do.

    Raises:
        RunError: a file of the run could not be written.
    """
    try:
        yield
    except OSError as error:
        reason = f"{error.filename or folder} cannot be written ({error.strerror or error})"
        if error.errno in _FULL:
            reason += ": the disk is full, free some space; --resume then goes on at the last saved step"
        raise RunError(reason) from error
