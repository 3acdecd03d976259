"""The rules at work: a real Prometheus asks a real API, raises alerts, and takes them back."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import SecretStr

from core.database import Database
from core.lanes import Lane
from core.serving_tables import WorkerPresence
from core.settings import PROJECT, Settings
from core.states import BatchState
from core.tables import Batch, utc_now
from tests.integration.api.server import add_batch, add_submission, running
from tests.integration.deploy.alert_rules import RULES, read_configuration

TOKEN = "a-token-for-prometheus"
PATIENCE_S = 60


def _quicken(folder: Path, target: str) -> Path:
    """Write our configuration and rules with short waits, a token's file of ours, and the running API's address."""
    (folder / "token").write_text(TOKEN)
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = "0s"
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    configuration = read_configuration()
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (scrape,) = configuration["scrape_configs"]
    scrape["authorization"]["credentials_file"] = str(folder / "token")
    scrape["static_configs"] = [{"targets": [target]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    return file


@contextmanager
def _running_prometheus(program: str, folder: Path, target: str) -> Iterator[httpx.Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        program,
        f"--config.file={_quicken(folder, target)}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log, httpx.Client(base_url=f"http://{address}/api/v1") as http:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield http
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_S)


def _firing(http: httpx.Client) -> dict[str, dict[str, Any]]:
    try:
        alerts = http.get("/alerts").json()["data"]["alerts"]
    except (httpx.HTTPError, ValueError, KeyError):
        return {}  # still starting
    return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}


def _wait(http: httpx.Client, is_so: Callable[[set[str]], bool]) -> dict[str, dict[str, Any]]:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so(set(firing := _firing(http))):
        assert time.monotonic() < deadline, sorted(firing)
        time.sleep(0.2)
    return firing


def test_no_worker_and_a_stuck_queue_are_raised_and_taken_back(
    prometheus: str, settings: Settings, sqlite: Database, tmp_path: Path
) -> None:
    """A batch that waits for an hour while there is no worker; then a worker comes and classifies it."""
    batch_id = add_batch(
        sqlite,
        add_submission(sqlite),
        images=10,
        state=BatchState.QUEUED,
        lane=Lane.URGENT,
        created_at=utc_now() - timedelta(hours=1),
    )
    folder = tmp_path / "prometheus"
    folder.mkdir()
    guarded = settings.model_copy(update={"api_token": SecretStr(TOKEN)})
    with (
        running(guarded, sqlite) as api,
        _running_prometheus(prometheus, folder, api.http.base_url.netloc.decode()) as http,
    ):
        expected = {"NoWorker", "QueueStuck", "OldestBatchTooOld"}
        firing = _wait(http, expected.__eq__)
        assert firing["NoWorker"]["labels"]["severity"] == "critical"
        assert firing["OldestBatchTooOld"]["annotations"]["summary"] == "The lane urgent does not keep up."
        assert "1h 0m" in firing["OldestBatchTooOld"]["annotations"]["description"]
        with sqlite.write() as session:
            session.add(WorkerPresence(name="here", engine="fake", model_version="fake@1"))
            batch = session.get_one(Batch, batch_id)
            batch.state, batch.started_at, batch.finished_at = BatchState.RUNNING, utc_now(), utc_now()
            session.add(batch)
            session.flush()
            batch.state, batch.benign = BatchState.DONE, 10
        _wait(http, lambda names: not names and _is_up(http))


def test_an_api_that_refuses_the_token_counts_as_down(
    prometheus: str, settings: Settings, sqlite: Database, tmp_path: Path
) -> None:
    """The metrics tell how much work there is and of which archives, so nobody reads them without a right to."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    guarded = settings.model_copy(update={"api_token": SecretStr("another")})
    with (
        running(guarded, sqlite) as api,
        _running_prometheus(prometheus, folder, api.http.base_url.netloc.decode()) as http,
    ):
        _wait(http, {"ApiDown"}.__eq__)


def test_prometheus_understands_every_query_of_the_dashboard(prometheus: str, tmp_path: Path) -> None:
    """Grafana would show a panel with an error, and nobody looks before they need it."""
    dashboard = json.loads((PROJECT / "deploy" / "grafana" / "dashboards" / "histobatch.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 20
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with _running_prometheus(prometheus, folder, "127.0.0.1:1") as http:
        _wait(http, {"ApiDown"}.__eq__)
        answers = {query: http.get("/query", params={"query": query}).json() for query in queries}
    assert {query: answer for query, answer in answers.items() if answer["status"] != "success"} == {}


def _is_up(http: httpx.Client) -> bool:
    """Whether no alert is raised because all is well, and not because nothing was asked."""
    found = http.get("/query", params={"query": 'up{job="histobatch"} == 1'}).json()["data"]["result"]
    return bool(found)
