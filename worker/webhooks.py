"""Send what webhooks are to be told, in a thread of its own: another side that is slow holds up nothing here."""

import asyncio
import threading
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

import httpx
import structlog
from sqlalchemy.exc import OperationalError

from core.database import Database
from core.settings import Settings
from core.tables import utc_now
from core.webhooks import Message, claim_delivery, due_deliveries, settle_delivery
from worker.context import WorkerContext

log = structlog.get_logger()

# Deliveries that one look takes; all are sent at once. The next look goes on.
_AT_ONCE = 20
# For everything from the name's look-up to the answer's first line, however slowly it drips. Below the wait for the
# next try, at which another worker may send it.
_PATIENCE_S = 15.0


def deliver_due(context: WorkerContext) -> None:
    """See whether webhooks are to be told something, and begin to; returns at once."""
    with context.database.read() as session:
        ids = due_deliveries(session, _AT_ONCE)
    if ids:
        # A daemon: at the process' end nobody waits for it. What it was sending is sent again.
        threading.Thread(target=_run, args=(context, ids), name="webhooks", daemon=True).start()


def deliver(database: Database, settings: Settings, delivery_ids: Sequence[str]) -> None:
    """Send deliveries and note how it went. Of several that try at once, one sends."""
    messages = []
    for delivery_id in delivery_ids:
        with database.write() as session:
            message = claim_delivery(session, delivery_id, settings.public_url)
        if message is not None:
            messages.append(message)
    if not messages:
        return
    answers = asyncio.run(_send_all(messages, may_be_near=settings.webhooks_to_this_machine))
    for message, status in zip(messages, answers, strict=True):
        with database.write() as session:
            tried_again = settle_delivery(session, message, status)
        _log(message, status, tried_again)


def _run(context: WorkerContext, delivery_ids: Sequence[str]) -> None:
    try:
        deliver(context.database, context.settings, delivery_ids)
    except OperationalError as error:
        log.warning("database_away", task="webhooks", error=type(error.orig).__name__)


async def _send_all(messages: Sequence[Message], *, may_be_near: bool) -> list[int | None]:
    # The answer's body is not read, and redirects are not followed: the signed report goes where it was meant to go.
    # The environment's proxy and certificates count, because a hospital has its own.
    async with httpx.AsyncClient(timeout=_PATIENCE_S, follow_redirects=False) as client:
        return await asyncio.gather(*(_send(client, message, may_be_near) for message in messages))


async def _send(client: httpx.AsyncClient, message: Message, may_be_near: bool) -> int | None:
    """Send one message; the answer's status, or None where none came."""
    headers = message.headers(utc_now())
    try:
        async with asyncio.timeout(_PATIENCE_S):
            if not may_be_near and await _is_near(message.url):
                log.warning("webhook_to_this_machine_refused", delivery_id=message.id)
                return None
            async with client.stream("POST", message.url, content=message.body, headers=headers) as answer:
                return answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError):
        return None


async def _is_near(url: str) -> bool:
    """Whether an address leads to this machine or its link, where services trust who is near, or to no one machine.

    A name that is unknown here may be known to the proxy. One that leads elsewhere a moment later is not noticed: the
    accepted rest, since nothing of the answer is shown but its status.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(urlsplit(url).hostname, None)
    except (OSError, UnicodeError):
        return False
    return any(_is_near_address(str(entry[4][0])) for entry in found)


def _is_near_address(text: str) -> bool:
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast


def _log(message: Message, status: int | None, tried_again: bool) -> None:
    about = {"delivery_id": message.id, "scan_id": message.scan_id, "attempt": message.attempt, "status": status}
    if status is not None and 200 <= status < 300:
        log.info("webhook_delivered", **about)
    elif tried_again:
        log.warning("webhook_failed", **about)
    else:
        log.error("webhook_given_up", **about)
