"""Talk to the HTTP API, as the command line does."""

import os
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from api.archive_schemas import ArchiveList, ArchivePublic, ArchiveStored, ScanPage, ScanPublic
from api.model_schemas import ActivationPublic, ModelList, WorkerList, WorkerPublic
from api.schemas import ItemPage, ItemPublic, SubmissionPublic
from api.service_schemas import LaneList, LanePublic
from core.errors import PermanentError, TransientError
from core.lanes import Lane
from core.paths import path_to_text
from core.settings import Settings
from core.states import OPEN_SUBMISSIONS

_POLL_S = 0.3
_PAGE = 500
# Of an API that says "too many requests": how often it is asked again, and how long to wait at most before.
_PATIENCE = 5
_LONGEST_WAIT_S = 60


class ApiRefused(PermanentError):
    """The API answered, and the answer is no."""


class ApiAway(TransientError):
    """No API answers at the address."""


class ApiClient:
    """One API, with the key of the settings, or else their token."""

    def __init__(self, address: str, settings: Settings) -> None:
        secret = settings.api_key.get_secret_value() or settings.api_token.get_secret_value()
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
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

    def retry(self, submission_id: str) -> SubmissionPublic:
        """Try a waiting submission now."""
        return SubmissionPublic.model_validate(self._ask("POST", f"/v1/submissions/{submission_id}/retry"))

    def lanes(self) -> list[LanePublic]:
        """Look at every lane."""
        return LaneList.model_validate(self._ask("GET", "/v1/lanes")).lanes

    def pause(self, lane: Lane) -> LanePublic:
        """Start no more batches of a lane."""
        return LanePublic.model_validate(self._ask("POST", f"/v1/lanes/{lane.value}/pause"))

    def resume(self, lane: Lane) -> LanePublic:
        """Let a paused lane go on."""
        return LanePublic.model_validate(self._ask("POST", f"/v1/lanes/{lane.value}/resume"))

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
        return {model.model_version: model.decision.threshold for model in self.models().models}

    def models(self) -> ModelList:
        """Look at every model, and at which one was activated last."""
        return ModelList.model_validate(self._ask("GET", "/v1/models"))

    def workers(self) -> list[WorkerPublic]:
        """Look at every worker of the last day."""
        return WorkerList.model_validate(self._ask("GET", "/v1/workers")).workers

    def activate(self, model_version: str, note: str) -> ActivationPublic:
        """Make a model the one that serves."""
        path = f"/v1/models/{quote(model_version, safe='@')}/activate"
        return ActivationPublic.model_validate(self._ask("POST", path, json={"note": note}))

    def roll_back(self, serving: str | None, note: str) -> ActivationPublic:
        """Return to the model before, if `serving` still serves."""
        body = {"serving": serving, "note": note}
        return ActivationPublic.model_validate(self._ask("POST", "/v1/models/rollback", json=body))

    def export(self, submission_id: str, suffix: str, write: Callable[[bytes], object]) -> None:
        """Stream results.csv or results.jsonl piece by piece."""
        self.download(f"/v1/submissions/{submission_id}/results.{suffix}", write)

    def download(self, path: str, write: Callable[[bytes], object]) -> None:
        """Stream what lies at an address piece by piece."""
        with self._http.stream("GET", path) as response:
            if response.is_error:
                response.read()
                raise ApiRefused(_problem(response))
            for piece in response.iter_bytes():
                write(piece)

    def archives(self) -> tuple[list[ArchivePublic], list[str]]:
        """Look at every archive, and at what is wrong with the file of archives."""
        found: list[ArchivePublic] = []
        cursor: str | None = ""
        faults: list[str] = []
        while cursor is not None:
            page = ArchiveList.model_validate(self._ask("GET", "/v1/archives", params={"cursor": cursor}))
            found += page.archives
            faults, cursor = page.file_faults, page.next_cursor
        return found, faults

    def archive(self, name: str) -> ArchivePublic:
        """Look at one archive."""
        return ArchivePublic.model_validate(self._ask("GET", _archive(name)))

    def add_archive(self, definition: dict[str, object]) -> ArchiveStored:
        """Define an archive."""
        return ArchiveStored.model_validate(self._ask("POST", "/v1/archives", json=definition))

    def change_archive(self, name: str, changes: dict[str, object]) -> ArchiveStored:
        """Change some fields of an archive."""
        return ArchiveStored.model_validate(self._ask("PATCH", _archive(name), json=changes))

    def remove_archive(self, name: str) -> None:
        """Forget an archive; the images of its scans stay."""
        self._ask("DELETE", _archive(name))

    def begin_scan(self, name: str, *, accept_missing: bool) -> ScanPublic:
        """Scan an archive now."""
        body = {"accept_missing": accept_missing}
        return ScanPublic.model_validate(self._ask("POST", f"{_archive(name)}/scans", json=body))

    def scan(self, scan_id: str) -> ScanPublic:
        """Look at one scan."""
        return ScanPublic.model_validate(self._ask("GET", f"/v1/scans/{scan_id}"))

    def scans(self, name: str) -> Iterator[ScanPublic]:
        """Yield the scans of an archive, newest first."""
        cursor: str | None = None
        while True:
            parameters = {"cursor": cursor} if cursor else {}
            page = ScanPage.model_validate(self._ask("GET", f"{_archive(name)}/scans", params=parameters))
            yield from page.scans
            cursor = page.next_cursor
            if cursor is None:
                return

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
            answer = self._http.get("/ready")
        except httpx.HTTPError:
            return False
        # Without a broker the API stays in service, and says that it is degraded.
        return answer.is_success and answer.json()["status"] == "ready"

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        response = self._request(method, path, **request)
        for _ in range(_PATIENCE):
            if response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
                break
            # Nothing was done yet, so whatever was asked may be asked again.
            time.sleep(min(int(response.headers.get("Retry-After", "1")), _LONGEST_WAIT_S))
            response = self._request(method, path, **request)
        if response.is_error:
            raise ApiRefused(_problem(response))
        return response.json() if response.content else None

    def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise ApiAway(f"no API answers at {self.address}: is `histobatch api` running there?") from error


def _archive(name: str) -> str:
    return f"/v1/archives/{quote(name, safe='')}"


def _problem(response: httpx.Response) -> str:
    try:
        body = response.json()
        return f"{body['detail']} ({body['reason']})"
    except (ValueError, KeyError, TypeError):
        return f"the API answered {response.status_code}"
