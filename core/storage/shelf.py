"""Tables of contents that a process keeps, so that each member of a container does not read them anew."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from core.storage.container import Index

# Members of all tables together, 250 bytes each; the one in use stays in any case.
_MOST_MEMBERS = 400_000


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.index: Index | None = None


class Shelf:
    """The tables used last. Holds no open file. Safe to use from several threads."""

    def __init__(self, most_members: int = _MOST_MEMBERS) -> None:
        self._most_members = most_members
        self._lock = threading.Lock()
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()

    def get(self, key: Hashable, build: Callable[[], Index]) -> Index:
        """Return a container's table; built by one thread while others that want the same wait.

        Args:
            key: another when the container changed.
        """
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        try:
            with slot.lock:
                if slot.index is None:
                    slot.index = build()
                index = slot.index
        except BaseException:
            with self._lock:
                self._slots.pop(key, None)
            raise
        self._shrink()
        return index

    def _shrink(self) -> None:
        with self._lock:
            held = sum(len(slot.index.names) for slot in self._slots.values() if slot.index)
            while held > self._most_members and len(self._slots) > 1:
                _, oldest = self._slots.popitem(last=False)
                held -= len(oldest.index.names) if oldest.index else 0


SHELF = Shelf()
