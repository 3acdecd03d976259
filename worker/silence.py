"""Notice that a lease's heartbeats stand still, by this process's own monotonic clock.

No clock of another machine and no wall clock is asked: they jump and differ. The price is that an observer must
watch for a whole lease before it can tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# A single look after a pause of the observer or of the database proves nothing: the holder had no chance to be heard.
_LEAST_LOOKS = 3


@dataclass
class _Seen:
    heartbeats: int
    since: float
    looks: int


class SilenceWatch:
    """Remembers when each lease was last heard, by its token."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[str, _Seen] = {}
        self._looked_at = float("-inf")

    def look(self, heartbeats: Mapping[str, int], now: float) -> list[str]:
        """Take in the heartbeats of all leases that are held at the moment now; return the leases that are silent.

        Silent is who was not heard for lease_s seconds and at least three looks. After a pause longer than that,
        watching begins anew.
        """
        if now - self._looked_at > self._lease_s:
            self._seen.clear()
        self._looked_at = now
        self._seen = {key: self._update(key, count, now) for key, count in heartbeats.items()}
        return [
            key for key, seen in self._seen.items() if seen.looks > _LEAST_LOOKS and now - seen.since >= self._lease_s
        ]

    def forget(self) -> None:
        """Begin anew: for a while nobody could be heard."""
        self._seen.clear()

    def _update(self, key: str, heartbeats: int, now: float) -> _Seen:
        seen = self._seen.get(key)
        if seen is None or seen.heartbeats != heartbeats:
            return _Seen(heartbeats, now, looks=1)
        seen.looks += 1
        return seen
