"""Every kind of file that storage may hold becomes the network's input on purpose, or a reason."""

import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from core.errors import ImageRejected, Reason
from core.imaging import HEIGHT, WIDTH, ImageLimits, decode_rgb
from tests.assets import images
from tests.conftest import SAMPLES

SAMPLE_FILES = sorted([*SAMPLES.glob("*.png"), *SAMPLES.glob("*.jpg")])


_DEFAULT = ImageLimits()


def rejection(data: bytes, limits: ImageLimits = _DEFAULT) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode_rgb(data, limits)
    return caught.value


def reference(image: Image.Image) -> np.ndarray:
    """What the README promises, said once more in Pillow's words."""
    return np.asarray(image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX))


@pytest.mark.parametrize("path", SAMPLE_FILES, ids=lambda path: path.name)
def test_a_sample_becomes_the_networks_input(path):
    """The output is RGB uint8 (96, 144, 3), contiguous, and what Pillow makes of the file."""
    pixels = decode_rgb(path.read_bytes())
    assert pixels.shape == (96, 144, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    with Image.open(path) as image:
        assert np.array_equal(pixels, reference(image))


def test_the_repository_has_samples():
    """The test above runs on something."""
    assert len(SAMPLE_FILES) >= 10


@pytest.mark.parametrize("name", images.broken_files())
def test_what_cannot_be_judged_has_its_reason(name):
    """Each kind of broken file is refused under the reason code that people filter by."""
    data, reason = images.broken_files()[name]
    rejected = rejection(data)
    assert rejected.reason == reason
    assert len(rejected.detail) > 10
    assert "\n" not in rejected.detail


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP", "JPEG2000", "GIF", "JPEG"])
def test_formats_of_microscopes_are_accepted(kind):
    """All formats of the list decode to what Pillow decodes."""
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    data = images.encode(images.noise(), kind, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(decode_rgb(data), reference(image))


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n",
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"/>',
        b"%PDF-1.7\n1 0 obj\nendobj\n",
        b"P6 60 60 255\n" + bytes(60 * 60 * 3),
        images.encode(images.noise(64, 64), "ICO"),
    ],
    ids=["eps", "svg", "pdf", "ppm", "ico"],
)
def test_formats_outside_the_list_are_no_images(data):
    """Formats that run interpreters or never hold tissue meet no decoder."""
    assert rejection(data).reason == Reason.NOT_AN_IMAGE


@pytest.mark.parametrize(
    "signature",
    [
        images.PNG_SIGNATURE,
        b"\xff\xd8\xff\xe0",
        b"II*\x00",
        b"MM\x00*",
        b"GIF89a",
        b"BM",
        b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    ],
)
def test_a_right_signature_with_a_broken_header_is_corrupt(signature):
    """A damaged image is told from a file that never was one."""
    assert rejection(signature + b"\x5a" * 64).reason == Reason.CORRUPT


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("path", [SAMPLE_FILES[0], SAMPLES / "SOB_M_PC-14-9146-100-002.jpg"], ids=["png", "jpeg"])
def test_a_truncated_image_is_truncated_wherever_it_ends(path, share):
    """An upload that stopped is never judged by the part that arrived."""
    data = path.read_bytes()
    assert rejection(data[: int(len(data) * share)]).reason == Reason.TRUNCATED


def test_damaged_pixels_are_corrupt():
    """A PNG whose pixel data were overwritten is refused, although its header is whole."""
    data = bytearray(SAMPLE_FILES[0].read_bytes())
    data[100_000:100_400] = b"\xa5" * 400
    assert rejection(bytes(data)).reason == Reason.CORRUPT


def test_16_bit_grey_keeps_its_upper_bits():
    """The format's full range is the camera's full range."""
    grey = np.full((60, 80), 0x8001, np.uint16)
    assert (decode_rgb(images.encode(grey)) == 0x80).all()
    assert (decode_rgb(images.encode(grey, "TIFF")) == 0x80).all()


def test_big_endian_16_bit_grey_keeps_its_upper_bits():
    """The byte order of a TIFF changes nothing."""
    grey = Image.frombytes("I;16B", (80, 60), np.full((60, 80), 0x8001, ">u2").tobytes())
    assert (decode_rgb(images.encode(grey, "TIFF")) == 0x80).all()


