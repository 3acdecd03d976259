"""Settings are read once, from HISTOBATCH_ variables, and refuse what cannot work in one clear line."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from core.errors import ConfigurationError
from core.settings import PROJECT, Settings, read_settings


def test_the_defaults_start(monkeypatch):
    """A machine without any variable gets SQLite, a broker on loopback, and no folder may be submitted."""
    settings = read_settings()
    assert settings.database.startswith("sqlite:////")
    assert "~" not in settings.database
    assert settings.roots == ()
    assert settings.api_host == "127.0.0.1"
    assert settings.engine == "auto"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH_SIZE", "0"),
        ("BATCH_SIZE", "many"),
        ("LEASE_S", "-1"),
        ("WORKER_CONCURRENCY", "1000"),
        ("ENGINE", "abacus"),
        ("PRECISION", "int4"),
        ("ROOTS", "images"),
        ("ROOTS", "/ok:relative/one"),
        ("ROOTS", "~no-such-user-here/images"),
        ("DATA_DIR", "~no-such-user-here/data"),
        ("API_PORT", "70000"),
        ("LOG_FORMAT", "xml"),
        ("MAX_IMAGE_PIXELS", "0"),
    ],
)
def test_a_value_that_cannot_work_is_refused_in_one_line(name, value, monkeypatch):
    """The line names the variable, so that whoever reads it knows what to mend."""
    monkeypatch.setenv(f"HISTOBATCH_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        read_settings()
    assert f"HISTOBATCH_{name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_fault_is_named_at_once(monkeypatch):
    """Two wrong variables are mended in one go."""
    monkeypatch.setenv("HISTOBATCH_BATCH_SIZE", "0")
    monkeypatch.setenv("HISTOBATCH_ENGINE", "abacus")
    with pytest.raises(ConfigurationError, match=r"BATCH_SIZE.*; .*ENGINE|ENGINE.*; .*BATCH_SIZE"):
        read_settings()


def test_a_refusal_does_not_repeat_a_secret(monkeypatch):
    """What is wrong about a secret is said without the secret."""
    monkeypatch.setenv("HISTOBATCH_API_TOKEN", "hunter2-token")
    monkeypatch.setenv("HISTOBATCH_API_PORT", "x")
    with pytest.raises(ConfigurationError) as caught:
        read_settings()
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("HISTOBATCH_API_PORT")
    assert "hunter2" not in repr(read_settings())


def test_roots_are_split_like_path_and_resolved(monkeypatch, tmp_path):
    """Several roots stand side by side, as in PATH; links in them are resolved, empty parts dropped."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("HISTOBATCH_ROOTS", f"{tmp_path}/link::/srv/archive/")
    assert [str(root) for root in read_settings().roots] == [f"{tmp_path}/real", "/srv/archive"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5"])
def test_an_open_door_is_refused(host, monkeypatch):
    """Whoever lets others reach the API must ask them for a token."""
    monkeypatch.setenv("HISTOBATCH_API_HOST", host)
    with pytest.raises(ConfigurationError, match="HISTOBATCH_API_TOKEN must be set"):
        read_settings()
    monkeypatch.setenv("HISTOBATCH_API_TOKEN", "a-secret")
    assert read_settings().api_host == host


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    """Compose passes ${X:-} as an empty string."""
    monkeypatch.setenv("HISTOBATCH_LEASE_S", "")
    assert read_settings().lease_s == Settings().lease_s


def test_settings_do_not_change():
    """What a program started with, it ends with."""
    with pytest.raises(ValidationError):
        Settings().batch_size = 3


def test_importing_reads_nothing():
    """A variable that is invalid harms a program when it reads its settings, not when a module is imported."""
    script = """
import core.settings, core.queue, core.database, worker.tasks
from core.errors import ConfigurationError
try:
    core.settings.read_settings()
except ConfigurationError:
    print("refused when read")
"""
    environment = {"HISTOBATCH_BATCH_SIZE": "nonsense", "HISTOBATCH_ROOTS": "x", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT, env=environment
    )
    assert done.stdout.strip() == "refused when read"
