"""The slot: a batch keeps the model that it began with, and what was replaced is closed once, after its last batch."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from core.bundle import MANIFEST, DecisionRule, file_sha256
from core.errors import BundleError, EngineError
from core.imaging import HEIGHT, WIDTH
from core.presence import WorkerState
from core.settings import Settings
from tests.assets.bundles import alter, copy_bundle
from tests.assets.gpu import FakeDevice
from worker.engines.choice import EngineChoice
from worker.engines.fake import FakeEngine
from worker.engines.key import Profile
from worker.engines.protocol import Engine
from worker.engines.streams import StreamedEngine
from worker.rollout import load_wanted
from worker.serving import Serving, Slot, Wanted

OLD, NEW = Wanted("m@1.0.0", "a" * 64), Wanted("m@2.0.0", "b" * 64)


class CountedEngine(FakeEngine):
    """Counts how often it was closed, and refuses calls afterwards, as a real one crashes."""

    def __init__(self) -> None:
        self.closed = 0

    def classify(self, images):
        assert not self.closed, "a call after the end"
        return super().classify(images)

    def close(self) -> None:
        self.closed += 1


def serving_of(wanted: Wanted, engine: Engine | None = None) -> Serving:
    return Serving(
        engine=engine or CountedEngine(),
        choice=EngineChoice("fake", "a test"),
        model_version=wanted.model_version,
        rule=DecisionRule(threshold=0.5, abstain_low=0.5, abstain_high=0.5),
        inferrers=ThreadPoolExecutor(1),
        manifest_sha256=wanted.manifest_sha256,
    )


def test_a_batch_in_hand_keeps_its_engine_to_its_end():
    """The next batch has the new one at once; the old one is closed when the last of its batches is over, once."""
    slot, old, new = Slot(serving_of(OLD)), None, serving_of(NEW)
    with slot.lend(0) as first, slot.lend(0) as second:
        old = first
        assert second is old
        slot.want(NEW)
        assert slot.put(new)
        with slot.lend(0) as third:
            assert third is new
        assert old.engine.closed == 0
        old.engine.classify(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8))
    assert (old.engine.closed, new.engine.closed) == (1, 0)
    slot.close()
    assert (old.engine.closed, new.engine.closed) == (1, 1)


def test_an_engine_without_batches_is_closed_at_once():
    """Two engines need twice the memory no longer than they must."""
    old, new = serving_of(OLD), serving_of(NEW)
    slot = Slot(old)
    slot.want(NEW)
    slot.put(new)
    assert (old.engine.closed, new.engine.closed) == (1, 0)
    slot.close()


def test_the_old_engine_outlives_calls_of_a_batch_that_was_abandoned():
    """A lease that is lost ends the batch at once; its last call is on the device still."""
    is_in_call, may_end = threading.Event(), threading.Event()

    class SlowEngine(CountedEngine):
        """Waits in a call."""

        def classify(self, images):
            is_in_call.set()
            assert may_end.wait(60)
            return super().classify(images)

    old = serving_of(OLD, SlowEngine())
    slot = Slot(old)

    def abandon() -> Future[object]:
        with slot.lend(0) as serving:
            call = serving.inferrers.submit(serving.engine.classify, np.zeros((1, HEIGHT, WIDTH, 3), np.uint8))
            assert is_in_call.wait(60)
            slot.put(serving_of(NEW))
            threading.Timer(0.1, may_end.set).start()
        return call

    assert len(abandon().result(60)) == 1
    assert old.engine.closed == 1
    slot.close()


def test_nothing_but_what_is_wanted_is_lent():
    """From the moment that an activation is known until its model is there, no batch begins."""
    slot = Slot(serving_of(OLD))
    assert slot.state is WorkerState.SERVING
    slot.want(NEW)
    assert slot.state is WorkerState.LOADING
    with slot.lend(0) as nothing:
        assert nothing is None
    slot.note_trouble(NEW, "it is not there")
    assert (slot.state, slot.trouble) == (WorkerState.WAITING, "it is not there")
    with slot.lend(0) as nothing:
        assert nothing is None
    slot.want(OLD)
    assert (slot.state, slot.trouble) == (WorkerState.SERVING, None)
    with slot.lend(0) as serving:
        assert serving.model_version == OLD.model_version
    slot.close()


def test_who_waits_for_a_model_gets_it_when_it_comes():
    """A swap of a second or two costs a batch no turn."""
    slot = Slot()
    slot.want(NEW)
    threading.Timer(0.1, lambda: slot.put(serving_of(NEW))).start()
    with slot.lend(60) as serving:
        assert serving.model_version == NEW.model_version
    slot.close()


def test_other_files_under_the_same_name_are_not_what_is_wanted():
    """The manifest that was verified names every file: a bundle that differs never serves in its place."""
    slot = Slot(serving_of(OLD))
    slot.want(Wanted(OLD.model_version, "c" * 64))
    with slot.lend(0) as nothing:
        assert nothing is None
    slot.want(Wanted(OLD.model_version))
    with slot.lend(0) as serving:
        assert serving is not None
    slot.close()


def test_what_comes_too_late_is_closed():
    """Rolled back while it was loading: what served goes on, and trouble with the other is forgotten."""
    old, late = serving_of(OLD), serving_of(NEW)
    slot = Slot(old)
    slot.want(NEW)
    slot.want(OLD)
    slot.note_trouble(NEW, "it is not there")
    assert slot.state is WorkerState.SERVING
    assert not slot.put(late)
    assert (old.engine.closed, late.engine.closed) == (0, 1)
    slot.close()


def test_a_closed_slot_closes_everything_once():
    """The process ends while a batch is abandoned and another engine is loading."""
    old, new, late = (serving_of(wanted) for wanted in (OLD, NEW, NEW))
    slot = Slot(old)
    with slot.lend(0):
        slot.want(NEW)
        slot.put(new)
        slot.close()
        assert not slot.put(late)
    assert [serving.engine.closed for serving in (old, new, late)] == [1, 1, 1]


def test_two_gpu_engines_share_a_device_for_a_moment():
    """Each has streams of its own; the old one's are freed in its last batch's thread, the new one's stay."""
    devices = FakeDevice(), FakeDevice()
    old, new = (
        serving_of(wanted, StreamedEngine(device, "tensorrt-fp16", Profile(opt_batch=4, max_batch=8)))
        for wanted, device in zip((OLD, NEW), devices, strict=True)
    )
    slot = Slot(old)
    pixels = np.zeros((10, HEIGHT, WIDTH, 3), np.uint8)
    with slot.lend(0) as first:
        slot.want(NEW)
        slot.put(new)
        with slot.lend(0) as second:
            calls = [serving.inferrers.submit(serving.engine.classify, pixels) for serving in (first, second)]
            assert [len(call.result(60)) for call in calls] == [10, 10]
        assert not devices[0].is_closed
    assert (devices[0].is_closed, devices[0].open) == (True, [])
    assert not devices[1].is_closed
    slot.close()
    assert devices[1].is_closed


