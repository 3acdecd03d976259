"""/v1/models: which models there are and which one serves; rolling one out, and back."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from sqlmodel import Session

from api.context import DatabaseDep, SettingsDep
from api.model_schemas import MODEL_VERSION, ActivationPublic, ActivationRequest, ModelList, RollbackRequest
from api.problems import ApiError, Problem, ProblemReason, not_found
from api.rights import PrincipalDep, needs
from api.serving import list_models
from core.access import Scope
from core.activation import (
    ModelChanged,
    NoEarlierModel,
    VerifiedBundle,
    activate,
    find_bundles,
    read_active,
    read_earlier,
    roll_back,
    verify_bundle,
)
from core.errors import BundleError
from core.serving_tables import ModelActivation
from core.settings import Settings

router = APIRouter(prefix="/v1/models", tags=["service"])

ModelVersion = Annotated[str, Path(pattern=MODEL_VERSION, max_length=200, description="name@version of a bundle")]


@router.get("", dependencies=[needs(Scope.READ)])
def show_models(database: DatabaseDep, settings: SettingsDep) -> ModelList:
    """List the model bundles on this machine: how good each is and how that was found out, and which one serves."""
    with database.read() as session:
        active = read_active(session)
        activation = _describe(session, active) if active else None
    return ModelList(models=list_models(settings, active), activation=activation)


@router.post("/rollback", dependencies=[needs(Scope.ADMIN)], responses={409: {"model": Problem}})
def roll_back_model(
    database: DatabaseDep, settings: SettingsDep, principal: PrincipalDep, request: RollbackRequest | None = None
) -> ActivationPublic:
    """Return to the model that served before the last activation; once more goes one step further back.

    Its bundle is verified as for an activation.
    """
    asked = request or RollbackRequest()
    try:
        with database.read() as session:
            earlier = read_earlier(session, asked.serving).model_version
        # Outside of the transaction that writes: hashing a bundle takes a while.
        bundle = _verify(settings, earlier)
        with database.write() as session:
            return _describe(session, roll_back(session, bundle, principal.name, asked.note, asked.serving))
    except NoEarlierModel as error:
        raise ApiError(HTTPStatus.CONFLICT, ProblemReason.NO_EARLIER_MODEL, str(error)) from error
    except ModelChanged as error:
        raise ApiError(HTTPStatus.CONFLICT, ProblemReason.MODEL_CHANGED, str(error)) from error


@router.post(
    "/{model_version}/activate",
    dependencies=[needs(Scope.ADMIN)],
    responses={404: {"model": Problem}, 409: {"model": Problem}},
)
def activate_model(
    model_version: ModelVersion,
    database: DatabaseDep,
    settings: SettingsDep,
    principal: PrincipalDep,
    request: ActivationRequest | None = None,
) -> ActivationPublic:
    """Make a model the one that serves: every worker swaps between two batches, none needs a restart.

    Its bundle is verified first, every file of it. One that serves already, with the same files, stays as it is.
    """
    bundle = _verify(settings, model_version)
    note = request.note if request else ""
    with database.write() as session:
        return _describe(session, activate(session, settings, bundle, principal.name, note))


def _verify(settings: Settings, model_version: str) -> VerifiedBundle:
    if not find_bundles(settings, model_version):
        raise not_found(f"model on the API's machine: {model_version} is not below HISTOBATCH_MODELS")
    try:
        return verify_bundle(settings, model_version)
    except BundleError as error:
        raise ApiError(HTTPStatus.CONFLICT, ProblemReason.BUNDLE_REFUSED, str(error)) from error


def _describe(session: Session, row: ModelActivation) -> ActivationPublic:
    before = session.get(ModelActivation, row.follows) if row.follows is not None else None
    return ActivationPublic(
        model_version=row.model_version,
        at=row.at,
        who=row.who,
        note=row.note,
        before=before.model_version if before else None,
    )
