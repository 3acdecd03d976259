"""GPU engines alone and end to end, against what the GPU and the cores could do.

    python -m benchmarks.gpu_engine [--contenders tensorrt,torch] [--batches 1,8,32,64,128,256] [--seconds 3]
                                    [--peak-tflops 989] [--end-to-end 4096]

Alone: images/s with enough callers to keep the engine busy, milliseconds of a call with one caller, and the share of
the GPU's dense FP16 peak (1.13 GMAC an image). `gain` is images/s with all callers over those with one: above 1,
copies overlap with inference. End to end: PNG and JPEG files to database rows, beside what the cores decode alone.
"""

import argparse
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_contenders import Contender, Missing, open_contender
from benchmarks.gpu_peak import fp16_peak_tflops
from benchmarks.stack import running_stack
from core.bundle import Bundle, find_serving_folder, load_bundle
from core.imaging import HEIGHT, WIDTH, decode_rgb
from core.settings import PROJECT, Settings, read_settings
from worker.engines.choice import look_at_machine

CONTENDERS = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "torch", "torch-compiled")
GMAC_AN_IMAGE = 1.13
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Plan:
    """Sizes of calls, seconds for each, and the GPU's peak in TFLOP/s where it is known."""

    batches: list[int]
    seconds: float
    peak: float | None


def main() -> None:
    """Say what is here, measure what can run, and name what cannot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--batches", default="1,8,32,64,128,256")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--end-to-end", type=int, default=0, metavar="IMAGES")
    arguments = parser.parse_args()
    machine = look_at_machine()
    gpus = machine.driver.gpus
    print(f"GPU: {gpus[0].label + ', driver ' + machine.driver.version if gpus else machine.driver.obstacle}")
    print(f"packages: {', '.join(sorted(machine.packages)) or 'none'}; {CORES} cores")
    peak = arguments.peak_tflops or (fp16_peak_tflops(gpus[0].capability) if gpus else None)
    print(f"FP16 peak: {f'{peak:.0f} TFLOP/s' if peak else 'unknown: name it with --peak-tflops'}")
    batches = [int(size) for size in arguments.batches.split(",")]
    settings = read_settings()
    bundle = load_bundle(find_serving_folder(settings))
    plan = Plan(batches, arguments.seconds, peak)
    for name in arguments.contenders.split(","):
        _measure_alone(name, bundle, settings, plan)
    if arguments.end_to_end:
        kind = "tensorrt" if not machine.gpu_obstacle else "openvino"
        for suffix in ("png", "jpg"):
            _measure_end_to_end(suffix, arguments.end_to_end, kind)


def _measure_alone(name: str, bundle: Bundle, settings: Settings, plan: Plan) -> None:
    try:
        with open_contender(name, bundle, settings) as contender:
            print(f"\n{name}\nbatch  images/s  gain  p50 ms  p90 ms  p99 ms  TFLOP/s  of peak")
            for batch in plan.batches:
                print(_row(contender, batch, plan), flush=True)
    except Missing as missing:
        print(f"\n{name}: not here, because {missing}")


def _row(contender: Contender, batch: int, plan: Plan) -> str:
    images = np.random.default_rng(0).integers(0, 256, (batch, HEIGHT, WIDTH, 3), np.uint8)
    contender.classify(images)
    alone = np.array(_durations(contender, images, plan.seconds))
    together = _throughput(contender, images, plan.seconds)
    tflops = together * 2 * GMAC_AN_IMAGE / 1e3
    p50, p90, p99 = np.percentile(alone * 1e3, (50, 90, 99))
    share = f"{tflops / plan.peak:6.1%}" if plan.peak else "     -"
    gain = together * alone.mean() / batch
    return f"{batch:5}  {together:8.0f}  {gain:4.2f}  {p50:6.2f}  {p90:6.2f}  {p99:6.2f}  {tflops:7.2f}  {share}"


def _durations(contender: Contender, images: NDArray[np.uint8], seconds: float) -> list[float]:
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < 3:
        start = time.perf_counter()
        contender.classify(images)
        found.append(time.perf_counter() - start)
    return found


def _throughput(contender: Contender, images: NDArray[np.uint8], seconds: float) -> float:
    start = time.perf_counter()

    def call_until_the_end() -> int:
        calls = 0
        while time.perf_counter() - start < seconds:
            contender.classify(images)
            calls += 1
        return calls

    with ThreadPoolExecutor(contender.callers) as threads:
        futures = [threads.submit(call_until_the_end) for _ in range(contender.callers)]
        calls = sum(future.result() for future in futures)
    return calls * len(images) / (time.perf_counter() - start)


def _measure_end_to_end(suffix: str, number: int, engine: str) -> None:
    with tempfile.TemporaryDirectory() as scratch_name, ProcessPoolExecutor(CORES) as processes:
        scratch = Path(scratch_name)
        folder = scratch / "images" / "case"
        paths = _write_copies(folder, number, suffix)
        start = time.perf_counter()
        chunks = [paths[first : first + 16] for first in range(0, number, 16)]
        decoded = sum(processes.map(_decode_chunk, chunks))
        decode_rate = decoded / (time.perf_counter() - start)
        with running_stack(scratch, scratch / "images", HISTOBATCH_ENGINE=engine) as stack:
            seconds, submission = stack.classify(folder)
            rate = number / seconds
    if submission.counts.failed:
        raise SystemExit(f"{submission.counts.failed} images failed: {submission.failures}")
    print(
        f"\nend to end from {suffix}, {engine}: {rate:.0f} images/s; {CORES} cores decode {decode_rate:.0f} alone "
        f"({rate / decode_rate:.0%})"
    )


def _write_copies(folder: Path, number: int, suffix: str) -> list[Path]:
    """Copies of the samples of a kind, each of a content of its own."""
    originals = [path.read_bytes() for path in sorted((PROJECT / "samples").glob(f"*.{suffix}"))]
    if not originals:
        raise SystemExit(f"no {suffix} among the samples")
    folder.mkdir(parents=True)
    paths = [folder / f"{place:06}.{suffix}" for place in range(number)]
    for place, path in enumerate(paths):
        path.write_bytes(originals[place % len(originals)] + place.to_bytes(8, "big"))
    return paths


def _decode_chunk(paths: list[Path]) -> int:
    return len([decode_rgb(path.read_bytes()) for path in paths])


if __name__ == "__main__":
    main()
