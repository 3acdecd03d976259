"""Image files that are wrong in ways that hit decoders: each is a function of a seed and a number."""

import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from tests.assets.images import bomb_png, chunk, encode, frames, noise, png, rgb16_png, turned, with_chunk, with_text

_HEADER_BYTES = 64
_MOST_MUTATIONS = 4
# Where sizes, counts and offsets turn over.
_NUMBERS = (0, 1, 2, 3, 31, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)

Mutation = Callable[[bytearray, random.Random], bytearray]


def make_file(seed: int, number: int) -> bytes:
    """Make the file with this number: one of the sources, after one to four mutations."""
    # Text seeds it the same on every machine; a tuple would not.
    choice = random.Random(f"{seed}/{number}")
    return mutate(choice.choice(sources()), choice)


def mutate(data: bytes, choice: random.Random) -> bytes:
    """Apply one to four mutations."""
    mutated = bytearray(data)
    for _ in range(choice.randint(1, _MOST_MUTATIONS)):
        mutated = choice.choice(_MUTATIONS)(mutated, choice)
    return bytes(mutated)


@cache
def sources() -> tuple[bytes, ...]:
    """Small files of every format and kind of pixels that the decoder takes, and of some that it refuses."""
    rgb = Image.fromarray(noise(36, 44))
    smooth = Image.linear_gradient("L").resize((44, 36)).convert("RGB")
    palette = smooth.convert("P")
    clear = Image.fromarray(noise(36, 44, 4), "RGBA")
    grey16 = Image.fromarray(np.arange(36 * 44, dtype=np.uint16).reshape(36, 44) * 40)
    plain = encode(smooth)
    pngs = [
        plain,
        encode(rgb),
        encode(clear),
        encode(palette),
        encode(palette, transparency=3),
        encode(smooth.convert("1")),
        encode(grey16),
        rgb16_png(np.full((36, 44, 3), 40_000, np.uint16)),
        png(44, 36, 8, 2, b"\0" * 36 * (1 + 44 * 3), interlaced=True),
        turned("PNG", 6),
        with_text(plain, "Raw profile type exif", "\nexif\n 4\n00000000"),
        with_chunk(plain, b"iCCP", b"profile\0\0" + zlib.compress(b"\0" * 5000)),
        frames("PNG"),
    ]
    jpegs = [
        encode(smooth, "JPEG"),
        encode(rgb, "JPEG", progressive=True),
        encode(smooth.convert("L"), "JPEG"),
        encode(smooth.convert("CMYK"), "JPEG"),
        encode(smooth, "JPEG", subsampling=2, restart_marker_blocks=1),
        turned("JPEG", 6),
    ]
    compressions = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "tiff_deflate", "zstd")
    tiffs = [encode(smooth, "TIFF", compression=name) for name in compressions]
    tiffs += [
        encode(grey16, "TIFF"),
        encode(palette, "TIFF"),
        encode(smooth.convert("1"), "TIFF", compression="group4"),
    ]
    tiffs += [encode(clear, "TIFF", compression="tiff_lzw"), encode(smooth, "TIFF", big_tiff=True), frames("TIFF")]
    others = [
        encode(smooth, "BMP"),
        encode(palette, "BMP"),
        encode(smooth.convert("1"), "BMP"),
        encode(smooth, "WEBP"),
        encode(clear, "WEBP", lossless=True),
        turned("WEBP", 6),
        encode(palette, "GIF"),
        encode(palette, "GIF", interlace=1, transparency=0),
        frames("GIF"),
        encode(smooth, "JPEG2000"),
        encode(smooth, "JPEG2000", irreversible=True, tile_size=(16, 16)),
        encode(grey16, "JPEG2000"),
    ]
    return (*pngs, *jpegs, *tiffs, *others, *bombs())


