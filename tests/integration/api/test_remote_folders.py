"""Addresses are submitted like folders, without a look at what lies there."""

from core.database import Database
from core.settings import Settings
from tests.integration.api.server import running


def test_an_address_below_a_remote_root_is_accepted(api_settings: Settings, sqlite: Database) -> None:
    """The API's machine needs neither credentials nor the extra; others are refused, without their password."""
    with running(api_settings.model_copy(update={"remote_roots": ("s3://scans/new",)}), sqlite) as api:
        accepted = api.http.post("/v1/submissions", json={"folder": "s3://scans/new/2026/"})
        assert accepted.status_code == 202
        assert accepted.json()["folder"] == "s3://scans/new/2026"
        for folder in ("s3://scans/newer", "s3://scans", "sftp://me:secret@scans/new", "ftp://scans/new"):
            refused = api.http.post("/v1/submissions", json={"folder": folder})
            assert (refused.status_code, refused.json()["reason"]) == (403, "folder_not_allowed")
            assert "secret" not in refused.text
