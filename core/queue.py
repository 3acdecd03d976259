"""The broker: one Celery configuration for all programs, and the few messages they send.

A message carries an id and nothing else: what it means is in the database. So a message may be lost (the
reconciler sends it again) or come twice (the second one finds nothing left to do).
"""

import time

from celery import Celery
from kombu.entity import Queue as KombuQueue
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from core.errors import TransientError
from core.lanes import CLASSIFY_TASK, CONTROL_QUEUE, INTAKE_TASK, QUEUES, RECONCILE_TASK, Lane
from core.settings import Settings

# Longer than any lease: the database's leases find lost work in seconds, so that the broker's own redelivery is
# only the last resort and does not bring twins of batches that are still being worked on.
_VISIBILITY_TIMEOUT_S = 6 * 3600
_CONNECT_TIMEOUT_S = 5


def make_celery(settings: Settings) -> Celery:
    """Build the Celery app that all programs share. Connects to nothing."""
    app = Celery("histobatch", broker=settings.redis_url, set_as_current=True)
    app.conf.update(
        # Only JSON is read: a message can name a task and an id, never carry code.
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        # The database holds every outcome; a result backend would be a second, weaker truth.
        task_ignore_result=True,
        task_queues=[KombuQueue(name, routing_key=name) for name in QUEUES],
        task_default_queue=CONTROL_QUEUE,
        task_create_missing_queues=False,
        # A message is acknowledged when its work is done, and given back when the worker dies: with leases this
        # costs at most a look into the database.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # One message in hand for each slot, so that an idle worker finds the rest in the queue.
        worker_prefetch_multiplier=1,
        broker_transport_options={
            # Look into the queues in the order of QUEUES each time: urgent before bulk before nightly.
            "queue_order_strategy": "priority",
            "visibility_timeout": _VISIBILITY_TIMEOUT_S,
            "socket_connect_timeout": _CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
        },
        broker_connection_retry_on_startup=True,
        # Redis may be away for long; a worker waits for it rather than end.
        broker_connection_max_retries=None,
        # Flower shows tasks from these events; they hold ids only.
        worker_send_task_events=True,
        task_send_sent_event=True,
        worker_hijack_root_logger=False,
        enable_utc=True,
        timezone="UTC",
        beat_schedule={
            "reconcile": {
                "task": RECONCILE_TASK,
                "schedule": settings.reconcile_every_s,
                # A reconcile that waited longer than the next one's turn is worthless.
                "options": {"queue": CONTROL_QUEUE, "expires": settings.reconcile_every_s * 3},
            }
        },
    )
    return app


class BrokerAway(TransientError):
    """The broker cannot be reached. What was to be sent is in the database, and the reconciler sends it later."""


class WorkQueue:
    """Sends ids to the workers and looks at what waits."""

    def __init__(self, settings: Settings) -> None:
        self._celery = make_celery(settings)
        self._redis = Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=_CONNECT_TIMEOUT_S)

    def send_intake(self, submission_id: str) -> None:
        """Ask a worker to list a submission's folder. Like all sending, raises BrokerAway."""
        self._send(INTAKE_TASK, submission_id, CONTROL_QUEUE)

    def send_classify(self, batch_id: int, lane: Lane) -> None:
        """Ask a worker to classify a batch."""
        self._send(CLASSIFY_TASK, batch_id, Lane(lane).value)

    def depths(self) -> dict[str, int]:
        """Messages waiting in each queue, by the queue's name; raises BrokerAway."""
        try:
            return {name: int(self._redis.llen(name)) for name in QUEUES}
        except RedisError as error:
            raise BrokerAway(f"the broker does not answer ({type(error).__name__})") from error

    def ping(self) -> None:
        """Ask the broker for an answer; raises what the client raises."""
        self._redis.ping()

    def clock_offset_s(self) -> float:
        """Seconds by which the broker's clock is ahead of ours; raises what the client raises."""
        seconds, microseconds = self._redis.time()
        return float(seconds) + microseconds / 1e6 - time.time()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
        self._celery.close()

    def _send(self, task: str, subject: str | int, queue: str) -> None:
        # A broker that is away fails the call soon: whoever asks must not hang, the reconciler sends again.
        try:
            self._celery.send_task(task, args=(subject,), queue=queue, retry=True, retry_policy={"max_retries": 1})
        except (OperationalError, RedisError) as error:
            raise BrokerAway(f"the broker does not take messages ({type(error).__name__})") from error
