"""Passwords, tokens and keys stay out of every line that a program writes, also while everything fails."""

import base64
import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from pydantic import SecretStr
from redis import Redis

from core.lanes import CLASSIFY_TASK
from core.settings import Settings
from tests.assets import images
from tests.assets.programs import Program, programs_in, wait_until
from tests.integration.worker.conftest import House
from tests.integration.worker.test_flower import free_port

_DATABASE, _BROKER, _TOKEN, _FLOWER = (f"{name}-SECRET-8f1c" for name in ("database", "broker", "token", "flower"))
_TROUBLE = re.compile(r"away|cannot|refused|unavailable|error|not_ready|password", re.IGNORECASE)
Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs; kill them at the end."""
    with programs_in(tmp_path) as begin:
        yield begin


def test_programs_that_fail_name_no_secret(settings: Settings, start: Start) -> None:
    """Database and broker refuse api, worker, beat and Flower: each says so, and none repeats what it was told."""
    secrets = {
        "database_url": f"postgresql+psycopg://lab:{_DATABASE}@127.0.0.1:{free_port()}/histobatch",
        "redis_url": f"redis://:{_BROKER}@127.0.0.1:{free_port()}/0",
        "api_token": _TOKEN,
        "flower_password": _FLOWER,
        "log_format": "console",
        "database_patience_s": 1,
    }
    ports = {"api_port": free_port(), "flower_port": free_port()}
    programs = {
        name: start(name, settings, **secrets, **ports) for name in ("api", "worker", "beat", "flower", "migrate")
    }
    _ask_until_it_fails(ports["api_port"])
    for name, program in programs.items():
        wait_until(
            lambda program=program: _TROUBLE.search(program.log.read_text()) or program.process.poll() is not None, name
        )
    written = {name: program.log.read_text() for name, program in programs.items()}
    assert sum(bool(text) for text in written.values()) >= 3
    for name, text in written.items():
        for secret in (_DATABASE, _BROKER, _TOKEN, _FLOWER):
            assert secret not in text, (name, text[max(0, text.find(secret) - 300) :][:400])


def _ask_until_it_fails(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {_TOKEN}"}) as http:

        def answers() -> bool:
            try:
                return http.get("/ready", timeout=30).status_code == 503
            except httpx.TransportError:
                return False

        wait_until(answers, "the API says that it is not ready")
        assert _DATABASE not in (answer := http.get("/ready", timeout=30).text)
        assert _BROKER not in answer
        assert http.get(f"/v1/submissions?state={_TOKEN}", timeout=30).status_code == 422
        assert http.get("/v1/status", timeout=30).status_code == 503


def test_settings_print_no_secret() -> None:
    """A traceback, a debugger and a careless log line show their repr."""
    settings = Settings(
        database_url=f"postgresql+psycopg://lab:{_DATABASE}@host/x",
        redis_url=f"redis://:{_BROKER}@127.0.0.1/0",
        api_token=SecretStr(_TOKEN),
        flower_password=SecretStr(_FLOWER),
    )
    shown = f"{settings!r} {settings}"
    assert not [secret for secret in (_DATABASE, _BROKER, _TOKEN, _FLOWER) if secret in shown]


def _message(body: bytes, content_type: str) -> str:
    task_id = str(uuid.uuid4())
    properties = {
        "correlation_id": task_id,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "urgent"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": content_type,
            "headers": {"lang": "py", "task": CLASSIFY_TASK, "id": task_id, "retries": 0, "root_id": task_id},
            "properties": properties,
        }
    )


def test_a_worker_takes_json_only_and_lives(
    settings: Settings, images_root: Path, redis_url: str, start: Start, tmp_path: Path
) -> None:
    """YAML that would run code, unknown tasks, what is no JSON or of another shape: refused; then it classifies."""
    exploded = tmp_path / "exploded"
    run = f"!!python/object/apply:os.system ['touch {exploded}']"
    bodies = [
        _message(f"[[{run}], {{}}, {{}}]".encode(), "application/x-yaml"),
        _message(yaml.safe_dump([[1], {}, {}]).encode(), "application/x-yaml"),
        _message(b"\x80\x04K\x01.", "application/x-python-serialize"),
        _message(b"\x81\xa1a\x01", "application/x-msgpack"),
        _message(b"[[1], {}", "application/json"),
        _message(b'{"a": 1}', "application/json"),
        _message(b'[["1; DROP TABLE item"], {}, {}]', "application/json"),
        _message(b'[[99999999999999999999999], {"x": 1}, {}]', "application/json"),
        _message(b"[[1], {}, {}]", "application/json").replace(CLASSIFY_TASK, "os.system"),
    ]
    client = Redis.from_url(redis_url)
    for body in bodies:
        client.lpush("urgent", body)
    house = House(settings)
    worker = start("worker", settings)
    wait_until(lambda: client.llen("urgent") == 0, "the messages are taken")
    (images_root / "a").mkdir()
    (images_root / "a" / "x.png").write_bytes(images.plain())
    house.wait_done(house.submit(images_root / "a"))
    assert worker.process.poll() is None
    assert not exploded.exists()
    house.close()
