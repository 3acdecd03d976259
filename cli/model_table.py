"""Show models and workers as tables."""

from collections.abc import Sequence
from textwrap import shorten

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api.model_schemas import ActivationPublic, ModelList, WorkerPublic
from api.schemas import ModelPublic
from core.bundle import NOTICE, Metrics
from core.presence import WorkerState

# Of the first metrics of a bundle, by which it was chosen; `GET /v1/models` and the model card have all.
_SHOWN = ("auc", "sensitivity", "specificity", "patient_recognition_rate")
_PROTOCOL_WIDTH = 120
_STYLES = {
    WorkerState.SERVING: "green",
    WorkerState.LOADING: "cyan",
    WorkerState.WAITING: "red",
    WorkerState.STOPPING: "yellow",
    WorkerState.AWAY: "red",
}


def print_models(models: ModelList, workers: Sequence[WorkerPublic], console: Console) -> None:
    """Print a row a model, what serves since when and by whom, and a row a worker."""
    table = Table()
    for heading in ("model", "created", "serves", "workers", "how good, and how that was found out"):
        table.add_column(heading, overflow="fold")
    for model in models.models:
        table.add_row(
            escape(model.model_version),
            f"{model.created_at:%Y-%m-%d}",
            "yes" if model.serves else "",
            str(sum(worker.model_version == model.model_version for worker in workers if _is_at_work(worker))),
            escape(_judge(model.metrics[0])) if model.metrics else "",
        )
    console.print(table)
    console.print(_say_what_serves(models.activation, models.models), markup=False, soft_wrap=True)
    _print_workers(workers, console)
    console.print(NOTICE)


def _say_what_serves(activation: ActivationPublic | None, models: Sequence[ModelPublic]) -> str:
    if activation is None:
        serving = next((model.model_version for model in models if model.serves), None)
        return f"{serving or 'No model'} serves by the settings; no model was ever activated."
    note = f" ({activation.note})" if activation.note else ""
    back = f"A rollback returns to {activation.before}." if activation.before else "There is none to roll back to."
    moment = f"{activation.at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{activation.model_version} serves since {moment} by {activation.who}{note}. {back}"


def _print_workers(workers: Sequence[WorkerPublic], console: Console) -> None:
    if not workers:
        console.print("No worker was heard in the last day.")
        return
    table = Table()
    for heading in ("worker", "state", "has loaded", "engine", "heard", "why it waits"):
        table.add_column(heading, overflow="fold")
    for worker in workers:
        state = f"[{_STYLES[worker.state]}]{worker.state}[/]"
        heard = f"{worker.seen_at:%Y-%m-%d %H:%M:%S}"
        loaded = worker.model_version or "nothing"
        table.add_row(escape(worker.name), state, loaded, worker.engine, heard, escape(worker.detail or ""))
    console.print(table)


def _is_at_work(worker: WorkerPublic) -> bool:
    return worker.state is WorkerState.SERVING


def _judge(metrics: Metrics) -> str:
    shown = [name for name in _SHOWN if name in metrics.values] or sorted(metrics.values)[:2]
    numbers = ", ".join(f"{name.replace('_', ' ')} {metrics.values[name]:.3f}" for name in shown)
    warning = " (shares patients: flatters)" if metrics.shares_patients else ""
    return f"{numbers}{warning}: {shorten(metrics.protocol, _PROTOCOL_WIDTH, placeholder=' ...')}"
