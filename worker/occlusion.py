"""The program that asks the CPU engine where in one image its probability comes from. Started by the API.

    python -m worker.occlusion BUNDLE PRECISION < PIXELS > ANSWER

A process of its own, because the API holds no network: what the engine takes is given back when it ends. It takes one
thread, so that whoever looks at a picture slows no worker beside it by more.
"""

import json
import sys
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from core.bundle import Precision, load_bundle
from core.errors import HistobatchError
from core.imaging import HEIGHT, WIDTH
from core.occlusion import measure_effects, occlude


def main(arguments: list[str], source: BinaryIO, sink: BinaryIO) -> int:
    """Read one image, RGB uint8 (96, 144, 3), and write JSON: engine, its probability of the image, effects by row.

    Returns:
        The status with which to end: 0, or 1 where the bundle has no graph that runs here; stderr says why.
    """
    folder, precision = arguments
    image = np.frombuffer(source.read(), np.uint8).reshape(HEIGHT, WIDTH, 3)
    try:
        from worker.engines.openvino import OpenVinoEngine  # noqa: PLC0415 - heavy, and an extra

        engine = OpenVinoEngine(load_bundle(Path(folder)), cast("Precision", precision), threads=1)
        images = np.concatenate([image[np.newaxis], occlude(image)])
        calls = [images[start : start + engine.max_batch] for start in range(0, len(images), engine.max_batch)]
        probability, *occluded = np.concatenate([engine.classify(call) for call in calls]).tolist()
    except (HistobatchError, ImportError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    effects = measure_effects(probability, occluded)
    answer = {"engine": engine.name, "probability": probability, "effects": effects.tolist()}
    sink.write(json.dumps(answer).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer))