@cache
def bombs() -> tuple[bytes, ...]:
    """Small files that promise, or unpack to, far more than they are."""
    plain = encode(Image.linear_gradient("L").resize((44, 36)).convert("RGB"))
    much = zlib.compress(b"\0" * 200_000_000, 9)
    gif = bytearray(encode(Image.linear_gradient("L").resize((44, 36)).convert("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    bmp = bytearray(encode(noise(36, 44), "BMP"))
    bmp[18:26] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    return (
        bomb_png(),
        # A picture of few pixels whose data unpacks to 200 MB.
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 44, 36, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", much)
        + chunk(b"IEND", b""),
        with_chunk(plain, b"zTXt", b"note\0\0" + much),
        with_chunk(plain, b"iCCP", b"profile\0\0" + much),
        with_chunk(plain, b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + much),
        with_chunk(plain, b"zTXt", b"Raw profile type exif\0\0" + much),
        bytes(gif),
        bytes(bmp),
        _tiff(2**31 - 1, 2**31 - 1),
    )


def _tiff(width: int, height: int) -> bytes:
    """An uncompressed grey TIFF of one strip, whatever it says of its size."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 108) + bytes(100) + struct.pack("<H", len(tags)) + entries + bytes(4)


def _flip_bits(data: bytearray, choice: random.Random) -> bytearray:
    for _ in range(choice.choice((1, 1, 2, 8, 32))):
        if data:
            data[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
    return data


def _write_number(data: bytearray, choice: random.Random) -> bytearray:
    """Put a number that is on the edge where a size, a count or an offset may stand."""
    end = len(data) if choice.random() < 0.5 else min(_HEADER_BYTES, len(data))
    layout = choice.choice(("<H", ">H", "<I", ">I"))
    packed = struct.pack(layout, choice.choice(_NUMBERS) & (0xFFFF if layout[1] == "H" else 0xFFFFFFFF))
    place = choice.randrange(max(1, end))
    data[place : place + len(packed)] = packed
    return data


def _truncate(data: bytearray, choice: random.Random) -> bytearray:
    return data[: choice.randrange(len(data) + 1)]


def _append(data: bytearray, choice: random.Random) -> bytearray:
    return data + choice.randbytes(choice.choice((1, 7, 300)))


def _block(data: bytearray, choice: random.Random) -> slice:
    start = choice.randrange(len(data) + 1)
    return slice(start, start + choice.choice((1, 4, 16, 64, 256)))


def _double_block(data: bytearray, choice: random.Random) -> bytearray:
    block = _block(data, choice)
    data[block.start : block.start] = data[block] * choice.choice((1, 1, 2, 20))
    return data


def _drop_block(data: bytearray, choice: random.Random) -> bytearray:
    del data[_block(data, choice)]
    return data


def _fill_block(data: bytearray, choice: random.Random) -> bytearray:
    block = _block(data, choice)
    data[block] = bytes([choice.choice((0, 0xFF, 0x7F, 0x80))]) * len(data[block])
    return data


def _splice(data: bytearray, choice: random.Random) -> bytearray:
    """Go on with the rest of another file, often of another format."""
    other = choice.choice(sources())
    return data[: choice.randrange(len(data) + 1)] + other[choice.randrange(len(other)) :]


def _insert_part(data: bytearray, choice: random.Random) -> bytearray:
    other = bytearray(choice.choice(sources()))
    place = choice.randrange(len(data) + 1)
    data[place:place] = other[_block(other, choice)]
    return data


def _rearrange_png(data: bytearray, choice: random.Random) -> bytearray:
    """Double, drop, swap, retype or resize a chunk of a PNG, with check sums that are right."""
    if not data.startswith(b"\x89PNG"):
        return _write_number(data, choice)
    chunks = _png_chunks(bytes(data))
    place = choice.randrange(len(chunks)) if chunks else 0
    if not chunks:
        return data
    kind, body = chunks[place]
    what = choice.randrange(5)
    if what == 0:
        chunks.insert(place, chunks[place])
    elif what == 1:
        del chunks[place]
    elif what == 2:
        chunks[place], chunks[-1] = chunks[-1], chunks[place]
    elif what == 3:
        chunks[place] = (choice.choice((b"tRNS", b"PLTE", b"eXIf", b"acTL", b"fdAT", b"iCCP", b"gAMA", b"IDAT")), body)
    elif kind == b"IHDR":
        chunks[place] = (kind, bytes(_write_number(bytearray(body), choice))[:13])
    else:
        chunks[place] = (kind, bytes(_flip_bits(bytearray(body), choice)))
    return bytearray(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in chunks))


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += length + 12
    return found


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _flip_bits,
    _write_number,
    _write_number,
    _truncate,
    _append,
    _double_block,
    _drop_block,
    _fill_block,
    _splice,
    _insert_part,
    _rearrange_png,
)
