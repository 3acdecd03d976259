"""Let schemathesis loose on a running API: its whole OpenAPI, with data that is right and data that is not."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from core.settings import PROJECT
from tests.integration.api.server import Api
from tests.security.stored import Stored

# What an answer must be; the rest of its checks suppose that the document knows what a database holds.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)


@dataclass(frozen=True)
class Outcome:
    """What a run of schemathesis ended with.

    Attributes:
        status: its exit status: 0 where nothing was found.
        text: its report for people.
    """

    status: int
    text: str


def attack(api: Api, stored: Stored, folder: Path, *options: str) -> Outcome:
    """Run schemathesis against an API to its end.

    Args:
        folder: for what it writes.
        options: of its command line: how much, with which seed.
    """
    file = folder / "stored.json"
    file.write_text(json.dumps(asdict(stored)))
    token = api.settings.api_token.get_secret_value()
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{api.http.base_url}/openapi.json",
            f"--checks={','.join(CHECKS)}",
            *([f"--header=Authorization: Bearer {token}"] if token else []),
            "--continue-on-failure",
            "--request-timeout=20",
            "--no-color",
            *options,
        ],
        cwd=folder,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "tests.security.schema_hooks",
            "SECURITY_STORED": str(file),
            "PYTHONPATH": str(PROJECT),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout + done.stderr)
