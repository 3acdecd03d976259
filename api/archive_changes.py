"""What a request makes of an archive: the definition that is checked and stored, and the secret that is shown once."""

import base64
import secrets
from http import HTTPStatus
from typing import Any

from pydantic import SecretStr, ValidationError

from api.archive_schemas import ArchiveChange
from api.problems import ApiError, ProblemReason, folder_refused
from core.archive_definitions import ArchiveDefinition, WebhookDefinition, definition_of, describe_faults
from core.archive_tables import Archive
from core.archives import BY_FILE, check_root
from core.definition_rules import SECRET_PREFIX
from core.errors import FolderError
from core.settings import Settings

_SECRET_BYTES = 32


def check_new_root(root: str, settings: Settings) -> str:
    """Check the root that a request names; returns it with links followed. Asks the storage, which may take long.

    Raises:
        ApiError: it is not allowed (403), or is not there (404).
    """
    try:
        return check_root(root, settings, must_exist=True)
    except FolderError as error:
        raise folder_refused(error) from error


def complete(definition: ArchiveDefinition, root: str) -> tuple[ArchiveDefinition, str | None]:
    """Give a definition its checked root, and its webhook a secret where it has none; returns that secret as well."""
    return _with_secret(definition.model_copy(update={"root": root}))


def apply_change(archive: Archive, change: ArchiveChange) -> tuple[ArchiveDefinition, str | None]:
    """Work out the definition that an archive is to have, and the secret that was made for it.

    Raises:
        ApiError: the archive belongs to the file (409), or the result is invalid (422).
    """
    refuse_files_own(archive)
    return _with_secret(_merge(definition_of(archive), change))


def refuse_files_own(archive: Archive) -> None:
    """Leave an archive alone that the file of archives defines: it would have its way again at once.

    Raises:
        ApiError: it does (409).
    """
    if archive.defined_by == BY_FILE:
        raise ApiError(
            HTTPStatus.CONFLICT,
            ProblemReason.DEFINED_BY_FILE,
            "the file of archives defines it: change it there, or take it out of the file",
        )


def _merge(before: dict[str, Any], change: ArchiveChange) -> ArchiveDefinition:
    given = change.model_dump(exclude_unset=True)
    hook = given.get("webhook")
    if hook and hook.get("secret") is None and before["webhook"]:
        hook["secret"] = before["webhook"]["secret"]
    try:
        return ArchiveDefinition.model_validate(before | given)
    except ValidationError as error:
        faults = "; ".join(describe_faults(error))
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, ProblemReason.REQUEST_INVALID, faults) from error


def _with_secret(definition: ArchiveDefinition) -> tuple[ArchiveDefinition, str | None]:
    hook = definition.webhook
    if hook is None or hook.secret is not None:
        return definition, None
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    signed = WebhookDefinition(url=hook.url, secret=SecretStr(secret))
    return definition.model_copy(update={"webhook": signed}), secret