def test_an_engine_that_does_not_let_go_of_its_device_stops_nothing():
    """Its device may be lost; the batch that used it last is whole."""

    class Stubborn(CountedEngine):
        """Cannot be closed."""

        def close(self) -> None:
            raise EngineError("the device is lost")

    slot = Slot(serving_of(OLD, Stubborn()))
    with slot.lend(0) as old:
        slot.put(serving_of(NEW))
    assert old.model_version == OLD.model_version
    slot.close()


@pytest.fixture
def real(settings: Settings, tmp_path) -> Settings:
    """Settings with a copied bundle."""
    copy_bundle(tmp_path / "models", "8.0.0")
    return settings.model_copy(update={"engine": "openvino", "models": tmp_path / "models"})


@pytest.mark.parametrize("fault", ["missing", "altered", "another"])
def test_a_bundle_that_is_not_the_one_that_was_activated_does_not_load(real, fault):
    """Whatever is wrong on this machine, the message says what to do."""
    name = "histobatch-breakhis@8.0.0"
    wanted = Wanted("m@7.0.0") if fault == "missing" else Wanted(name, "0" * 64 if fault == "another" else None)
    if fault == "altered":
        alter(real.models, "8.0.0")
    message = {"missing": "copy it there", "altered": "sha256 differs", "another": "not the one that was activated"}
    with pytest.raises(BundleError, match=message[fault]):
        load_wanted(real, wanted)


def test_the_bundle_that_the_settings_name_loads_and_is_known_by_its_manifest(real):
    """The same bundle meets an activation of it, by name and by files; other files of its name do not."""
    serving = load_wanted(real, None)
    manifest_sha256 = file_sha256(real.models / "8.0.0" / MANIFEST)
    assert Wanted("histobatch-breakhis@8.0.0", manifest_sha256).is_met_by(serving)
    assert not Wanted("histobatch-breakhis@8.0.0", "0" * 64).is_met_by(serving)
    assert len(serving.engine.classify(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8))) == 1
    serving.close()
