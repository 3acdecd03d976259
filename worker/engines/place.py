"""Where this machine keeps its GPU engines, and what they are built for."""

from pathlib import Path

from core.settings import Settings
from worker.engines.key import Profile


def engines_folder(settings: Settings) -> Path:
    """Return the folder of engines; may not be there yet."""
    return settings.engines or settings.data_dir / "engines"


def gpu_profile(settings: Settings) -> Profile:
    """Return the numbers of images that engines are built for."""
    return Profile(opt_batch=settings.gpu_opt_batch, max_batch=settings.gpu_max_batch)
