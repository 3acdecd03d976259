"""The walk's order never changes, and slow storage is listed ahead without changing it."""

import threading
import time
from dataclasses import dataclass, field, replace

import pytest

from core.storage.protocol import Entry, Folder
from tests.assets.rows import batches_of
from worker.intake import take_in
from worker.scanning.patterns import Patterns
from worker.scanning.walking import order, walk

TREE = {
    "": ["b", "a", "a-1", "é"],
    "a": ["a/y", "a/x"],
    "a/x": [],
    "a/y": ["a/y/z"],
    "a/y/z": [],
    "a-1": [],
    "b": [f"b/{number:02}" for number in range(40)],
    "é": [],
} | {f"b/{number:02}": [] for number in range(40)}
ORDER = ["", "a", "a/x", "a/y", "a/y/z", "a-1", "b", *(f"b/{number:02}" for number in range(40)), "é"]


@dataclass
class MemoryStorage:
    """Folders in memory, each with one file, that answer after a while."""

    wait_s: float = 0.0
    listed: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def list_folder(self, path):
        with self._lock:
            self.listed.append(path)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        time.sleep(self.wait_s)
        with self._lock:
            self._now -= 1
        yield Entry(f"{path}/file" if path else "file", 1, 2)
        for folder in TREE[path]:
            yield Folder(folder)


@pytest.mark.parametrize("wait_s", [0, 0.005], ids=["fast", "slow"])
def test_a_folder_comes_before_those_in_it_and_neighbours_by_name(wait_s):
    """A name that goes on where another ends, and one that is not ASCII, have their place; each is listed once."""
    storage = MemoryStorage(wait_s)
    listings = list(walk(storage, Patterns(), None))
    assert [listing.path for listing in listings] == ORDER == sorted(ORDER, key=order)
    assert all(listing.files == {"file": (1, 2)} for listing in listings)
    assert sorted(storage.listed) == sorted(ORDER)
    assert (storage.most_at_once > 1) is (wait_s > 0)


@pytest.mark.parametrize("position", ORDER)
def test_behind_a_position_comes_what_was_not_walked(position):
    """Of all before it only the folders that lead there are listed again."""
    storage = MemoryStorage()
    walked = [listing.path for listing in walk(storage, Patterns(), position)]
    behind = ORDER[ORDER.index(position) + 1 :]
    assert walked == ["", *behind]
    above = {"/".join(position.split("/")[:length]) for length in range(position.count("/") + 2)}
    assert set(storage.listed) == {"", *behind} | above


def test_a_walk_that_is_left_lists_no_further():
    """Who ends a scan does not pay for the rest of the archive."""
    storage = MemoryStorage(0.005)
    walking = walk(storage, Patterns(), None)
    for _ in range(12):
        next(walking)
    walking.close()
    assert len(storage.listed) < len(ORDER)


def test_a_folder_of_many_files_is_recorded_whole(open_house):
    """It is compared at once, recorded in many batches, and the next scan finds it unchanged."""
    house = open_house(settle_s=0)
    large = replace(house.context, settings=house.context.settings.model_copy(update={"batch_size": 1000}))
    folder = house.root / "many"
    folder.mkdir()
    for number in range(5000):
        (folder / f"{number}.png").touch()
    scan_id = house.begin()
    take_in(large, house.scan_of(scan_id).submission_id)
    scan = house.scan_of(scan_id)
    assert (scan.seen, scan.new, len(house.files())) == (5000, 5000, 5000)
    sizes = [batch.images for batch in batches_of(house.context.database, scan.submission_id)]
    assert sizes == [1000] * 5
