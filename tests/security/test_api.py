"""The whole OpenAPI under schemathesis; the pages under whatever an address can say."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.database import Database
from core.settings import Settings
from tests.integration.api.server import Api, running, write_bundle
from tests.security.api_fuzz import attack
from tests.security.stored import HOSTILE_NAMES, Stored, fill

_TOKEN = "a token for tests that nobody guesses"
# On SQLite more, because there it is quick; the other database differs in what its driver refuses.
_EXAMPLES = {"sqlite": 3, "postgresql": 1}


@pytest.fixture
def guarded(
    settings: Settings, database: Database, database_url: str, tmp_path: Path, images_root: Path
) -> Iterator[tuple[Api, Stored]]:
    """A running API that asks for its token, on each database, with something of everything stored."""
    write_bundle(tmp_path / "models" / "one", "1.0.0")
    changed = settings.model_copy(
        update={
            "database_url": database_url,
            "models": tmp_path / "models",
            "engine": "openvino",
            "api_token": SecretStr(_TOKEN),
            "rate_limit": "off",
            "max_upload_bytes": 2**20,
        }
    )
    stored = fill(database, images_root)
    with running(changed, database) as api:
        api.http.headers["Authorization"] = f"Bearer {_TOKEN}"
        yield api, stored


def test_every_route_answers_as_its_document_says(guarded: tuple[Api, Stored], tmp_path: Path) -> None:
    """No server error; documented statuses, types and bodies; what is invalid, and who shows nothing, is refused."""
    api, stored = guarded
    kind = api.settings.database_url.partition("+")[0].partition(":")[0]
    outcome = attack(
        api, stored, tmp_path, "--phases=fuzzing", f"--max-examples={_EXAMPLES[kind]}", "--seed=7", "--no-shrink"
    )
    assert outcome.status == 0, outcome.text[-6000:]
    paths = api.http.get("/openapi.json").json()["paths"]
    operations = sum(len(methods) for methods in paths.values())
    assert f"Tested: {operations}" in outcome.text


_PIECES = (
    "",
    "all",
    "malignant",
    "-1",
    "0",
    "9" * 30,
    "1e9",
    "\0",
    "%00",
    "true",
    "'",
    '"><script>',
    "\ud7ff",
    "../..",
    *HOSTILE_NAMES,
)


def test_pages_bear_whatever_an_address_says(guarded: tuple[Api, Stored]) -> None:
    """Three hundred queries of nonsense: a page or a refusal, never a server error, and no markup of the query's."""
    api, stored = guarded
    choice = random.Random(5)
    places = ["/", "/submissions", *(f"/submissions/{submission}" for submission in stored.submissions), "/archives"]
    places += ["/archives/north", "/reviews", "/items", *(f"/submissions/{piece}" for piece in ("x", "%00", "..%2f"))]
    names = ("show", "reason", "cursor", "pictures", "page", "patient", "limit", "decision", "state", "next", "model")
    statuses = set()
    for _ in range(300):
        query = {name: choice.choice(_PIECES) for name in choice.sample(names, choice.randint(0, 4))}
        answer = api.http.get(choice.choice(places), params=query)
        assert answer.status_code < 500, (str(answer.url), answer.text[:300])
        assert "<script>alert" not in answer.text, str(answer.url)
        assert "<img src=x" not in answer.text, str(answer.url)
        statuses.add(answer.status_code)
    assert 200 in statuses
