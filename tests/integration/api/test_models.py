"""Which model serves and which workers there are, over HTTP; rolling a model out and back."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from cli.checks import check_model
from core.bundle import NOTICE, describe_file, read_manifest, write_manifest
from core.presence import WorkerState, note_presence
from core.serving_tables import WorkerPresence
from core.tables import utc_now
from tests.assets.programs import run_histobatch
from tests.integration.api.server import Api, audited, running

OLD, NEW = "resnet50@1.9.0", "resnet50@1.10.0"


def say(api: Api, name: str, **values: object) -> None:
    """What a worker says of itself."""
    fields = {"engine": "openvino-int8", "model_version": OLD} | values
    with api.database.write() as session:
        note_presence(session, WorkerPresence(name=name, **fields))


def activate(api: Api, model: str, **body: object) -> dict[str, object]:
    answer = api.http.post(f"/v1/models/{model}/activate", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def serving(api: Api) -> str:
    first = api.http.get("/v1/models").json()["models"][0]
    assert first["serves"]
    return str(first["model_version"])


def test_a_model_is_activated_and_rolled_back(each_api: Api) -> None:
    """Who, when and why is told, and what a rollback returns to; both are in the audit."""
    answer = each_api.http.get("/v1/models").json()
    assert answer["activation"] is None
    assert serving(each_api) == NEW
    told = activate(each_api, OLD, note="the new one is too eager")
    assert (told["model_version"], told["who"], told["before"]) == (OLD, "api", NEW)
    assert (told["note"], told["notice"]) == ("the new one is too eager", NOTICE)
    assert serving(each_api) == OLD
    assert each_api.http.get("/v1/models").json()["activation"] == told
    back = each_api.http.post("/v1/models/rollback", json={"serving": OLD}).json()
    assert (back["model_version"], back["before"]) == (NEW, None)
    assert serving(each_api) == NEW
    assert [row for row in audited(each_api.database) if row[1].startswith("model.")] == [
        ("api", "model.activate", OLD),
        ("api", "model.rollback", NEW),
    ]


def test_a_second_api_process_tells_the_same(api: Api) -> None:
    """The database knows what serves, no process does."""
    with running(api.settings, api.database) as other:
        activate(api, OLD)
        assert serving(other) == OLD
        assert other.http.post("/v1/models/rollback").status_code == 200
    assert serving(api) == NEW


def test_a_rollback_that_cannot_be_says_why(api: Api) -> None:
    """Nothing served before; or another model serves than whoever asks believes."""
    answer = api.http.post("/v1/models/rollback")
    assert (answer.status_code, answer.json()["reason"]) == (409, "no_earlier_model")
    activate(api, OLD)
    answer = api.http.post("/v1/models/rollback", json={"serving": NEW})
    assert (answer.status_code, answer.json()["reason"]) == (409, "model_changed")
    assert serving(api) == OLD


@pytest.mark.parametrize(
    ("model", "status", "reason"),
    [
        ("resnet50@7.7.7", 404, "not_found"),
        ("resnet50", 422, "request_invalid"),
        ("..@1.0.0", 422, "request_invalid"),
    ],
)
def test_a_model_that_is_not_there_is_not_activated(api: Api, model: str, status: int, reason: str) -> None:
    """Nor is anything that is no name of a model."""
    answer = api.http.post(f"/v1/models/{model}/activate")
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


def test_a_damaged_bundle_is_not_rolled_out(api: Api, models: Path) -> None:
    """It names a file that is not there; what serves goes on serving, and the audit is as it was."""
    (models / "old" / "card.md").write_text("card")
    entry = describe_file(models / "old", models / "old" / "card.md", "card")
    write_manifest(models / "old", read_manifest(models / "old").model_copy(update={"files": (entry,)}))
    (models / "old" / "card.md").write_text("altered")
    answer = api.http.post(f"/v1/models/{OLD}/activate")
    assert (answer.status_code, answer.json()["reason"]) == (409, "bundle_refused")
    assert serving(api) == NEW
    assert audited(api.database) == []


def test_a_model_of_another_preprocessing_is_not_rolled_out(api: Api, models: Path) -> None:
    """It would load nowhere."""
    manifest = read_manifest(models / "old")
    foreign = manifest.input.model_copy(update={"preprocessing": "another"})
    write_manifest(models / "old", manifest.model_copy(update={"input": foreign}))
    answer = api.http.post(f"/v1/models/{OLD}/activate")
    assert (answer.status_code, answer.json()["reason"]) == (409, "bundle_refused")


def test_workers_are_listed(each_api: Api) -> None:
    """By name, with what each serves and why it waits."""
    say(each_api, "b:2", state=WorkerState.WAITING, detail="it is not there", wanted=NEW)
    say(each_api, "a:1", wanted=OLD)
    say(each_api, "c:3", seen_at=utc_now() - timedelta(minutes=5))
    answer = each_api.http.get("/v1/workers").json()
    assert answer["notice"] == NOTICE
    assert [(worker["name"], worker["state"], worker["wanted"]) for worker in answer["workers"]] == [
        ("a:1", "serving", OLD),
        ("b:2", "waiting", NEW),
        ("c:3", "away", None),
    ]
    assert answer["workers"][1]["detail"] == "it is not there"


def run(api: Api, *arguments: str) -> tuple[int, str]:
    done = run_histobatch("models", *arguments, "--api", api.http.base_url)
    return done.returncode, done.stdout + done.stderr


def test_the_command_shows_models_and_workers(api: Api) -> None:
    """What serves since when and by whom, how good each model is, and who serves what."""
    say(api, "a:1")
    activate(api, OLD, note="[red]calmer")
    status, text = run(api, "list")
    assert status == 0
    assert f"{OLD} serves since" in text
    assert "by api ([red]calmer). There is none to roll back to." in text
    assert "auc 0.800: held-out patients" in text
    assert "a:1" in text
    assert NOTICE in text


def test_the_command_waits_and_names_the_workers_that_cannot(api: Api) -> None:
    """And its status says so, so that a script stops there."""
    say(api, "a:1", wanted=OLD)
    say(api, "b:2", state=WorkerState.WAITING, wanted=OLD, model_version=NEW, detail="it is not there")
    status, text = run(api, "activate", OLD, "--wait")
    assert status == 1
    assert f"{OLD} serves since" in text
    assert f"1 of 2 workers serve {OLD}" in text
    assert "b:2 does not serve it, and tries again: it is not there" in text


def test_the_command_rolls_back(api: Api) -> None:
    """It says to what, and that there is no further step."""
    activate(api, OLD)
    status, text = run(api, "rollback", "--note", "too calm", "--wait")
    assert status == 0
    assert f"{NEW} serves since" in text
    assert "nothing: none served before" in text
    assert "no worker is present" in text


def test_the_api_is_not_ready_without_the_bundle_of_the_active_model(api: Api, models: Path) -> None:
    """Another bundle is there; but the one that serves cannot be shown, nor its rule be read."""
    activate(api, OLD)
    assert api.http.get("/ready").status_code == 200
    shutil.rmtree(models / "old")
    assert api.http.get("/ready").json()["failing"] == ["model"]


def test_doctor_names_the_model_that_serves_and_what_it_overrules(api: Api, models: Path) -> None:
    """Who set HISTOBATCH_MODEL, and sees another model serve, learns why."""
    named = api.settings.model_copy(update={"model": models / "new"})
    assert check_model(named) == f"{NEW}, every file as its manifest says"
    activate(api, OLD)
    said = check_model(named)
    assert said.startswith(f"{OLD}, every file as its manifest says; activated by api, which goes before")
    assert str(models / "new") in said
