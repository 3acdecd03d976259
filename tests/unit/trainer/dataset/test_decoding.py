"""One decoding, two sizes."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from core.errors import ImageRejected
from core.imaging import decode_full, decode_rgb, scale
from tests.assets.images import encode, noise, turned
from tests.conftest import SAMPLES
from trainer.dataset.decoding import decode_views, look_at


def transparent() -> bytes:
    """Left half see-through."""
    pixels = noise(192, 288, channels=4)
    pixels[..., 3] = 255
    pixels[:, :144, 3] = 0
    return encode(pixels)


ODD = {
    "transparent": transparent(),
    "grey": encode(Image.fromarray(noise(192, 288)).convert("L")),
    "grey of 16 bits": encode(noise(192, 288, channels=1)[..., 0].astype(np.uint16) * 257),
    "palette": encode(Image.fromarray(noise(192, 288)).convert("P")),
    "turned": turned("JPEG", 6),
    "large": encode(noise(400, 500)),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_images_have_the_pixels_of_serving_in_both_sizes(kind: str) -> None:
    """Transparency, depth and orientation are treated alike: the field averages to the pixels."""
    views = decode_views(ODD[kind])
    assert np.array_equal(views.pixels, decode_rgb(ODD[kind]))
    assert np.array_equal(views.field, scale(decode_full(ODD[kind]), 288, 192))
    averaged = views.field.reshape(96, 2, 144, 2, 3).mean(axis=(1, 3))
    assert np.abs(averaged - views.pixels).mean() < 12


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("SOB_*")), ids=lambda path: path.name)
def test_real_images_have_the_pixels_of_serving(path) -> None:
    """Whichever decoder is used, PNG and JPEG."""
    data = path.read_bytes()
    views = decode_views(data)
    assert np.array_equal(views.pixels, decode_rgb(data))
    assert np.array_equal(views.field, scale(decode_full(data), 288, 192))


def test_the_digest_is_of_pixels_not_of_bytes() -> None:
    """Another compression is the same image, one grey level is another."""
    pixels = noise(60, 80)
    other = pixels.copy()
    other[30, 40, 1] ^= 1
    same = {decode_views(encode(pixels, compress_level=level)).digest for level in (1, 9)}
    assert len(same) == 1
    assert decode_views(encode(other)).digest not in same
    assert decode_views(encode(pixels, "BMP")).digest in same


def test_what_serving_refuses_is_refused() -> None:
    """Too small, damaged, no image: with serving's reason."""
    for data in (encode(noise(20, 20)), ODD["large"][:500], b"no image", b""):
        with pytest.raises(ImageRejected):
            decode_views(data)
        assert look_at(data, frozenset()).fault


def test_known_content_is_not_decoded() -> None:
    """Its hash is all that is asked."""
    data = ODD["large"]
    sha256 = hashlib.sha256(data).hexdigest()
    outcome = look_at(data, frozenset({sha256}))
    assert (outcome.sha256, outcome.views, outcome.fault) == (sha256, None, "")
    assert look_at(data, frozenset()).views is not None
