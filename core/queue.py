"""The broker: one Celery configuration for all programs, and the few messages they send.

A message carries an id and nothing else: what it means is in the database. So a message may be lost (the
reconciler sends it again) or come twice (the second one finds nothing left to do).
"""

import time

from celery import Celery
from kombu.entity import Queue as KombuQueue
from kombu.exceptions import OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from core.errors import TransientError
from core.lanes import CLASSIFY_TASK, CONTROL_QUEUE, INTAKE_TASK, QUEUES, RECONCILE_TASK, Lane
from core.settings import Settings

# Longer than any lease: the database's leases find lost work in seconds, so that the broker's own redelivery is
# only the last resort and does not bring twins of batches that are still being worked on.
_VISIBILITY_TIMEOUT_S = 6 * 3600
_CONNECT_TIMEOUT_S = 5
_HEALTH_CHECK_S = 10
_ANSWER_TIMEOUT_S = 20


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
        # A message is acknowledged when its work is done: a worker that dies leaves it at the broker. With leases a
        # message too many costs at most a look into the database.
        task_acks_late=True,
        # As above, where a pool's process dies under Celery. With threads nothing does; who changes the pool keeps it.
        task_reject_on_worker_lost=True,
        # Celery ends tasks by signals, which threads do not get: worker.watchdog ends a process that stands still,
        # or that has grown too large, where Celery's limits of time and memory would be silently without effect.
        task_time_limit=None,
        worker_max_memory_per_child=None,
        # One message in hand for each slot, so that an idle worker finds the rest in the queue.
        worker_prefetch_multiplier=1,
        broker_transport_options={
            # Look into the queues in the order of QUEUES each time: urgent before bulk before nightly.
            "queue_order_strategy": "priority",
            "visibility_timeout": _VISIBILITY_TIMEOUT_S,
            "socket_connect_timeout": _CONNECT_TIMEOUT_S,
            # The kernel finds a connection whose other end vanished without a word.
            "socket_keepalive": True,
            # And so does the client, by asking for an answer when it heard nothing for so long; but it asks only while
            # no command waits for ever for a broker that vanished.
            "health_check_interval": _HEALTH_CHECK_S,
            "socket_timeout": _ANSWER_TIMEOUT_S,
        },
        broker_connection_retry_on_startup=True,
        # Tasks go on when the broker is away: their outcomes go to the database, which need not be.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # SIGQUIT and a second SIGTERM, too, leave batches the time to be finished or handed back.
        worker_soft_shutdown_timeout=settings.shutdown_grace_s,
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
                # So that they do not pile up for ever while no worker is there. A day, because beat's clock and a
                # worker's may differ; one look answers all that waited.
                "options": {"queue": CONTROL_QUEUE, "expires": 86400},
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
        # No retries of its own: whoever asks this looks again soon, and must not hang meanwhile.
        self._redis = Redis.from_url(
            settings.redis_url,
            socket_timeout=_CONNECT_TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )

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

    def may_evict(self) -> bool:
        """Whether the broker drops messages when its memory is full; raises what the client raises."""
        memory = self._redis.info("memory")
        return bool(memory["maxmemory"]) and memory["maxmemory_policy"] != "noeviction"

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
