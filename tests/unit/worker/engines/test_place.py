"""Where engines lie and what they are built for, by the settings."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings import Settings
from worker.engines.place import engines_folder, gpu_profile


def test_engines_lie_in_the_data_folder_unless_told_otherwise(tmp_path: Path) -> None:
    """A container's data folder may be read-only for workers."""
    assert engines_folder(Settings(data_dir=tmp_path)) == tmp_path / "engines"
    assert engines_folder(Settings(data_dir=tmp_path, engines=tmp_path / "other")) == tmp_path / "other"


def test_the_profile_is_that_of_the_settings() -> None:
    """A smaller GPU gets smaller calls."""
    profile = gpu_profile(Settings(gpu_opt_batch=16, gpu_max_batch=32))
    assert (profile.opt_batch, profile.max_batch) == (16, 32)
    with pytest.raises(ValidationError, match="HISTOBATCH_GPU_OPT_BATCH must not be larger"):
        Settings(gpu_opt_batch=64, gpu_max_batch=32)
