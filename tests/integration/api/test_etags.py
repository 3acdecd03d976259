"""Asking again costs little where nothing changed: ETag and If-None-Match."""

import pytest

from tests.integration.api.server import Api, add_batch, add_items, add_submission


@pytest.mark.parametrize("name", ["", "/items"])
def test_what_did_not_change_is_not_sent_again(each_api: Api, name: str) -> None:
    """304 without a body while it is the same; the whole answer with another tag when it is not."""
    submission_id = add_submission(each_api.database)
    add_batch(each_api.database, submission_id, images=2, benign=1)
    add_items(each_api.database, submission_id, [{"decision": "benign", "probability": 0.1}])
    address = f"/v1/submissions/{submission_id}{name}"
    tag = each_api.http.get(address).headers["etag"]
    bare = tag.removeprefix("W/")
    for given in (tag, f"W/{bare}", bare, f'"other", {bare}', "*"):
        again = each_api.http.get(address, headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == "no-store"
    add_batch(each_api.database, submission_id, images=1, benign=1)
    add_items(each_api.database, submission_id, [{"decision": "benign", "probability": 0.2}], first=10)
    changed = each_api.http.get(address, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    assert changed.json()
