"""What schemathesis is told beyond the OpenAPI: ids that are stored here. Loaded by its command line.

Made-up ids alone would try nothing but 404. The file that SECURITY_STORED names holds those of tests.security.stored.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.generation import GenerationMode

_STORED = json.loads(Path(os.environ["SECURITY_STORED"]).read_text())
_NAMES = {
    "submission_id": "submissions",
    "item_id": "items",
    "name": "archives",
    "scan_id": "scans",
    "content_hash": "contents",
    "model_version": "models",
}


@schemathesis.hook
def before_call(_context: Any, case: Any, **_: Any) -> None:
    """Put a stored id into three of four requests that are meant to be valid."""
    if case.meta is not None and case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    for parameter in case.path_parameters or {}:
        choices = _choices(parameter, case.operation.path)
        number = hashlib.sha256(f"{case.id}{parameter}".encode()).digest()[0]
        if choices and number % 4:
            case.path_parameters[parameter] = choices[number % len(choices)]


def _choices(parameter: str, path: str) -> list[Any]:
    if parameter == "submission_id" and path.endswith("/events"):
        # Those of a submission that goes on never end.
        return list(_STORED["ended"])
    if parameter == "submission_id" and "{item_id}" in path:
        return [_STORED["pictured"]]
    return list(_STORED.get(_NAMES.get(parameter, ""), []))
