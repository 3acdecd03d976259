"""Say by the exit status whether this container's program works. Runs inside the container, for its engine."""

import os
import sys
import time
from pathlib import Path
from urllib.request import urlopen

_TIMEOUT_S = 5
# Beat writes its schedule down every three minutes while it ticks; three missed writes mean that it stands still.
_BEAT_SILENCE_S = 600
# A worker's pulse is a quarter of a lease, two seconds; but a database that is busy may hold it up for half a minute.
_WORKER_SILENCE_S = 60


def check_api() -> None:
    """Ask the API whether its process answers. Its parts are /ready's business: a restart mends none of them."""
    _get(f"http://127.0.0.1:{os.environ.get('HISTOBATCH_API_PORT', '8000')}/live")


def check_flower() -> None:
    """Ask Flower whether it answers."""
    _get(f"http://127.0.0.1:{os.environ.get('HISTOBATCH_FLOWER_PORT', '5555')}/healthcheck")


def check_worker() -> None:
    """See that the worker wrote its health file not long ago: it does so only while database and broker answer it."""
    file = Path(os.environ["HISTOBATCH_HEALTH_FILE"])
    age_s = time.time() - file.stat().st_mtime
    if age_s > _WORKER_SILENCE_S:
        raise RuntimeError(
            f"the worker wrote its health file {age_s:.0f} s ago: it hangs, or database or broker is away"
        )


def check_beat() -> None:
    """See that beat wrote its schedule down not long ago, and that the broker answers."""
    from redis import Redis  # noqa: PLC0415

    from core.settings import read_settings  # noqa: PLC0415

    settings = read_settings()
    written = max((path.stat().st_mtime for path in Path(settings.data_dir).glob("beat-schedule*")), default=0.0)
    if time.time() - written > _BEAT_SILENCE_S:
        raise RuntimeError("beat does not tick")
    Redis.from_url(settings.redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S).ping()


CHECKS = {"api": check_api, "worker": check_worker, "beat": check_beat, "flower": check_flower}


def main() -> int:
    """Run the check of the program that HISTOBATCH_ROLE names; api where it names none."""
    role = os.environ.get("HISTOBATCH_ROLE", "api")
    try:
        CHECKS[role]()
    except Exception as error:  # the edge of the process: every fault means "not healthy"
        print(f"{role}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _get(url: str) -> None:
    with urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - a loopback address made here
        answer.read()


if __name__ == "__main__":
    sys.exit(main())
