"""Telling webhooks of a scan's end: what is sent, how it is signed, and when it is tried again.

Signed by the Standard Webhooks scheme (standardwebhooks.com): HMAC-SHA256 over id, time and body.
"""

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, update
from sqlmodel import Session, col, select

from core.archive_tables import Archive, Delivery, Scan
from core.bundle import NOTICE
from core.database import execute_dml
from core.definition_rules import secret_key
from core.progress import OUTCOMES, count_images
from core.tables import has_come, utc_now

_FIRST_WAIT_S = 60
_LONGEST_WAIT_S = 3 * 3600
# One minute, then twice as long each time up to three hours: this many make a little more than a day.
_MOST_ATTEMPTS = 16
_NEVER_FURTHER = timedelta(seconds=2 * _LONGEST_WAIT_S)
_COUNTS = (
    "seen",
    "unchanged",
    "new",
    "changed",
    "moved",
    "duplicates",
    "settling",
    "unreadable",
    "deleted",
    "withheld",
)


@dataclass(frozen=True)
class Message:
    """One report on its way; this process alone has it until its next try is due.

    Attributes:
        id: of the delivery; the other side gets it again with each try, so that it can leave doubles out.
        attempt: 1 for the first.
    """

    id: str
    scan_id: str
    attempt: int
    url: str
    secret: str
    body: bytes

    def headers(self, now: datetime) -> dict[str, str]:
        """The headers that prove who sent it, and when."""
        seconds = str(int(now.timestamp()))
        return {
            "content-type": "application/json",
            "webhook-id": self.id,
            "webhook-timestamp": seconds,
            "webhook-signature": sign(self.secret, self.id, seconds, self.body),
        }


def sign(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """The signature of a message, version 1."""
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    digest = hmac.new(secret_key(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def due_deliveries(session: Session, limit: int) -> Sequence[str]:
    """Ids of deliveries whose time has come."""
    return session.exec(select(Delivery.id).where(*_is_due()).order_by(col(Delivery.next_at)).limit(limit)).all()


def claim_delivery(session: Session, delivery_id: str, public_url: str) -> Message | None:
    """Take a delivery: its attempt is counted before it is sent, and its next try put off, so nobody else sends it.

    None where another took it since it was seen to be due, or where its archive has no webhook any more, which ends
    it.
    """
    row = session.exec(
        select(Delivery, Scan, Archive)
        .join(Scan, col(Scan.id) == col(Delivery.scan_id))
        .join(Archive, col(Archive.id) == col(Scan.archive_id))
        .where(col(Delivery.id) == delivery_id, *_is_due())
    ).one_or_none()
    if row is None:
        return None
    delivery, scan, archive = row
    # An address or a secret that was wrong and is mended counts for what waits, too.
    url, secret = archive.webhook_url, archive.webhook_secret
    if url is None or secret is None:
        _update(session, delivery_id, delivery.attempts, ended_at=utc_now())
        return None
    attempt = delivery.attempts + 1
    next_at = utc_now() + timedelta(seconds=_wait_s(attempt))
    if not _update(session, delivery_id, delivery.attempts, attempts=attempt, next_at=next_at, url=url):
        return None
    body = json.dumps(tell(session, scan, archive, public_url)).encode()
    return Message(id=delivery_id, scan_id=scan.id, attempt=attempt, url=url, secret=secret, body=body)


def settle_delivery(session: Session, message: Message, status: int | None) -> bool:
    """Note how a try went. Whether there is another one."""
    now = utc_now()
    delivered = status is not None and 200 <= status < 300
    # 410 (Gone) says that nobody wants to be told there any more.
    ended = delivered or status == 410 or message.attempt >= _MOST_ATTEMPTS
    _update(
        session,
        message.id,
        message.attempt,
        status=status,
        delivered_at=now if delivered else None,
        ended_at=now if ended else None,
    )
    return not ended


def tell(session: Session, scan: Scan, archive: Archive, public_url: str) -> dict[str, object]:
    """Say what the other side is told: counts and where the report is, never a path, a patient or an image.

    A webhook may lead out of the house, and who may read about patients is decided where the report is read.
    """
    counts = count_images(session, [scan.submission_id])[scan.submission_id]
    return {
        "type": f"scan.{scan.state}",
        "timestamp": (scan.finished_at or utc_now()).isoformat(),
        "data": {
            "notice": NOTICE,
            "archive": archive.name,
            "scan_id": scan.id,
            "submission_id": scan.submission_id,
            "state": scan.state,
            "reason": scan.reason,
            "started_at": scan.started_at.isoformat(),
            "finished_at": scan.finished_at.isoformat() if scan.finished_at else None,
            "files": {name: getattr(scan, name) for name in _COUNTS},
            "images": {outcome: getattr(counts, outcome) for outcome in OUTCOMES},
            "report": f"{public_url}/v1/scans/{scan.id}/report.json",
        },
    }


def _is_due() -> tuple[ColumnElement[bool], ...]:
    return (col(Delivery.ended_at).is_(None), has_come(col(Delivery.next_at), _NEVER_FURTHER))


def _update(session: Session, delivery_id: str, seen: int, **values: object) -> bool:
    """Write to a delivery that has as many attempts as were seen; False where someone took it meanwhile."""
    mine = (col(Delivery.id) == delivery_id, col(Delivery.attempts) == seen, col(Delivery.ended_at).is_(None))
    return bool(execute_dml(session, update(Delivery).where(*mine).values(**values)))


def _wait_s(attempt: int) -> float:
    wait_s = min(_FIRST_WAIT_S * 2.0 ** (attempt - 1), _LONGEST_WAIT_S)
    return wait_s * random.uniform(0.8, 1.2)  # noqa: S311 - so that what failed at once is not tried at once
