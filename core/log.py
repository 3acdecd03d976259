"""Structured logs on standard error: constant event names, ids as fields, never names of files or patients."""

import logging
import sys
from typing import Literal

import stamina
import structlog


def configure_logging(style: Literal["json", "console"]) -> None:
    """Send our events and those of libraries through one format. Call once, at a program's start."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # The library's own words for a retry hold the error's text, and that may hold names of files.
    stamina.instrumentation.set_on_retry_hooks([_tell_retry])
    # These tell of every request and every task; our own events say what matters.
    for noisy in ("celery", "kombu", "amqp", "httpx", "alembic", "openvino"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _tell_retry(details: stamina.instrumentation.RetryDetails) -> None:
    structlog.get_logger().warning(
        "retry", error=type(details.caused_by).__name__, tries=details.retry_num, wait_s=round(details.wait_for, 1)
    )
