"""Places of an image are blurred one by one, and what that does to the probability becomes colours."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.imaging import HEIGHT, WIDTH
from core.occlusion import COLUMNS, PLACE_PX, ROWS, STEP_PX, lay_over, measure_effects, occlude


def _noise() -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def test_each_image_has_one_place_blurred_and_all_places_cover_the_image() -> None:
    """What lies outside of a place stays as it is, and every pixel is in four places, at the edges too."""
    image = _noise()
    images = occlude(image)
    assert images.shape == (ROWS * COLUMNS, HEIGHT, WIDTH, 3)
    # A blurred pixel may keep one channel by chance; hardly all three.
    changed = (images != image).any(axis=3)
    times = changed.sum(axis=0)
    assert np.median(times) == 4
    assert times.min() >= 3
    for number, places in enumerate(changed):
        rows, columns = places.any(axis=1).nonzero()[0], places.any(axis=0).nonzero()[0]
        assert rows.max() - rows.min() < PLACE_PX
        assert columns.max() - columns.min() < PLACE_PX
        row, column = divmod(number, COLUMNS)
        assert abs(rows.mean() - row * STEP_PX) <= PLACE_PX / 2
        assert abs(columns.mean() - column * STEP_PX) <= PLACE_PX / 2
    # No structure is left in a place, and its mean colour is.
    middle = images[(ROWS // 2) * COLUMNS + COLUMNS // 2][HEIGHT // 2 - 12 : HEIGHT // 2 + 12, 60:84].astype(float)
    assert middle.std() < image.std() / 5
    assert abs(middle.mean() - image.mean()) < 20


def test_the_place_that_decides_is_found() -> None:
    """A judge who looks at one dark spot only: its place gets the colour of its class, and others get none."""
    image = np.full((HEIGHT, WIDTH, 3), 220, np.uint8)
    image[30:42, 90:102] = 40

    def judge(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.float32(1) - images[:, 30:42, 90:102].mean(axis=(1, 2, 3), dtype=np.float32) / np.float32(255)

    (probability,) = judge(image[np.newaxis]).tolist()
    effects = measure_effects(probability, judge(occlude(image)).tolist())
    assert effects.shape == (ROWS, COLUMNS)
    row, column = np.unravel_index(int(effects.argmax()), effects.shape)
    assert (row, column) in {(3, 8), (2, 8), (3, 7)}
    assert effects[:, :6].max() == 0
    picture = Image.new("RGB", (700, 460), (200, 150, 190))
    laid = np.asarray(lay_over(picture, effects)).astype(int)
    spot, far = laid[175, 467], laid[400, 100]
    assert far.tolist() == [200, 150, 190]
    assert spot[2] < 130 < spot[1]
    benign = np.asarray(lay_over(picture, -effects)).astype(int)[175, 467]
    assert benign[0] < 130 < benign[2]


def test_colours_lie_where_their_places_do() -> None:
    """The lattice's outermost points lie on the picture's edges, whatever its size."""
    for row, column, y, x in ((0, 0, 0, 0), (ROWS - 1, COLUMNS - 1, 99, 149), (ROWS // 2, COLUMNS // 2, 50, 75)):
        effects = np.zeros((ROWS, COLUMNS), np.float32)
        effects[row, column] = 0.3
        laid = np.asarray(lay_over(Image.new("RGB", (150, 100), (255, 255, 255)), effects)).astype(int)
        strongest = np.unravel_index(int((255 - laid[..., 2]).argmax()), laid.shape[:2])
        assert abs(int(strongest[0]) - y) <= 1
        assert abs(int(strongest[1]) - x) <= 1


def test_next_to_no_effect_gets_next_to_no_colour() -> None:
    """Rounding must not look like evidence."""
    picture = Image.new("RGB", (144, 96), (200, 150, 190))
    effects = np.zeros((ROWS, COLUMNS), np.float32)
    effects[4, 6] = 0.0004
    laid = np.asarray(lay_over(picture, effects)).astype(int)
    assert np.abs(laid - np.asarray(picture).astype(int)).max() <= 3
