"""Files that are wrong on purpose, decoded in the processes in which workers decode."""

from functools import partial

import pytest
from PIL import Image

from core.errors import ImageRejected, Reason
from core.imaging import decode_rgb
from tests.assets import images
from tests.security import mutations
from tests.security.image_fuzz import BOUND_BYTES, LIMITS, decode_files

_SEED = 20261123
_FILES = 10_000


def test_ten_thousand_mutated_files_are_decoded_or_refused() -> None:
    """Each gives an image or a recorded reason; no exception, no dead process, no memory beyond the bound."""
    findings = decode_files(partial(mutations.make_file, _SEED), range(_FILES))
    assert findings.faults == []
    assert sum(findings.outcomes.values()) == _FILES
    # Otherwise the mutations would try one thing only.
    assert findings.outcomes["image"] > _FILES / 20
    assert {"corrupt", "truncated", "not_an_image", "too_many_pixels", "multiple_frames"} <= set(findings.outcomes)
    assert findings.peak_bytes < BOUND_BYTES


def test_the_same_number_is_the_same_file() -> None:
    """A fault that is found is found again."""
    assert mutations.make_file(3, 4) == mutations.make_file(3, 4)
    assert len({mutations.make_file(3, number) for number in range(200)}) > 150


def test_a_bomb_as_it_is_is_judged_within_the_bound() -> None:
    """What unpacks to 200 MB, or promises a billion pixels, takes next to nothing."""
    findings = decode_files(mutations.bombs().__getitem__, range(len(mutations.bombs())))
    assert findings.faults == []
    assert findings.outcomes["too_many_pixels"] >= 4


def test_pixels_are_counted_before_they_are_unpacked() -> None:
    """The limit of pixels is one of the header, whatever the format."""
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000"):
        data = images.encode(Image.new("RGB", (1500, 1500)), kind)
        with pytest.raises(ImageRejected) as caught:
            decode_rgb(data, LIMITS)
        assert caught.value.reason == Reason.TOO_MANY_PIXELS