def test_16_bit_rgb_png_keeps_its_upper_bits():
    """Cameras with 16 bits a channel are not refused, and not read as 8-bit."""
    pixels = np.full((60, 80, 3), (0x1234, 0x8001, 0xFF00), np.uint16)
    assert (decode_rgb(images.rgb16_png(pixels)) == (0x12, 0x80, 0xFF)).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_becomes_its_colours(kind):
    """Indices are looked up, never taken for grey."""
    image = Image.new("P", (80, 60), 1)
    image.putpalette([0, 0, 0, 200, 30, 90])
    assert (decode_rgb(images.encode(image, kind)) == (200, 30, 90)).all()


def test_a_transparent_palette_entry_becomes_white():
    """What is see-through shows the slide's bright background."""
    image = Image.new("P", (80, 60), 1)
    image.putpalette([0, 0, 0, 200, 30, 90])
    assert (decode_rgb(images.encode(image, transparency=1)) == 255).all()


def test_a_transparent_colour_of_a_plain_png_becomes_white():
    """tRNS in an RGB PNG is obeyed: such a file must not take the fast path."""
    image = Image.new("RGB", (80, 60), (200, 30, 90))
    assert (decode_rgb(images.encode(image, transparency=(200, 30, 90))) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_grey_becomes_equal_channels(kind):
    """Grey is RGB with three equal channels."""
    pixels = decode_rgb(images.encode(Image.new("L", (80, 60), 77), kind))
    assert (pixels == 77).all()


def test_grey_with_alpha_is_laid_on_white():
    """Half see-through black becomes mid grey."""
    pixels = decode_rgb(images.encode(Image.new("LA", (80, 60), (0, 128))))
    assert (np.abs(pixels.astype(int) - 127) <= 1).all()


def test_alpha_is_laid_on_white():
    """Half see-through red becomes pink; fully see-through becomes white whatever its colour."""
    half = decode_rgb(images.encode(Image.new("RGBA", (80, 60), (255, 0, 0, 128))))
    assert (np.abs(half.astype(int) - (255, 127, 127)) <= 1).all()
    assert (decode_rgb(images.encode(Image.new("RGBA", (80, 60), (9, 9, 9, 0)))) == 255).all()


def test_cmyk_becomes_rgb():
    """A JPEG from a print workflow has its colours, not their negative."""
    image = Image.new("CMYK", (80, 60), (0, 255, 255, 0))
    pixels = decode_rgb(images.encode(image, "JPEG", quality=100)).astype(int)
    assert (np.abs(pixels - (255, 0, 0)) <= 3).all()


def test_one_bit_becomes_black_and_white():
    """1-bit images decode; the model judges them."""
    assert (decode_rgb(images.encode(Image.new("1", (80, 60), 1))) == 255).all()


def test_float_and_lab_pixels_have_no_agreed_colours():
    """Pixels without an agreed range are refused rather than guessed."""
    assert rejection(images.encode(Image.new("I", (80, 60), 5), "TIFF")).reason == Reason.UNSUPPORTED_PIXELS
    assert rejection(images.encode(Image.new("LAB", (80, 60)), "TIFF")).reason == Reason.UNSUPPORTED_PIXELS


# EXIF orientation to the colour that must then be at the top left, and the one at the top right.
_CORNERS = {
    1: ((255, 0, 0), (0, 255, 0)),
    2: ((0, 255, 0), (255, 0, 0)),
    3: ((255, 255, 255), (0, 0, 255)),
    4: ((0, 0, 255), (255, 255, 255)),
    5: ((255, 0, 0), (0, 0, 255)),
    6: ((0, 0, 255), (255, 0, 0)),
    7: ((255, 255, 255), (0, 255, 0)),
    8: ((0, 255, 0), (255, 255, 255)),
}


@pytest.mark.parametrize("orientation", _CORNERS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(kind, orientation):
    """The network sees what the person at the microscope saw."""
    pixels = decode_rgb(images.turned(kind, orientation)).astype(int)
    top_left, top_right = _CORNERS[orientation]
    assert np.abs(pixels[8, 8] - top_left).max() < 40
    assert np.abs(pixels[8, -8] - top_right).max() < 40


@pytest.mark.parametrize("keyword", ["XML:com.adobe.xmp", "Raw profile type exif"])
def test_orientation_in_a_text_chunk_is_applied_like_exif(keyword):
    """A PNG may carry its orientation as text; the fast path must not overlook it."""
    exif = Image.Exif()
    exif[images.ORIENTATION] = 3
    raw = exif.tobytes()
    text = {
        "XML:com.adobe.xmp": '<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>',
        "Raw profile type exif": f"\nexif\n{len(raw):8}\n{raw.hex()}\n",
    }[keyword]
    pixels = decode_rgb(images.with_text(images.encode(images.quadrants()), keyword, text))
    assert tuple(pixels[8, 8]) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\x00\xff\xff\xff\xff", b"\xff" * 40, b"Exif\0\0MM"])
def test_damaged_exif_does_not_cost_the_image(kind, exif):
    """Whole pixels are judged even where the camera's notes are broken."""
    data = images.encode(Image.new("RGB", (80, 60), (200, 30, 90)), kind, exif=exif)
    assert np.abs(decode_rgb(data).astype(int) - (200, 30, 90)).max() < 6


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "WEBP"])
def test_files_of_several_frames_are_refused(kind):
    """Which frame is meant is for the submitter to say."""
    rejected = rejection(images.frames(kind, 3))
    assert rejected.reason == Reason.MULTIPLE_FRAMES
    assert "3" in rejected.detail


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_a_single_frame_of_an_animated_format_is_an_image(kind):
    """One page or frame is no ambiguity."""
    assert decode_rgb(images.encode(images.noise(), kind)).shape == (96, 144, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (31, 400), (400, 31), (1, 5000)])
