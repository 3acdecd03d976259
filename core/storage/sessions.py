"""The connections that a process keeps."""

import threading

from core.storage.addresses import parse_host
from core.storage.session import RemoteAway, Session

_LOCK = threading.Lock()
_SESSIONS: dict[tuple[str, str], Session] = {}


def get_session(scheme: str, host: str) -> Session:
    """Return the process's connection to a bucket or host, and connect where there is none.

    Raises:
        RemoteAway, LoginRefused: there is none to be had.
    """
    with _LOCK:
        session = _SESSIONS.get((scheme, host))
    if session is None:
        # Outside of the lock: one host that does not answer must not keep others waiting.
        session = _connect(scheme, host)
        with _LOCK:
            session = _SESSIONS.setdefault((scheme, host), session)
    return session


def drop_session(scheme: str, host: str, session: Session) -> None:
    """Forget a connection that failed, so that the next who asks connects anew."""
    with _LOCK:
        if _SESSIONS.get((scheme, host)) is session:
            del _SESSIONS[scheme, host]


def _connect(scheme: str, host: str) -> Session:
    try:
        if scheme == "s3":
            from core.storage.s3 import connect_s3  # noqa: PLC0415

            return connect_s3(host)
        from core.storage.sftp import connect_sftp  # noqa: PLC0415
    except ImportError as error:
        raise RemoteAway(f"this machine cannot read {scheme}://: pip install 'histobatch[{scheme}]' there") from error
    return connect_sftp(parse_host(host))
