"""Folders of different images with BreakHis names, as large as the real ones."""

import io
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from core.settings import PROJECT

_SIZE = (700, 460)


def write_breakhis_pngs(folder: Path, number: int, source: Path = PROJECT / "samples") -> list[Path]:
    """Write 700x460 PNGs, each with pixels of its own, benign and malignant in turn, eight images a patient.

    They are shifted copies of real images, so that they cost what real ones cost, and none is a double of another.
    """
    originals = sorted(source.glob("SOB_*"))
    if not originals:
        raise SystemExit(f"no SOB_ image in {source}")
    folder.mkdir(parents=True, exist_ok=True)
    write = partial(_write_shifted, folder, originals)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        return list(pool.map(write, range(number), chunksize=8))


def _write_shifted(folder: Path, originals: list[Path], number: int) -> Path:
    kind, patient = ("B_A", "M_DC")[number % 2], 1000 + number // 16 * 2 + number % 2
    path = folder / f"SOB_{kind}-14-{patient}-100-{number % 1000:03}.png"
    with Image.open(io.BytesIO(originals[number % len(originals)].read_bytes())) as image:
        pixels = np.roll(np.asarray(image.convert("RGB").resize(_SIZE)), number // len(originals), axis=1)
    Image.fromarray(pixels).save(path, "PNG")
    return path
