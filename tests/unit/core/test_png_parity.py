"""The fast PNG decoder and Pillow, the reference, see the same pixels: on whole files, on odd ones, on damaged ones."""

import io
import random
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from core import imaging
from core.errors import ImageRejected
from core.imaging import FORMATS, HEIGHT, WIDTH, ImageLimits, decode_rgb
from tests.assets import images
from tests.conftest import SAMPLES

_MUTANTS = 1500
_SAMPLE_PNGS = sorted(SAMPLES.glob("*.png"))


def by_pillow(data: bytes) -> np.ndarray:
    """Decode an upright, opaque RGB file with Pillow alone, in words of our own."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return np.asarray(image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX))


def is_fast(data: bytes) -> bool:
    """Whether the file takes the fast decoder, and that decoder takes the file."""
    shape = imaging._plain_png_shape(data)
    return shape is not None and imaging._decode_plain_png(data, shape) is not None


@pytest.mark.parametrize("path", _SAMPLE_PNGS, ids=lambda path: path.name)
def test_samples_take_the_fast_path_and_look_the_same(path):
    """BreakHis' own PNGs, notes and all, are decoded fast, pixel for pixel like Pillow's full-size decoding."""
    data = path.read_bytes()
    shape = imaging._plain_png_shape(data)
    assert shape == (460, 700)
    with Image.open(path) as image:
        assert np.array_equal(imaging._decode_plain_png(data, shape), np.asarray(image))


def _filtered(pixels: np.ndarray, filters: list[int]) -> bytes:
    """Raw rows with one PNG filter (0-4) each, as any encoder may choose them."""
    height, width, _ = pixels.shape
    flat = pixels.reshape(height, width * 3).astype(int)
    left = np.pad(flat, ((0, 0), (3, 0)))[:, :-3]
    above = np.pad(flat, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(flat, ((1, 0), (3, 0)))[:-1, :-3]
    estimate = left + above - corner
    distances = np.stack([abs(estimate - left), abs(estimate - above), abs(estimate - corner)])
    paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
    predictions = (np.zeros_like(flat), left, above, (left + above) // 2, paeth)
    rows = [
        bytes([kind]) + ((flat[y] - predictions[kind][y]) % 256).astype(np.uint8).tobytes()
        for y, kind in enumerate(filters)
    ]
    return b"".join(rows)


_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_generated_pngs_look_the_same(data):
    """Any size, content, mixture of row filters, interlacing: the fast decoder's pixels are Pillow's."""
    height, width = data.draw(st.integers(32, 70)), data.draw(st.integers(32, 70))
    pixels = images.noise(height, width, seed=data.draw(st.integers(0, 2**32 - 1)))
    pixels //= data.draw(st.sampled_from([1, 7, 255]))
    interlaced = data.draw(st.booleans())
    parts = [pixels[y::dy, x::dx] for y, x, dy, dx in _ADAM7] if interlaced else [pixels]
    draw_filters = random.Random(data.draw(st.integers(0, 99)))
    rows = b"".join(_filtered(part, draw_filters.choices(range(5), k=len(part))) for part in parts)
    file = images.png(width, height, 8, 2, rows, interlaced=interlaced)
    assert is_fast(file)
    with Image.open(io.BytesIO(file)) as image:
        assert np.array_equal(np.asarray(image), pixels)  # our own encoder is right
    assert np.array_equal(imaging._decode_plain_png(file, (height, width)), pixels)
    assert np.array_equal(decode_rgb(file), by_pillow(file))


def test_pixels_in_many_chunks_look_the_same():
    """Encoders cut the pixel data into chunks wherever they like."""
    pixels = images.noise()
    stream = zlib.compress(_filtered(pixels, [0] * len(pixels)))
    body = b"".join(images.chunk(b"IDAT", stream[at : at + 100]) for at in range(0, len(stream), 100))
    whole = images.encode(pixels)
    file = whole[:33] + body + images.chunk(b"IEND", b"")
    assert is_fast(file)
    assert np.array_equal(decode_rgb(file), by_pillow(file))


def test_bytes_after_the_end_change_nothing():
    """What follows the image's end is no part of it."""
    data = images.plain()
    assert np.array_equal(decode_rgb(data + b"appended" * 10), decode_rgb(data))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"gAMA", struct.pack(">I", 45455)),
        (b"gAMA", struct.pack(">I", 220000)),
        (b"sRGB", b"\0"),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        (b"bKGD", b"\0\1\0\1\0\1"),
        (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
        (b"tIME", b"\x07\xea\x0b\x17\1\1\1"),
        (b"sBIT", b"\5\5\5"),
        (b"tEXt", b"Software\0a camera"),
        (b"iCCP", b"icc\0\0" + zlib.compress(b"no real profile")),
        (b"vpAg", bytes(9)),
    ],
)
def test_notes_beside_the_pixels_change_no_pixel(kind, body):
    """Gamma, profiles, resolution and texts are ignored by both decoders alike, and cost no speed."""
    data = images.with_chunk(images.plain(), kind, body)
    assert is_fast(data)
    assert np.array_equal(decode_rgb(data), by_pillow(data))
    assert np.array_equal(decode_rgb(data), decode_rgb(images.plain()))


