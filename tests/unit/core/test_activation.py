"""Activations: what serves, who said so, and what a rollback returns to, on each database."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select

from core.activation import (
    NOBODY,
    ModelChanged,
    NoEarlierModel,
    VerifiedBundle,
    activate,
    find_active_bundle,
    find_bundle,
    read_active,
    read_earlier,
    roll_back,
    verify_bundle,
)
from core.audit_search import detail_of
from core.bundle import MANIFEST, file_sha256, read_manifest, write_manifest
from core.errors import BundleError
from core.presence import (
    WorkerState,
    forget_silent_workers,
    forget_worker,
    note_presence,
    read_workers,
)
from core.serving_tables import ModelActivation, WorkerPresence
from core.settings import Settings
from core.tables import Audit, utc_now
from tests.assets.bundles import alter, copy_bundle
from tests.integration.api.server import write_bundle


@pytest.fixture
def bundles(settings: Settings, tmp_path: Path) -> Settings:
    """Settings of a machine without any bundle."""
    (tmp_path / "models").mkdir()
    return settings.model_copy(update={"models": tmp_path / "models", "engine": "openvino"})


def activated(database, settings, model_version, who="anna", note="") -> ModelActivation:
    with database.write() as session:
        return activate(session, settings, VerifiedBundle(model_version, file_hash(model_version)), who, note)


def rolled_back(database, serving=None) -> str:
    with database.read() as session:
        earlier = read_earlier(session).model_version
    with database.write() as session:
        return roll_back(session, VerifiedBundle(earlier, file_hash(earlier)), "ben", serving=serving).model_version


def file_hash(model_version: str) -> str:
    return model_version.encode().hex().ljust(64, "0")[:64]


def history(database) -> list[tuple[str, str]]:
    with database.read() as session:
        rows = session.exec(select(ModelActivation).order_by(col(ModelActivation.id))).all()
        return [(row.who, row.model_version) for row in rows]


def test_the_newest_activation_counts(database, bundles):
    """Whatever came before stays on record."""
    with database.read() as session:
        assert read_active(session) is None
    for version in ("m@1.0.0", "m@3.0.0", "m@2.0.0"):
        activated(database, bundles, version)
    with database.read() as session:
        active = read_active(session)
    assert (active.model_version, active.manifest_sha256) == ("m@2.0.0", file_hash("m@2.0.0"))
    assert [model for _, model in history(database)] == ["m@1.0.0", "m@3.0.0", "m@2.0.0"]


def test_what_serves_already_stays_as_it_is(database, bundles):
    """A second click changes nothing and is not in the audit; the same name with other files is another model."""
    first = activated(database, bundles, "m@1.0.0")
    assert activated(database, bundles, "m@1.0.0", who="ben").id == first.id
    with database.write() as session:
        activate(session, bundles, VerifiedBundle("m@1.0.0", "f" * 64), "ben")
        assert session.info
    assert history(database) == [("anna", "m@1.0.0"), ("ben", "m@1.0.0")]


def test_each_rollback_goes_one_step_further_back(database, bundles):
    """It never brings back the model that it left: who rolls back twice means two steps."""
    for version in ("m@1.0.0", "m@2.0.0", "m@3.0.0"):
        activated(database, bundles, version)
    assert rolled_back(database) == "m@2.0.0"
    assert rolled_back(database) == "m@1.0.0"
    with pytest.raises(NoEarlierModel, match=r"m@1\.0\.0 serves"):
        rolled_back(database)
    activated(database, bundles, "m@4.0.0")
    assert rolled_back(database) == "m@1.0.0"


def test_without_an_activation_there_is_nothing_to_roll_back(database):
    """The message says what to do instead."""
    with pytest.raises(NoEarlierModel, match="activate a model by its name"):
        rolled_back(database)


def test_a_rollback_of_a_model_that_serves_no_more_does_nothing(database, bundles):
    """Two people who roll back the same model at once go one step, not two."""
    for version in ("m@1.0.0", "m@2.0.0", "m@3.0.0"):
        activated(database, bundles, version)
    assert rolled_back(database, serving="m@3.0.0") == "m@2.0.0"
    with pytest.raises(ModelChanged, match=r"m@2\.0\.0 serves by now"):
        rolled_back(database, serving="m@3.0.0")
    assert len(history(database)) == 4


def test_two_who_roll_back_at_once_go_one_step(database, bundles):
    """One of them learns that the model has changed."""
    for version in ("m@1.0.0", "m@2.0.0", "m@3.0.0"):
        activated(database, bundles, version)
    both = threading.Barrier(2)

    def try_it(_: int) -> str:
        both.wait(60)
        try:
            return rolled_back(database, serving="m@3.0.0")
        except ModelChanged:
            return "changed"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(try_it, range(2))) == ["changed", "m@2.0.0"]


def test_a_rollback_whose_bundle_was_not_the_one_verified_does_nothing(database, bundles):
    """Somebody activated another model while the bundle was being hashed."""
    for version in ("m@1.0.0", "m@2.0.0"):
        activated(database, bundles, version)
    with database.write() as session, pytest.raises(ModelChanged):
        roll_back(session, VerifiedBundle("m@7.0.0", "f" * 64), "ben")


def add_worker(database, name, model_version="m@1.0.0", engine="openvino-int8", **values) -> None:
    with database.write() as session:
        row = WorkerPresence(name=name, model_version=model_version, engine=engine, **values)
        note_presence(session, row)


def test_the_first_activation_remembers_what_workers_served(database, bundles):
    """The new bundle lies there already and has the highest version: settings would name it, workers know better."""
    write_bundle(bundles.models / "new", "2.0.0")
    for number, served in enumerate(("resnet50@1.0.0", "resnet50@1.0.0", "resnet50@0.9.0")):
        add_worker(database, f"w{number}", served)
    add_worker(database, "w7", "fake@0.0.0", engine="fake")
    activated(database, bundles, "resnet50@2.0.0")
    assert history(database) == [(NOBODY, "resnet50@1.0.0"), ("anna", "resnet50@2.0.0")]
    assert rolled_back(database) == "resnet50@1.0.0"


def test_the_first_activation_without_workers_remembers_what_the_settings_name(database, bundles):
    """Where that is the same model, there is nothing to roll back to."""
    write_bundle(bundles.models / "old", "1.0.0")
    activated(database, bundles, "resnet50@2.0.0")
    assert rolled_back(database) == "resnet50@1.0.0"


def test_the_first_activation_of_what_serves_has_nothing_before(database, bundles):
    """It pins the model: a bundle with a higher version that is copied there later does not serve by itself."""
    write_bundle(bundles.models / "old", "1.0.0")
    active = activated(database, bundles, "resnet50@1.0.0")
    assert history(database) == [("anna", "resnet50@1.0.0")]
    write_bundle(bundles.models / "new", "2.0.0")
    assert find_active_bundle(bundles, active) == bundles.models / "old"
    assert find_active_bundle(bundles, None) == bundles.models / "new"


def test_an_activation_goes_before_the_setting_of_a_model(bundles, tmp_path):
    """And the bundle of the setting may be activated although it lies elsewhere."""
    write_bundle(bundles.models / "a", "1.0.0")
    write_bundle(tmp_path / "elsewhere", "2.0.0")
    named = bundles.model_copy(update={"model": tmp_path / "elsewhere"})
    assert find_active_bundle(named, None) == tmp_path / "elsewhere"
    one = ModelActivation(who="anna", model_version="resnet50@1.0.0")
    assert find_active_bundle(named, one) == bundles.models / "a"
    assert find_bundle(named, "resnet50@2.0.0") == tmp_path / "elsewhere"


def test_two_different_bundles_of_one_name_are_refused(bundles):
    """Results are stored under the name: nobody could tell which of them made one. Equal copies are one bundle."""
    for name in ("a", "b"):
        write_bundle(bundles.models / name, "1.0.0")
    assert find_bundle(bundles, "resnet50@1.0.0") == bundles.models / "a"
    manifest = read_manifest(bundles.models / "b")
    write_manifest(bundles.models / "b", manifest.model_copy(update={"git_commit": "1" * 40}))
    with pytest.raises(BundleError, match="a, b are different bundles"):
        find_bundle(bundles, "resnet50@1.0.0")


def test_only_a_whole_bundle_is_verified(bundles):
    """A byte that differs, a file that is gone, a model that is not there: each says so."""
    name = copy_bundle(bundles.models, "8.0.0")
    found = verify_bundle(bundles, name)
    assert found == VerifiedBundle(name, file_sha256(bundles.models / "8.0.0" / MANIFEST))
    alter(bundles.models, "8.0.0")
    with pytest.raises(BundleError, match="sha256 differs"):
        verify_bundle(bundles, name)
    (bundles.models / "8.0.0" / "MODEL_CARD.md").unlink()
    with pytest.raises(BundleError, match="lacks MODEL_CARD"):
        verify_bundle(bundles, name)
    with pytest.raises(BundleError, match="copy it there"):
        verify_bundle(bundles, "m@1.0.0")


def test_who_activated_what_is_in_the_audit(database, bundles):
    """With the model before, the note, and the hash of what was verified."""
    activated(database, bundles, "m@1.0.0", note="first")
    activated(database, bundles, "m@2.0.0")
    rolled_back(database)
    with database.read() as session:
        rows = session.exec(select(Audit).order_by(col(Audit.number))).all()
    assert [(row.who, row.action, row.subject) for row in rows] == [
        ("anna", "model.activate", "m@1.0.0"),
        ("anna", "model.activate", "m@2.0.0"),
        ("ben", "model.rollback", "m@1.0.0"),
    ]
    assert detail_of(rows[0]) == {"before": None, "note": "first", "manifest": file_hash("m@1.0.0")}
    assert detail_of(rows[2])["before"] == "m@2.0.0"


# Presence


def test_workers_are_told_by_what_they_said_last(database):
    """One that was silent for a minute is away, for a day is forgotten; one that ended in order is gone."""
    now = utc_now()
    for name, silent in (("a", timedelta()), ("b", timedelta(minutes=2)), ("c", timedelta(days=2))):
        add_worker(database, name, seen_at=now - silent, state=WorkerState.WAITING, detail="no bundle")
    add_worker(database, "d")
    add_worker(database, "a", seen_at=now, wanted="m@1.0.0")
    with database.write() as session:
        forget_worker(session, "d")
    with database.read() as session:
        found = read_workers(session)
    assert [(worker.name, worker.state, worker.wanted) for worker in found] == [
        ("a", WorkerState.SERVING, "m@1.0.0"),
        ("b", WorkerState.AWAY, None),
    ]
    with database.write() as session:
        assert forget_silent_workers(session) == 1
