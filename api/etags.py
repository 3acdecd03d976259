"""Answers that programs may ask for again without having them sent again: ETag and If-None-Match."""

from collections.abc import Collection, Mapping
from http import HTTPStatus

from blake3 import blake3
from fastapi import Request, Response
from pydantic import BaseModel


def tagged(request: Request, body: BaseModel, passing: Collection[str] = ()) -> Response:
    """Answer with a model as JSON, or 304 where the asker has the same already.

    Args:
        passing: fields that change by themselves as time goes on, such as a speed, and are no reason to send the rest
            again. The tag is weak then: it stands for the same facts, not for the same bytes.
    """
    sent = body.model_dump_json().encode()
    if not passing:
        return tagged_bytes(request, sent, "application/json")
    facts = body.model_dump_json(exclude=set(passing)).encode()
    return _answer(request, sent, "application/json", {"ETag": f"W/{_tag(facts)}"})


def tagged_bytes(request: Request, body: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with bytes, or 304 where the asker has them already. The tag is strong: nothing here compresses them."""
    return _answer(request, body, media_type, {"ETag": _tag(body), **(headers or {})})


def _answer(request: Request, body: bytes, media_type: str, headers: dict[str, str]) -> Response:
    if _has(request, headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def _tag(facts: bytes) -> str:
    return f'"{blake3(facts).hexdigest(16)}"'


def _has(request: Request, tag: str) -> bool:
    """Whether If-None-Match names the tag. For reading, a weak one is as good as a strong one (RFC 9110, 13.1.2)."""
    given = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    return tag.removeprefix("W/") in given or given == ["*"]
