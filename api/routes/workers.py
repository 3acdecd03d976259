"""/v1/workers: which workers there are, and what each of them serves."""

from fastapi import APIRouter

from api.context import DatabaseDep
from api.model_schemas import WorkerList, WorkerPublic
from api.rights import needs
from core.access import Scope
from core.presence import read_workers

router = APIRouter(prefix="/v1/workers", tags=["service"], dependencies=[needs(Scope.READ)])


@router.get("")
def list_workers(database: DatabaseDep) -> WorkerList:
    """List the workers of the last day: what each serves, and why one that cannot waits."""
    with database.read() as session:
        return WorkerList(workers=[WorkerPublic.model_validate(worker) for worker in read_workers(session)])
