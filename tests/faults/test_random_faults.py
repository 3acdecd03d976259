"""Random faults, many at once: a short run of what scripts/faults does at length."""

import os
from random import SystemRandom

import pytest

from tests.faults.clock import preload_library
from tests.faults.invariants import assert_nothing_lost_nothing_twice
from tests.faults.schedule import draw_schedule, play

# FAULTS_SEED=N repeats the choices of a run that failed.
_FAULTS = 12


@pytest.mark.timeout(280)
@pytest.mark.parametrize("kind", ["small_disk", "postgres"])
def test_random_faults_lose_and_double_nothing(open_house, request, kind):
    """Whatever happens, and in whatever order: afterwards each image has exactly one outcome."""
    seed = int(os.environ.get("FAULTS_SEED") or SystemRandom().randrange(10**6))
    print(f"FAULTS_SEED={seed}")
    store = request.getfixturevalue(f"{kind}_store")
    house = open_house(store, beats=2, api=True, pause_ms=15, clock_library=preload_library())
    happened = play(house, draw_schedule(house, seed, _FAULTS, (0.2, 1)))
    print(dict(happened))
    assert_nothing_lost_nothing_twice(house, settle_s=150)
