"""What the OpenAPI promises of every route alike, and what its types take."""

import pytest
from pydantic import TypeAdapter, ValidationError

from api.app import create_app
from api.archive_schemas import ArchiveChange, ScanCreate
from api.moments import Moment
from core.settings import Settings

_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def test_every_refusal_is_documented_as_a_problem() -> None:
    """Whoever writes a client from the document finds reason and detail, whatever the route's success is."""
    document = create_app(Settings()).openapi()
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert {"reason", "detail"} == set(document["components"]["schemas"]["Problem"]["properties"])
    for path, operations in document["paths"].items():
        if path in {"/live", "/ready"}:
            continue
        for operation in operations.values():
            refusals = {code: found for code, found in operation["responses"].items() if int(code) >= 400}
            assert {"401", "403", "429", "503"} <= set(refusals), path
            assert {str(found["content"]) for found in refusals.values()} == {
                str({"application/json": {"schema": _PROBLEM}})
            }, path
            assert {name for choice in operation["security"] for name in choice} >= {"bearer", "basic"}, path


def test_probes_ask_for_nothing() -> None:
    """An orchestrator has no key, and /ready has a body of its own for what is not ready."""
    paths = create_app(Settings()).openapi()["paths"]
    assert "security" not in paths["/live"]["get"]
    assert "Readiness" in str(paths["/ready"]["get"]["responses"]["503"])


@pytest.mark.parametrize("text", ["2026", "0", "-1", "0.5", "1732377600", "2026-11-23T18:00:00"])
def test_a_number_is_no_moment(text: str) -> None:
    """after=2026 would be taken for 34 minutes past midnight in 1970; without a time zone nobody knows which hour."""
    with pytest.raises(ValidationError):
        TypeAdapter(Moment).validate_python(text)
    assert TypeAdapter(Moment).validate_python("2026-11-23T18:00:00+01:00").hour == 18


@pytest.mark.parametrize("word", ["on", "yes", "true", 1, 0, "0"])
def test_only_true_confirms(word: object) -> None:
    """accept_missing deletes; what JSON does not call true or false is refused."""
    with pytest.raises(ValidationError):
        ScanCreate.model_validate({"accept_missing": word})
    with pytest.raises(ValidationError):
        ArchiveChange.model_validate({"enabled": word})
