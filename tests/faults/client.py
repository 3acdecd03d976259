"""A client that never gives up: the same request with the same key until there is an answer."""

import time
from pathlib import Path

import httpx

from core.lanes import Lane

_PATIENCE_S = 120
_BETWEEN_S = 0.1


class Client:
    """Hands folders in. Safe to use from several threads."""

    def __init__(self, address: str) -> None:
        # An answer that is held back for longer than this is asked for again.
        self._http = httpx.Client(base_url=address, timeout=5, trust_env=False)
        self.repeats = 0

    def submit(self, folder: Path, lane: Lane, key: str) -> str:
        """Return the submission's id.

        Raises:
            AssertionError: there was no answer for two minutes, or one that repeating cannot mend.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = self._http.post(
                    "/v1/submissions",
                    json={"folder": str(folder), "lane": lane.value},
                    headers={"Idempotency-Key": key},
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.is_success:
                return str(answer.json()["id"])
            assert answer is None or answer.is_server_error, answer.text
            self.repeats += 1
            time.sleep(_BETWEEN_S)
        raise AssertionError(f"the API did not take {folder} within {_PATIENCE_S} s")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
