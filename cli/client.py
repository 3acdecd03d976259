"""Talk to the HTTP API, as the command line does."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from api.schemas import ItemPage, ItemPublic, ModelList, SubmissionPublic
from core.errors import PermanentError, TransientError
from core.lanes import Lane
from core.paths import path_to_text
from core.settings import Settings
from core.states import OPEN_SUBMISSIONS

_POLL_S = 0.3
_PAGE = 500


class ApiRefused(PermanentError):
    """The API answered, and the answer is no."""


class ApiAway(TransientError):
    """No API answers at the address."""


class ApiClient:
    """One API, with the token of the settings."""

    def __init__(self, address: str, settings: Settings) -> None:
        token = settings.api_token.get_secret_value()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.address = address
        self._http = httpx.Client(base_url=address, headers=headers, timeout=60, trust_env=False)

    def submit(self, folder: Path, lane: Lane) -> SubmissionPublic:
        """Submit a folder that the API's machine can see."""
        answer = self._ask(
            "POST", "/v1/submissions", json={"folder": path_to_text(os.fsencode(folder)), "lane": lane.value}
        )
        return SubmissionPublic.model_validate(answer)

    def submission(self, submission_id: str) -> SubmissionPublic:
        """Look at one submission."""
        return SubmissionPublic.model_validate(self._ask("GET", f"/v1/submissions/{submission_id}"))

    def items(self, submission_id: str) -> Iterator[ItemPublic]:
        """Yield every image of a submission, page by page."""
        cursor: str | None = None
        while True:
            parameters = {"limit": _PAGE} | ({"cursor": cursor} if cursor else {})
            page = ItemPage.model_validate(
                self._ask("GET", f"/v1/submissions/{submission_id}/items", params=parameters)
            )
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def thresholds(self) -> dict[str, float]:
        """The probability from which an image counts as malignant, by model version."""
        models = ModelList.model_validate(self._ask("GET", "/v1/models")).models
        return {model.model_version: model.decision.threshold for model in models}

    def export(self, submission_id: str, suffix: str, write: Callable[[bytes], object]) -> None:
        """Stream results.csv or results.jsonl piece by piece."""
        with self._http.stream("GET", f"/v1/submissions/{submission_id}/results.{suffix}") as response:
            if response.is_error:
                response.read()
                raise ApiRefused(_problem(response))
            for piece in response.iter_bytes():
                write(piece)

    def watch(self, submission_id: str) -> Iterator[SubmissionPublic]:
        """Yield the submission's state again and again, the last time when it has ended."""
        while True:
            submission = self.submission(submission_id)
            yield submission
            if submission.state not in OPEN_SUBMISSIONS:
                return
            time.sleep(_POLL_S)

    def is_ready(self) -> bool:
        """Whether the API and all that it needs answer."""
        try:
            return self._http.get("/ready").is_success
        except httpx.HTTPError:
            return False

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise ApiAway(f"no API answers at {self.address}: is `histobatch api` running there?") from error
        if response.is_error:
            raise ApiRefused(_problem(response))
        return response.json()


def _problem(response: httpx.Response) -> str:
    try:
        body = response.json()
        return f"{body['detail']} ({body['reason']})"
    except (ValueError, KeyError, TypeError):
        return f"the API answered {response.status_code}"
