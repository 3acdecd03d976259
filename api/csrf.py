"""Guard of forms: a page's form sends back a value that only a page of ours can know.

It is derived from what the asker shows: the session's cookie, or the key or token of HTTP Basic. Another site knows
neither, every API process derives the same, and a restart changes nothing. Where nothing is asked for (loopback,
docs/adr/0008), it is derived from a secret of this process: one machine has one API, and a form that was open while it
started anew is loaded again.
"""

import hmac
import secrets
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Form, Request

from api.problems import ApiError, ProblemReason

OPEN_SECRET: Final = secrets.token_bytes(32)


def csrf_token(request: Request) -> str:
    """Make the value of the hidden field "csrf", bound to who asks; "" where nobody is let in yet."""
    key: bytes = getattr(request.state, "form_key", b"")
    return key.hex()


def _check(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> None:
    expected = csrf_token(request)
    if not expected or not hmac.compare_digest(csrf.encode("utf-8", "replace"), expected.encode()):
        raise ApiError(HTTPStatus.FORBIDDEN, ProblemReason.CSRF_REFUSED, "this form is stale: load the page again")


CheckedForm = Depends(_check)
