"""A real Flower on the same broker knows our worker, its queues and its tasks, and asks for a password."""

import socket

import httpx
import pytest

from core.errors import ConfigurationError
from core.lanes import CLASSIFY_TASK, INTAKE_TASK, QUEUES
from core.settings import Settings
from tests.assets import images
from tests.assets.programs import wait_until
from worker.companions import run_flower

_PASSWORD = "a password for tests"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_flower_never_runs_open():
    """Flower can steer workers: without a password it does not start."""
    with pytest.raises(ConfigurationError, match="HISTOBATCH_FLOWER_PASSWORD must be set"):
        run_flower(Settings())


def test_flower_shows_our_worker_queues_and_tasks(house, images_root, program):
    """Its REST API names the worker with all queues and the tasks it ran, and refuses who brings no password."""
    (images_root / "a.png").write_bytes(images.plain())
    port = free_port()
    program("flower", house.settings, flower_port=port, flower_password=_PASSWORD)
    worker = program("worker", house.settings)
    worker.wait_for_log("worker_ready")
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("histobatch", _PASSWORD), timeout=20)

    def answers() -> bool:
        try:
            return client.get("/api/workers").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, "Flower answers")
    for auth in (None, ("histobatch", "wrong"), ("admin", _PASSWORD)):
        assert httpx.get(f"http://127.0.0.1:{port}/api/workers", auth=auth).status_code == 401

    def queues() -> set[str]:
        workers = client.get("/api/workers", params={"refresh": "1"}).json()
        return {queue["name"] for about in workers.values() for queue in about.get("active_queues", [])}

    wait_until(lambda: queues() == set(QUEUES), "Flower knows the worker's queues")
    mine = house.submit(images_root)
    house.wait_done(mine)

    def tasks() -> set[tuple[str, str]]:
        return {(task["name"], task["state"]) for task in client.get("/api/tasks").json().values()}

    wait_until(lambda: tasks() >= {(CLASSIFY_TASK, "SUCCESS"), (INTAKE_TASK, "SUCCESS")}, "Flower saw the tasks")
    assert _PASSWORD not in "".join(client.get(page).text for page in ("/", "/tasks"))