def test_a_wrong_checksum_sends_a_file_to_the_reference():
    """The fast decoder refuses pixel data with a wrong checksum, so that Pillow decides."""
    data = bytearray(images.plain())
    data[-20] ^= 1
    assert not is_fast(bytes(data))


def test_a_damaged_header_is_the_references_business():
    """A header with a wrong checksum is corrupt, whatever size it promises."""
    data = bytearray(images.plain())
    data[16:20] = b"\x7f\xff\xff\xff"
    with pytest.raises(ImageRejected, match="corrupt"):
        decode_rgb(bytes(data))


def _seeds() -> list[bytes]:
    files = []
    for path in [*_SAMPLE_PNGS[:4], SAMPLES / "SOB_M_PC-14-9146-100-002.jpg"]:
        with Image.open(path) as image:
            part = image.convert("RGB").crop((0, 0, 70, 50))
        files += [images.encode(part, kind) for kind in ("PNG", "PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")]
    return files


def _chunks(data: bytes) -> list[tuple[int, int]]:
    """Position and body length of a PNG's chunks."""
    found, position = [], 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        found.append((position, length))
        position += length + 12
    return found


def _damage(data: bytes, dice: random.Random) -> tuple[bytes, bool]:
    """Damage a file as storage or a hostile hand would; whether the hand mended the checksum afterwards."""
    out = bytearray(data)
    at = dice.randrange(len(out))
    match dice.randrange(6):
        case 0:
            for _ in range(dice.choice((1, 1, 3, 20))):
                out[dice.randrange(len(out))] = dice.randrange(256)
        case 1:
            del out[at:]
        case 2:
            del out[at : at + dice.randrange(1, 60)]
        case 3:
            out[at:at] = dice.randbytes(dice.randrange(1, 40))
        case 4 if data.startswith(images.PNG_SIGNATURE):
            position, length = dice.choice(_chunks(data))
            if length:
                out[position + 8 + dice.randrange(length)] = dice.randrange(256)
            end = position + 8 + length
            out[end : end + 4] = struct.pack(">I", zlib.crc32(out[position + 4 : end]))
            return bytes(out), True
        case _:
            for _ in range(3):
                out[dice.randrange(min(64, len(out)))] = dice.randrange(256)
    return bytes(out), False


def _outcome(data: bytes, *, reference: bool) -> np.ndarray | ImageRejected:
    try:
        if reference:
            return imaging.scale(imaging._decode_with_pillow(data, ImageLimits()), 144, 96)
        return decode_rgb(data)
    except ImageRejected as rejected:
        return rejected


def test_damaged_files_end_in_the_references_outcome():
    """Damaged bytes raise nothing but ImageRejected, and are judged only by pixels that the reference sees, too.

    One exception is known and accepted (core.imaging says why): pixel data altered on purpose, checksum mended.
    """
    dice = random.Random(20261123)
    seeds = _seeds()
    seen: Counter[str] = Counter()
    for number in range(_MUTANTS):
        data, mended = _damage(dice.choice(seeds), dice)
        ours, theirs = _outcome(data, reference=False), _outcome(data, reference=True)
        if isinstance(theirs, np.ndarray):
            assert isinstance(ours, np.ndarray), f"file {number}: refused ({ours}), but the reference decodes it"
            assert np.array_equal(ours, theirs), f"file {number}: other pixels than the reference's"
            seen["decoded"] += 1
        elif isinstance(ours, np.ndarray):
            assert mended, f"file {number}: decoded, but the reference refuses it ({theirs})"
            seen["lenient"] += 1
        else:
            seen[ours.reason] += 1
    # The test looked at both sides of the line.
    assert seen["decoded"] > _MUTANTS / 10
    assert seen["corrupt"] > _MUTANTS / 10
    assert seen["truncated"] > 10
