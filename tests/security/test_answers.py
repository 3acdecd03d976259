"""What comes from files and bundles stays data: in heads of answers, and where a model is loaded."""

from pathlib import Path

import pytest

from core.bundle import MANIFEST, load_bundle, read_manifest, write_manifest
from core.bundle import describe_file as describe
from core.errors import BundleError
from tests.integration.api.conftest import api, api_settings, models  # noqa: F401 - fixtures
from tests.integration.api.server import Api, write_bundle
from tests.security.stored import HOSTILE_NAMES, fill

_DOWNLOADS = ("results.csv", "results.jsonl", "patients.csv", "slides.csv", "report.html", "items")


def test_no_name_gets_into_an_answers_head(api: Api, images_root: Path) -> None:  # noqa: F811 - a fixture
    """Names with line ends and quotes, in files, and in what a client says of itself: heads are ours alone."""
    stored = fill(api.database, images_root)
    for name in _DOWNLOADS:
        answer = api.http.get(f"/v1/submissions/{stored.ended[0]}/{name}", headers={"X-Request-ID": 'a"b; c=d'})
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
        assert answer.headers["x-request-id"] != 'a"b; c=d'
        for hostile in HOSTILE_NAMES:
            assert hostile.encode() not in b"".join(value for _, value in answer.headers.raw)
    bad = api.http.get("/v1/submissions/%0d%0aSet-Cookie:%20x=1/results.csv")
    assert (bad.status_code, "set-cookie" in bad.headers) == (404, False)


def test_a_linked_file_of_a_bundle_is_held_to_its_hash(tmp_path: Path) -> None:
    """A file may be a link, as stores of models keep them; what it leads to must be what the manifest names."""
    folder = tmp_path / "bundle"
    write_bundle(folder, "1.0.0")
    (folder / "card.md").write_text("the card")
    entry = describe(folder, folder / "card.md", "card")
    write_manifest(folder, read_manifest(folder).model_copy(update={"files": (entry,)}))
    load_bundle(folder)
    (tmp_path / "elsewhere").write_text("another card")
    (folder / "card.md").unlink()
    (folder / "card.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="sha256 differs"):
        load_bundle(folder)
    assert (folder / MANIFEST).is_file()
