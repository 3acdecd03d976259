"""Image files of every kind that storage may hold, made in memory: good ones, odd ones, broken ones."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112


def noise(height: int = 60, width: int = 80, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels, uint8 (height, width, channels)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def quadrants(height: int = 96, width: int = 144) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right: any turn shows."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    return Image.fromarray(pixels)


def encode(image: Image.Image | NDArray[np.generic], kind: str = "PNG", **options: object) -> bytes:
    """Write an image as a file of this kind."""
    stream = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, kind, **options)
    return stream.getvalue()


def plain(seed: int = 0, value: int | None = None) -> bytes:
    """A small plain PNG; with a value, one of a single red."""
    pixels = noise(40, 50, seed=seed)
    if value is not None:
        pixels[..., 0] = value
    return encode(pixels, compress_level=1)


def frames(kind: str, count: int = 2) -> bytes:
    """An animated or multi-page file."""
    first, *rest = (Image.fromarray(noise(seed=seed)) for seed in range(count))
    return encode(first, kind, save_all=True, append_images=rest)


def turned(kind: str, orientation: int) -> bytes:
    """The quadrants with an EXIF orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options: dict[str, object] = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    return encode(quadrants(), kind, exif=exif, **options)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *, interlaced: bool = False) -> bytes:
    """A PNG with this header and these raw (filtered) rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return b"".join(
        (PNG_SIGNATURE, chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 1)), chunk(b"IEND", b""))
    )


def rgb16_png(pixels: NDArray[np.uint16]) -> bytes:
    """A 16-bit RGB PNG of uint16 (height, width, 3)."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(width, height, 16, 2, rows)


def bomb_png(side: int = 30_000) -> bytes:
    """A tiny file whose header promises side x side pixels."""
    return png(side, side, 8, 2, b"\0" * 1000)


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """Put a chunk after a PNG's header."""
    end_of_header = 8 + 25
    return data[:end_of_header] + chunk(kind, body) + data[end_of_header:]


def with_text(data: bytes, keyword: str, text: str) -> bytes:
    """Put an uncompressed iTXt chunk after a PNG's header."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(keyword, text)
    kind, body = info.chunks[0][:2]
    return with_chunk(data, kind, body)


def broken_files() -> dict[str, tuple[bytes, str]]:
    """Contents that no model can judge, by name, each with the reason that must be recorded."""
    whole = encode(noise(200, 300))
    jpeg = encode(noise(200, 300), "JPEG")
    return {
        "empty.png": (b"", "empty_file"),
        "letter.png": (b"Dear colleague,\n" * 20, "not_an_image"),
        "vector.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image"),
        "half.png": (whole[: len(whole) // 2], "truncated"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "header.png": (PNG_SIGNATURE + b"\x07" * 200, "corrupt"),
        "header.jpg": (b"\xff\xd8\xff" + b"\x07" * 200, "corrupt"),
        "dot.png": (encode(noise(1, 1)), "too_small"),
        "bomb.png": (bomb_png(), "too_many_pixels"),
        "film.gif": (frames("GIF"), "multiple_frames"),
        "pages.tif": (frames("TIFF"), "multiple_frames"),
        "float.tif": (encode(np.zeros((60, 80), np.float32), "TIFF"), "unsupported_pixels"),
    }