@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_images_too_small_to_judge_are_refused(kind, height, width):
    """Enlarging would invent tissue."""
    assert rejection(images.encode(images.noise(height, width), kind)).reason == Reason.TOO_SMALL


def test_the_smallest_side_counts_inclusively():
    """32 pixels are enough, by default."""
    assert decode_rgb(images.encode(images.noise(32, 32))).shape == (96, 144, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_pixel_limit_counts_inclusively(kind):
    """max_pixels pixels pass, one row more is refused before decoding."""
    data = images.encode(images.noise(60, 80), kind)
    assert decode_rgb(data, ImageLimits(max_pixels=4800)).shape == (96, 144, 3)
    assert rejection(data, ImageLimits(max_pixels=4799)).reason == Reason.TOO_MANY_PIXELS


def _bmp_bomb() -> bytes:
    data = bytearray(images.encode(images.noise(), "BMP"))
    data[18:26] = (30_000).to_bytes(4, "little") * 2
    return bytes(data)


def _jpeg_bomb() -> bytes:
    data = bytearray(images.encode(images.noise(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (30_000).to_bytes(2, "big") * 2
    return bytes(data)


def _gif_bomb() -> bytes:
    data = bytearray(images.encode(images.noise(), "GIF"))
    data[6:10] = (30_000).to_bytes(2, "little") * 2
    return bytes(data)


def _large_tiff() -> bytes:
    # 400 million pixels of one value compress to little; such a file is whole, and still too much.
    return images.encode(Image.new("1", (20_000, 20_000)), "TIFF", compression="group4")


@pytest.mark.parametrize("make", [images.bomb_png, _bmp_bomb, _jpeg_bomb, _gif_bomb, _large_tiff])
def test_a_bomb_is_refused_without_taking_memory(make: Callable[[], bytes], tmp_path):
    """A tiny file that promises 900 million pixels costs no memory: 2.7 GB would be needed to decode it."""
    bomb = tmp_path / "bomb"
    bomb.write_bytes(make())
    script = """
import resource, sys
from core.errors import ImageRejected
from core.imaging import decode_rgb
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_rgb(open(sys.argv[1], "rb").read())
except ImageRejected as rejected:
    print(rejected.reason.value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script, str(bomb)], capture_output=True, text=True, check=True)
    reason, grown_kib = done.stdout.split()
    assert reason == Reason.TOO_MANY_PIXELS
    assert int(grown_kib) < 30_000


def test_decoding_changes_nothing_global():
    """Threads decode at once: Pillow's own limits and switches stay as they are."""
    before = Image.MAX_IMAGE_PIXELS
    rejection(images.bomb_png())
    decode_rgb(images.plain())
    assert before == Image.MAX_IMAGE_PIXELS


def test_details_name_no_pixels_and_no_paths():
    """Details are logged and shown, so they may hold nothing of the file's content."""
    for data, _ in images.broken_files().values():
        assert "Dear" not in rejection(data).detail
