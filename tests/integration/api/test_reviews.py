"""/v1/reviews: what needs review, signing off, and what was signed off."""

import pytest

from tests.integration.api.server import Api, add_items, add_submission

_MALIGNANT: dict[str, object] = {"decision": "malignant", "probability": 0.9}
_UNCERTAIN: dict[str, object] = {"decision": "uncertain", "probability": 0.5, "patient": "14-1"}
_BENIGN: dict[str, object] = {"decision": "benign", "probability": 0.1}


def _needed(api: Api, **query: object) -> list[int]:
    answer = api.http.get("/v1/reviews/needed", params=query)
    assert answer.status_code == 200
    return [item["id"] for item in answer.json()["items"]]


def test_what_is_signed_off_needs_no_review_and_says_the_verdict(each_api: Api) -> None:
    """The newest verdict stands with the image, in the list of reviews, and in each download."""
    submission_id = add_submission(each_api.database)
    ids = add_items(each_api.database, submission_id, [_MALIGNANT, _UNCERTAIN, _BENIGN])
    assert _needed(each_api) == [ids[1], ids[0]]
    assert _needed(each_api, kind="malignant") == [ids[0]]
    assert _needed(each_api, patient="14-1", submission=submission_id) == [ids[1]]
    address = f"/v1/submissions/{submission_id}/items/{ids[1]}/reviews"
    for verdict, note in (("undecided", "blurred"), ("benign", "seen again")):
        answer = each_api.http.post(address, json={"verdict": verdict, "note": note})
        assert answer.status_code == 201
        assert (answer.json()["said"], answer.json()["superseded"]) == ("uncertain", False)
    assert _needed(each_api) == [ids[0]]
    history = each_api.http.get(address).json()["reviews"]
    assert [(review["verdict"], review["superseded"]) for review in history] == [("benign", False), ("undecided", True)]
    assert each_api.http.get("/v1/reviews", params={"submission": submission_id}).json()["reviews"] == history
    items = each_api.http.get(f"/v1/submissions/{submission_id}/items").json()["items"]
    assert [item["verdict"] for item in items] == [None, "benign", None]
    lines = each_api.http.get(f"/v1/submissions/{submission_id}/results.csv").text.splitlines()
    assert lines[0].endswith("classified_at,verdict,notice")
    assert ',benign,"Research use only' in lines[2]


def test_reviews_and_what_needs_them_come_in_pages(each_api: Api) -> None:
    """Newest first, each once, however small the pages."""
    submission_id = add_submission(each_api.database)
    ids = add_items(each_api.database, submission_id, [_MALIGNANT, _UNCERTAIN] * 4)
    found, cursor = [], None
    while True:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = each_api.http.get("/v1/reviews/needed", params=query).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == ids[::-1]
    for item_id in ids[:3]:
        each_api.http.post(f"/v1/submissions/{submission_id}/items/{item_id}/reviews", json={"verdict": "benign"})
    first = each_api.http.get("/v1/reviews", params={"limit": 2}).json()
    second = each_api.http.get("/v1/reviews", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [review["item_id"] for review in first["reviews"] + second["reviews"]] == ids[2::-1]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"verdict": "ill"},
        {"verdict": "benign", "note": "x" * 2001},
        {"verdict": "benign", "note": "nul \0"},
        {"verdict": "benign", "note": "\x1b[2J"},
        {"verdict": "benign", "reviewer": "someone else"},
    ],
)
def test_what_is_no_review_is_refused(api: Api, body: dict[str, str]) -> None:
    """No verdict, an unknown one, a note that is too long or holds control characters, or another's name."""
    submission_id = add_submission(api.database)
    (item_id,) = add_items(api.database, submission_id, [_MALIGNANT])
    answer = api.http.post(f"/v1/submissions/{submission_id}/items/{item_id}/reviews", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (422, "request_invalid")
    assert api.http.get("/v1/reviews").json()["reviews"] == []
