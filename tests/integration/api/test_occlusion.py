"""Where in an image its probability comes from, on its page: with the released bundle, in the engine's own process."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from PIL import Image

from core.bundle import newest_bundle_folder, read_manifest
from core.database import Database
from core.settings import PROJECT, Settings
from core.tables import Item, Result
from tests.integration.api.pictures import add_pictures, set_hashes, write_picture
from tests.integration.api.server import Api, add_items, add_submission, running
from tests.integration.api.visits import Visit

_BUNDLE = newest_bundle_folder(PROJECT / "models")
_MODEL = read_manifest(_BUNDLE).model_version
_SAMPLE = "SOB_M_DC-14-10926-100-001.png"


@pytest.fixture
def models() -> Path:
    """The bundle that is released."""
    return PROJECT / "models"


def _add_sample(database: Database, folder: Path, model_version: str) -> str:
    """Record a sample that a model classified; the address of its page."""
    shutil.copy(PROJECT / "samples" / _SAMPLE, folder)
    submission_id = add_submission(database, folder=str(folder))
    (item_id,) = add_items(database, submission_id, [{"path": _SAMPLE, "decision": "malignant", "probability": 0.75}])
    set_hashes(database, {item_id: blake3((folder / _SAMPLE).read_bytes()).hexdigest()})
    _classify(database, item_id, model_version)
    return f"/submissions/{submission_id}/items/{item_id}"


def _classify(database: Database, item_id: int, model_version: str) -> None:
    """Have an image's result be another model's."""
    with database.write() as session:
        item = session.get_one(Item, item_id)
        result = session.get_one(Result, item.result_id)
        result.model_version, result.content_hash = model_version, str(item.content_hash)
        session.add(result)


@pytest.mark.browser
def test_page_shows_on_request_where_the_probability_comes_from(api: Api, visit: Visit, images_root: Path) -> None:
    """The picture in colours, and in words by how much the probability moves; not before it is asked for."""
    address = _add_sample(api.database, images_root, _MODEL)
    visit.open(address)
    assert "Where the probability comes from" not in visit.text()
    visit.page.get_by_role("link", name="Show where the probability comes from").click()
    caption = visit.page.locator("figcaption").inner_text()
    assert "(openvino-int8)" in caption
    assert visit.measure_pictures() == [700]
    plain, coloured = (
        np.asarray(Image.open(io.BytesIO(api.http.get(f"{address}/picture/{kind}").content))).astype(int)
        for kind in ("large", "occlusion")
    )
    assert plain.shape == coloured.shape
    assert np.abs(coloured - plain).max() > 60
    visit.page.get_by_role("link", name="The image as it is").click()
    assert visit.page.locator("figure img").get_attribute("src") == f"{address}/picture/large"


def test_its_engine_agrees_with_itself(api: Api, images_root: Path) -> None:
    """The page's numbers are those of the engine: without a place the probability is lower here, higher there."""
    page = api.http.get(_add_sample(api.database, images_root, _MODEL), params={"occlusion": True}).text
    words = page.split("the image judged again: ")[1].split("It shows")[0].split()
    whole, lowest, highest = (float(word) for word in words if word.startswith("0."))
    assert 0 < lowest < whole < highest < 1
    assert highest - lowest > 0.05


def test_where_it_cannot_be_shown_the_page_says_why(api: Api, images_root: Path) -> None:
    """A model whose bundle is elsewhere, a file that is another now, an image without a result."""
    elsewhere = _add_sample(api.database, images_root, "other@9.0.0")
    page = api.http.get(elsewhere, params={"occlusion": True})
    assert page.status_code == 200
    assert "the bundle of other@9.0.0 is not on the API&#39;s machine" in page.text
    drawing = api.http.get(f"{elsewhere}/picture/occlusion")
    assert (drawing.headers["content-type"], drawing.headers["x-reason"]) == ("image/svg+xml", "bundle_refused")
    here = _add_sample(api.database, images_root, _MODEL)
    write_picture(images_root / _SAMPLE, 1)
    page = api.http.get(here, params={"occlusion": True})
    assert "its content is another than the one that was classified" in page.text
    submission_id = add_submission(api.database, folder=str(images_root))
    (item_id,) = add_items(api.database, submission_id, [{"path": "a.png", "state": "failed", "reason": "corrupt"}])
    page = api.http.get(f"/submissions/{submission_id}/items/{item_id}", params={"occlusion": True})
    assert page.status_code == 200
    assert "probability comes from" not in page.text
    assert api.http.get(f"/submissions/{submission_id}/items/{item_id}/picture/occlusion").status_code == 404


@pytest.fixture
def broken(api_settings: Settings, sqlite: Database, tmp_path: Path) -> Iterator[Api]:
    """An API whose bundle has lost its graph."""
    folder = tmp_path / "damaged"
    shutil.copytree(_BUNDLE, folder / _BUNDLE.name)
    (folder / _BUNDLE.name / "openvino" / "model.bin").unlink()
    with running(api_settings.model_copy(update={"models": folder}), sqlite) as opened:
        yield opened


def test_a_bundle_without_its_graph_is_told_and_names_no_folder(broken: Api, images_root: Path) -> None:
    """Readers learn that it does not run, and the log why."""
    page = broken.http.get(_add_sample(broken.database, images_root, _MODEL), params={"occlusion": True})
    assert page.status_code == 200
    assert "no CPU engine runs this model" in page.text
    assert "damaged" not in page.text


def test_pictures_of_another_model_are_not_mixed_up(api: Api, images_root: Path) -> None:
    """What is remembered is remembered by content and model."""
    first = _add_sample(api.database, images_root, _MODEL)
    assert "judged again" in api.http.get(first, params={"occlusion": True}).text
    submission_id, (other,) = add_pictures(api.database, images_root / "more", 1)
    _classify(api.database, other, _MODEL)
    one = api.http.get(f"{first}/picture/occlusion").content
    two = api.http.get(f"/submissions/{submission_id}/items/{other}/picture/occlusion").content
    assert one != two
