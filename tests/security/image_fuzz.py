"""Decode mutated files as a worker does, in its own processes, and see what came of each."""

import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from core.errors import Reason
from core.imaging import ImageLimits
from core.storage.local import LocalStorage
from core.storage.reading import Content
from worker.decoding import Decoded, DecodePool, DecodeTask, Refused

LIMITS = ImageLimits(max_pixels=2_000_000)
# Eight bytes a pixel, as core.settings says, and what Pillow may hold beside it: 64 MiB of compressed notes and the
# buffers of codecs.
BOUND_BYTES = 8 * LIMITS.max_pixels + 160 * 2**20
# Of address space, above what a process has before its first file: whoever asks for more gets none.
_ADDRESS_BYTES = 512 * 2**20
_AT_ONCE = 400
# The details with which core.imaging records that memory ran out: here that means that a file took too much.
_NO_MEMORY = "not enough memory"


@dataclass
class Findings:
    """What came of the files.

    Attributes:
        outcomes: files by "image" or by their reason.
        faults: what should not be, each with the number of its file.
        peak_bytes: the most that a process grew by.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    peak_bytes: int = 0


def decode_files(make: Callable[[int], bytes], numbers: range, processes: int = 1) -> Findings:
    """Decode the files that are made of these numbers, in processes that are watched."""
    pool = DecodePool(processes)
    findings = Findings()
    try:
        pool.warm_up()
        pids = _pids(pool)
        before = {pid: _peak_bytes(pid) for pid in pids}
        for pid in pids:
            limit = _status_bytes(pid, "VmSize") + _ADDRESS_BYTES
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            for number, answer in zip(some, _answers(pool, make, some, findings), strict=False):
                _note(findings, number, answer)
        if _pids(pool) != pids:
            findings.faults.append("a decoding process died")
        else:
            findings.peak_bytes = max(_peak_bytes(pid) - before[pid] for pid in pids)
    finally:
        pool.close()
    if findings.peak_bytes > BOUND_BYTES:
        findings.faults.append(f"a process grew by {findings.peak_bytes} bytes; {BOUND_BYTES} are its bound")
    return findings


def _answers(
    pool: DecodePool, make: Callable[[int], bytes], numbers: range, findings: Findings
) -> Iterator[Decoded | Refused]:
    tasks = [_task(make(number)) for number in numbers]
    try:
        yield from pool.submit(tasks).results()
    except Exception:  # what this looks for; told apart one by one
        for number, task in zip(numbers, tasks, strict=True):
            try:
                pool.decode_alone(task)
            except Exception as error:  # as above
                findings.faults.append(f"file {number}: {type(error).__name__}: {error}")


def _task(data: bytes) -> DecodeTask:
    storage = LocalStorage(b"/nowhere", (Path("/nowhere"),))
    return DecodeTask(storage, "x", Content(blake3(data).hexdigest(), data), len(data) + 1, LIMITS, 20)


def _note(findings: Findings, number: int, answer: Decoded | Refused) -> None:
    if isinstance(answer, Decoded):
        findings.outcomes["image"] += 1
        return
    findings.outcomes[answer.reason.value] += 1
    if answer.reason == Reason.KILLS_WORKER or _NO_MEMORY in answer.detail:
        findings.faults.append(f"file {number}: {answer.detail}")


def _pids(pool: DecodePool) -> list[int]:
    return sorted(pool._executor._processes)


def _peak_bytes(pid: int) -> int:
    return _status_bytes(pid, "VmHWM")


def _status_bytes(pid: int, name: str) -> int:
    lines = Path(os.fsdecode(f"/proc/{pid}/status")).read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) * 1024
