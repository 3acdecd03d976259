"""Folder to database rows against the limit of the machine and against a plain torch script, in one run.

    python -m benchmarks.end_to_end [--images 512] [--rounds 3]

The limit: images are read and decoded by the fastest decoder alone, one process a core, and classified by the
engine alone on the same cores; whoever must do both on these cores cannot be faster than the two combined
harmonically. The plain script is what most people write first: torch's DataLoader with Pillow and torchvision
transforms, ResNet-50 in float32.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.images import write_png_copies
from benchmarks.stack import running_stack
from core.bundle import find_serving_folder, load_bundle
from core.imaging import HEIGHT, WIDTH, decode_rgb
from core.settings import read_settings

CORES = len(os.sched_getaffinity(0))
_CHUNK = 16


def main() -> None:
    """Measure in rounds, so that slow moments of the machine hit everyone, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch_name, ProcessPoolExecutor(CORES) as processes:
        scratch = Path(scratch_name)
        images = scratch / "images"
        engine = _engine_alone()
        with running_stack(scratch, images) as stack:
            for number in range(arguments.rounds):
                folder = images / f"round-{number}"
                paths = write_png_copies(folder, arguments.images)
                _make_distinct(paths, number)
                contenders: dict[str, Callable[[], object]] = {
                    "decode and resize alone": lambda paths=paths: _decode_alone(processes, paths),
                    "engine alone": lambda: engine(arguments.images),
                    "histobatch, folder to rows": lambda folder=folder: stack.classify(folder),
                    "torch DataLoader script": lambda paths=paths: _torch_script(paths),
                }
                for name, run in contenders.items():
                    start = time.perf_counter()
                    run()
                    rates.setdefault(name, []).append(arguments.images / (time.perf_counter() - start))
                    print(f"round {number + 1}: {name:28} {rates[name][-1]:7.1f} images/s", flush=True)
    _report({name: statistics.median(values) for name, values in rates.items()}, rates)


def _report(medians: dict[str, float], rates: dict[str, list[float]]) -> None:
    limits = [
        1 / (1 / decode + 1 / engine)
        for decode, engine in zip(rates["decode and resize alone"], rates["engine alone"], strict=True)
    ]
    ours = rates["histobatch, folder to rows"]
    plain = rates["torch DataLoader script"]
    print(f"\n{CORES} cores, medians of {len(ours)} rounds")
    for name, value in medians.items():
        print(f"  {name:30} {value:7.1f} images/s")
    print(f"  {'limit (harmonic)':30} {statistics.median(limits):7.1f} images/s")
    print(f"share of the limit: {statistics.median(a / b for a, b in zip(ours, limits, strict=True)):.0%}")
    print(f"against the script: {statistics.median(a / b for a, b in zip(ours, plain, strict=True)):.2f}x")


def _make_distinct(paths: list[Path], number: int) -> None:
    """No content of an earlier round may come again: it would not be classified again."""
    for path in paths:
        with path.open("ab") as stream:
            stream.write(number.to_bytes(8, "big"))


def _decode_alone(processes: ProcessPoolExecutor, paths: list[Path]) -> None:
    chunks = [paths[first : first + _CHUNK] for first in range(0, len(paths), _CHUNK)]
    for _ in processes.map(_decode_chunk, chunks):
        pass


def _decode_chunk(paths: list[Path]) -> int:
    return sum(decode_rgb(path.read_bytes()).shape[0] for path in paths)


def _engine_alone() -> Callable[[int], None]:
    from worker.engines.openvino import OpenVinoEngine

    settings = read_settings()
    engine = OpenVinoEngine(load_bundle(find_serving_folder(settings)), settings.precision)
    engine.warm_up()
    images = np.random.default_rng(0).integers(0, 256, (engine.best_batch, HEIGHT, WIDTH, 3), np.uint8)
    threads = ThreadPoolExecutor(engine.parallel_calls)

    def classify(number: int) -> None:
        calls = [images] * (number // engine.best_batch)
        for _ in threads.map(engine.classify, calls):
            pass

    return classify


def _torch_script(paths: list[Path]) -> None:
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import models, transforms

    prepare = transforms.Compose(
        [
            transforms.Resize((HEIGHT, WIDTH)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )

    class Folder(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            return prepare(Image.open(paths[index]).convert("RGB"))

    torch.set_num_threads(CORES)
    network = models.resnet50(weights=None).eval()
    network.fc = torch.nn.Sequential(torch.nn.Linear(2048, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 1))
    with torch.inference_mode():
        for batch in DataLoader(Folder(), batch_size=32, num_workers=CORES):
            torch.sigmoid(network(batch))


if __name__ == "__main__":
    main()
