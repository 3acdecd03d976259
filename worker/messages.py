"""Messages of another shape than ours are refused, where Celery would end the worker and put them back for the next."""

from collections.abc import Callable
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker import strategy

# How tasks name the function below to Celery.
STRATEGY = f"{__name__}:receive"


def receive(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Make Celery's own handler of a task's messages, with one answer for whatever it cannot part into arguments."""
    handle = strategy.default(task, app, consumer, **options)

    def handle_carefully(message: Any, body: Any, *rest: Any, **more: Any) -> Any:
        try:
            return handle(message, body, *rest, **more)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidTaskError(f"the message is no list of arguments ({type(error).__name__})") from error

    return handle_carefully
