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
        ("NAME_PATTERN", "(?P<patient"),
        ("REMOTE_ROOTS", "s3://bucket ftp://host/x"),
        ("REMOTE_ROOTS", "sftp://user:word@host/x"),
        ("PUBLIC_URL", "histobatch.hospital.example"),
        ("RETENTION_DAYS", "-1"),
        ("RETENTION_ACTION", "forget"),
        ("RATE_LIMIT", "many"),
        ("RATE_LIMIT", "0/minute"),
        ("LOGIN_LIMIT", "10/fortnight"),
        ("MAX_BODY_BYTES", "-1"),
        ("SESSION_HOURS", "0"),
        ("REDIS_URL", "redis://redis:6379/0"),
        ("REDIS_URL", "redis://name@10.0.0.5:6379/0"),
        ("REDIS_URL", "rediss://redis.example"),
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


def test_required_keys_stand_in_for_the_token(monkeypatch):
    """Where nobody gets in without a key, the API may listen anywhere, and asks who everybody is."""
    monkeypatch.setenv("HISTOBATCH_API_HOST", "0.0.0.0")
    monkeypatch.setenv("HISTOBATCH_REQUIRE_KEY", "true")
    assert read_settings().asks_who
    monkeypatch.delenv("HISTOBATCH_REQUIRE_KEY")
    monkeypatch.delenv("HISTOBATCH_API_HOST")
    assert not read_settings().asks_who


@pytest.mark.parametrize(
    "url",
    [
        "redis://:word@redis:6379/0",
        "rediss://name:word@10.0.0.5/1",
        "rediss://redis.example?ssl_certfile=/etc/tls/client.crt",
        "redis://localhost:6379/0",
        "redis://[::1]:6379/0",
        "redis+socket:///run/redis.sock",
    ],
)
def test_a_broker_asks_for_something_or_is_this_machines(url, monkeypatch):
    """A password, a certificate, or the rights of a file: whoever reaches a broker can have workers work."""
    monkeypatch.setenv("HISTOBATCH_REDIS_URL", url)
    assert read_settings().redis_url == url


def test_a_refused_broker_does_not_repeat_a_secret(monkeypatch):
    """The refusal names the host and nothing else of the address."""
    monkeypatch.setenv("HISTOBATCH_REDIS_URL", "redis://hunter2@redis.example/0")
    with pytest.raises(ConfigurationError, match=r"redis\.example") as caught:
        read_settings()
    assert "hunter2" not in str(caught.value)


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
