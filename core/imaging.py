"""Image bytes to the network's input: the one function that training and serving share.

Pillow is the reference that decides what an image is and what its pixels are. Plain 8-bit RGB PNGs, the format
of BreakHis and of most microscope cameras, take a faster decoder that yields the same pixels (tests hold the two
against each other); whatever that decoder refuses goes to Pillow. It is the more lenient one in two respects, both
accepted: damaged notes beside whole pixels (colour profiles, compressed text), and pixel data whose inner checksum
is wrong while the one around it is right, which no accident of storage brings about.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from kornia_rs import io as rust_codecs
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from core.errors import ImageRejected, Reason

WIDTH = 144
HEIGHT = 96
# Bundles carry this name. Change it whenever a pixel of the output changes: old bundles then refuse to load.
PREPROCESSING = "rgb8-box-144x96-v1"

# Formats that microscopes and archives produce. Formats that run interpreters (EPS) or are never images of
# tissue stay out, so that hostile files meet less code.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000")

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
)
# Chunks that change what a PNG looks like (transparency, orientation, animation): Pillow's business.
_PNG_SPECIAL_CHUNKS = frozenset({b"tRNS", b"eXIf", b"acTL"})
_PNG_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
# Texts by which Pillow turns, crops or sees through an image; all others are notes.
_PNG_SPECIAL_TEXTS = (b"Raw profile type", b"XML:com.adobe.xmp", b"exif\0", b"xmp\0", b"transparency\0", b"bbox\0")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE = (255, 255, 255)  # the background of a bright-field slide


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What an image may ask of the decoder.

    Attributes:
        max_pixels: width x height above which nothing is decoded (a pixel costs about 8 bytes while decoding).
        min_side_px: smaller images hold no tissue that could be judged; enlarging them would invent it.
    """

    max_pixels: int = 50_000_000
    min_side_px: int = 32


def decode_rgb(data: bytes, limits: ImageLimits = ImageLimits()) -> NDArray[np.uint8]:
    """Decode one image file and scale it to the network's input.

    Scaling averages over boxes and does not keep the aspect ratio (BreakHis' 700x460 differs from 144x96 by 1.5 %),
    as in the paper.

    Args:
        data: the bytes of a file in one of FORMATS.
        limits: sizes outside which the image is refused before its pixels are decoded.

    Returns:
        RGB uint8 (96, 144, 3), C-contiguous.

    Raises:
        ImageRejected: with the reason code under which the image is recorded.
    """
    return scale(decode_full(data, limits), WIDTH, HEIGHT)


def decode_full(data: bytes, limits: ImageLimits = ImageLimits()) -> Image.Image:
    """Decode one image file at its own size, as RGB.

    Orientation (EXIF) is applied, transparency is laid on white, palette, grey and CMYK become RGB, 16-bit grey
    keeps its upper 8 bits.

    Args:
        data: the bytes of a file in one of FORMATS.
        limits: sizes outside which the image is refused before its pixels are decoded.

    Raises:
        ImageRejected: with the reason code under which the image is recorded.
    """
    if not data:
        raise ImageRejected(Reason.EMPTY_FILE, "the file has no bytes")
    shape = _plain_png_shape(data)
    if shape is None:
        return _decode_with_pillow(data, limits)
    height, width = shape
    _check_size(width, height, limits)
    pixels = _decode_plain_png(data, shape)
    return _decode_with_pillow(data, limits) if pixels is None else Image.fromarray(pixels)


def scale(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """Average an RGB image over boxes: uint8 (height, width, 3)."""
    return np.array(image.resize((width, height), Image.Resampling.BOX), dtype=np.uint8)


def _decode_plain_png(data: bytes, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode to RGB uint8 (height, width, 3); None where the decoder refuses, so that Pillow names the fault."""
    try:
        pixels: NDArray[np.uint8] = rust_codecs.decode_image_png_u8(data, shape, "rgb")
    except Exception:  # the Rust binding raises plain Exception
        return None
    return pixels


def _plain_png_shape(data: bytes) -> tuple[int, int] | None:
    """Walk the chunks of a PNG: (height, width) where it is plain 8-bit RGB and complete, else None."""
    if not data.startswith(_SIGNATURES[0][0]) or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if (depth, colour) != (8, 2) or data[29:33] != zlib.crc32(data[12:29]).to_bytes(4, "big"):
        return None
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        if kind in _PNG_SPECIAL_CHUNKS:
            return None
        if kind in _PNG_TEXT_CHUNKS and data.startswith(_PNG_SPECIAL_TEXTS, position + 8):
            return None
        if kind == b"IEND":
            return height, width
        position += length + 12
    return None


def _decode_with_pillow(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decode with the reference decoder, refusing what cannot be judged."""
    try:
        with warnings.catch_warnings():
            # Our own limit decides about size; damaged metadata does not matter when the pixels are whole.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image.width, image.height, limits)
                frames = int(getattr(image, "n_frames", 1))
                if frames > 1:
                    raise ImageRejected(
                        Reason.MULTIPLE_FRAMES,
                        f"the {image.format} holds {frames} frames or pages; submit each as its own image",
                    )
                image.load()
                return _upright(_to_rgb(image), image)
    except ImageRejected:
        raise
    except UnidentifiedImageError as error:
        raise _unidentified(data) from error
    except Image.DecompressionBombError as error:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, "the decoder takes the file for a decompression bomb") from error
    except MemoryError as error:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, "not enough memory to decode the image") from error
    except Exception as error:  # Pillow's plugins raise nearly every type on damaged input
        raise _damaged(error) from error


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageRejected(
            Reason.TOO_MANY_PIXELS, f"{width}x{height} pixels are more than the {limits.max_pixels} allowed"
        )
    if min(width, height) < limits.min_side_px:
        raise ImageRejected(Reason.TOO_SMALL, f"{width}x{height} pixels: each side needs at least {limits.min_side_px}")


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    """Turn pixels as the original's EXIF orientation asks; damaged EXIF asks nothing."""
    try:
        turn = _TURNS.get(original.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow's reader of EXIF raises nearly every type; whole pixels are judged all the same
        return rgb
    return rgb if turn is None else rgb.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey16_to_rgb(image)
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise ImageRejected(Reason.UNSUPPORTED_PIXELS, f"pixels of mode {image.mode} have no agreed range of colours")
    if image.has_transparency_data:
        foreground = image.convert("RGBA")
        background = Image.new("RGBA", foreground.size, (*_WHITE, 255))
        return Image.alpha_composite(background, foreground).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    """Keep the upper 8 of 16 bits: the format's full range is taken as the camera's full range."""
    grey16 = np.asarray(image)
    return Image.fromarray((grey16 >> 8).astype(np.uint8)).convert("RGB")


def _unidentified(data: bytes) -> ImageRejected:
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return ImageRejected(Reason.CORRUPT, f"starts like a {name} file, but its header cannot be read")
    return ImageRejected(Reason.NOT_AN_IMAGE, f"is none of {', '.join(FORMATS)}")


def _damaged(error: Exception) -> ImageRejected:
    text = str(error)
    if "truncated" in text or "unexpected end" in text.lower() or isinstance(error, EOFError):
        return ImageRejected(Reason.TRUNCATED, "the image data ends too early")
    return ImageRejected(Reason.CORRUPT, f"the image data cannot be decoded ({type(error).__name__})")
