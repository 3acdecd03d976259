"""How fast a cache of decoded images is built, against the bare decoder, and what a second start costs.

    python -m benchmarks.cache [--images 800] [--rounds 3]

Rounds alternate between the two: core.imaging.decode_rgb on all cores, over files that are in memory already, and
load_dataset into an empty cache, which reads, hashes, decodes and scales twice, compares and writes. Both start
their processes anew in each round.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.breakhis import write_breakhis_pngs
from core.imaging import decode_rgb
from trainer.dataset.images import load_dataset


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=800, help="700x460 PNGs, about 0.6 MB of disk each")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        paths = write_breakhis_pngs(scratch / "images", arguments.images)
        bare, built = [], []
        for number in range(arguments.rounds):
            bare.append(len(paths) / _bare_s(paths))
            cache = scratch / f"cache-{number}"
            built.append(len(paths) / _load_s(scratch / "images", cache))
            print(f"round {number + 1}: bare {bare[-1]:.0f} images/s, cache {built[-1]:.0f} images/s", flush=True)
        ratios = [ours / theirs for ours, theirs in zip(built, bare, strict=True)]
        print(f"{len(paths)} PNGs, {os.cpu_count()} cores: cache building at {statistics.median(ratios):.2f} of the")
        print(f"bare decoder's speed (median of {min(ratios):.2f} to {max(ratios):.2f})")
        print(f"second start: {_load_s(scratch / 'images', cache):.2f} s")
        moved = (scratch / "images").rename(scratch / "moved")
        print(f"after the folder has moved (all files hashed, none decoded): {_load_s(moved, cache):.2f} s")


def _bare_s(paths: list[Path]) -> float:
    start = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        if sum(pool.map(_decode, paths, chunksize=4)) == 0:
            raise SystemExit("nothing was decoded")
    return time.perf_counter() - start


def _decode(path: Path) -> int:
    return int(decode_rgb(path.read_bytes())[0, 0, 0]) + 1


def _load_s(folder: Path, cache: Path) -> float:
    start = time.perf_counter()
    load_dataset(folder, cache)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
