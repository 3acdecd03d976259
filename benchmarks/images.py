"""Folders of real PNGs to measure with."""

from pathlib import Path

from core.settings import PROJECT


def write_png_copies(folder: Path, number: int, source: Path = PROJECT / "samples") -> list[Path]:
    """Write copies of the PNGs of a folder, each with bytes of its own after the image's end.

    They cost as much to read and to decode as the originals, and their contents differ, so that none is taken for
    an image that was classified before.
    """
    originals = [path.read_bytes() for path in sorted(source.glob("*.png"))]
    if not originals:
        raise SystemExit(f"no PNG in {source}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(number):
        path = folder / f"{index:06}.png"
        path.write_bytes(originals[index % len(originals)] + index.to_bytes(8, "big"))
        paths.append(path)
    return paths
