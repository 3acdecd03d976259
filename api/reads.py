"""Who read and exported results, for the audit: written before the answer, and a read once an hour."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.item_filter import ItemFilter
from core.access import Principal
from core.audit import record
from core.database import Database

# A person who works through a submission leaves a row an hour, not one a page and picture.
_REPEATED_AFTER_S = 3600
_REMEMBERED = 20_000

_Key = tuple[str, str | None, str, str]


class Reads:
    """What was read within the last hour; each API process knows its own answers only.

    Two answers to the same principal at the same moment may both find nothing and leave a row each: a lock held while
    the database is written to would have everybody wait for the slowest.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._told: OrderedDict[_Key, float] = OrderedDict()

    def tell(self, principal: Principal, action: str, subjects: set[str], detail: Mapping[str, object]) -> None:
        """Record that a principal reads of subjects, unless it is on record for this hour.

        Raises:
            OperationalError: the database is away; what is not on record may not be answered.
        """
        new = sorted(subject for subject in subjects if not self._is_told(_key(principal, action, subject)))
        if not new:
            return
        self.write(principal, action, new, detail)
        with self._lock:
            for subject in new:
                self._told[_key(principal, action, subject)] = self._clock()
            while len(self._told) > _REMEMBERED:
                self._told.popitem(last=False)

    def write(self, principal: Principal, action: str, subjects: list[str], detail: Mapping[str, object]) -> None:
        """Record that a principal does something with subjects, however often."""
        shown = dict(detail) if principal.key_id is None else {**detail, "key": principal.key_id}
        with self._database.write() as session:
            for subject in subjects:
                record(session, principal.name, action, subject, shown)

    def _is_told(self, key: _Key) -> bool:
        with self._lock:
            moment = self._told.get(key)
            if moment is None:
                return False
            if self._clock() - moment >= _REPEATED_AFTER_S:
                del self._told[key]
                return False
            return True


@dataclass(frozen=True)
class Reader:
    """The principal of one request, to whom results are about to be shown."""

    principal: Principal
    reads: Reads

    def sees(self, what: str, *submissions: str) -> None:
        """Record that results of submissions are shown: at most once an hour for each.

        Args:
            what: a constant such as "items", the first that is shown.
        """
        self.reads.tell(self.principal, "results.read", set(submissions), {"what": what})

    def sees_content(self, content_hash: str) -> None:
        """Record that the results of one content are shown."""
        self.reads.tell(self.principal, "results.read", {content_hash}, {"what": "content"})

    def sees_archive(self, what: str, name: str) -> None:
        """Record that results of an archive's files are shown."""
        self.reads.tell(self.principal, "archive.read", {name}, {"what": what})

    def exports(self, submission_id: str, form: str, which: ItemFilter | None = None) -> None:
        """Record a download of results, each one. Of filters only the names: their values may be a patient's."""
        filters = sorted(name for name, value in vars(which or ItemFilter()).items() if value is not None)
        self.reads.write(self.principal, "results.export", [submission_id], {"format": form, "filters": filters})

    def exports_archive(self, name: str, form: str) -> None:
        """Record a download of an archive's results, each one."""
        self.reads.write(self.principal, "archive.export", [name], {"format": form, "filters": []})

    def sees_audit(self) -> None:
        """Record that the audit is shown."""
        self.reads.tell(self.principal, "audit.read", {"audit"}, {})


def _key(principal: Principal, action: str, subject: str) -> _Key:
    return principal.name, principal.key_id, action, subject
