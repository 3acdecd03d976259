"""When an archive's scans begin, and during which hours of the day they may run."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from core.archive_tables import Archive

_MINUTE = timedelta(minutes=1)
# A zone may leave a whole day out, as Samoa did; none leaves out two.
_LONGEST_CLOSED = timedelta(days=3)
# So many fires, or days, say whether any lies in a window.
_FIRES = 500
_DAYS = timedelta(days=400)


@dataclass(frozen=True)
class Window:
    """Hours of each day, as the clock on the wall shows them in a zone; past midnight where stop comes before start.

    The hour that is passed twice when clocks are set back counts both times; what lies in the hour that is left out
    when they are set forward does not exist that day.

    Attributes:
        start: belongs to the window.
        stop: does not.
    """

    start: time
    stop: time
    zone: ZoneInfo

    def __post_init__(self) -> None:
        if self.start == self.stop:
            raise ValueError("the window has no length: let start and stop differ, or leave the window out")


def find_zone(name: str) -> ZoneInfo:
    """Find a time zone by its IANA name.

    Raises:
        ValueError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # absent; climbs out of the folder of zones; names a folder
        raise ValueError(f"{name!r} is no time zone: use a name such as Europe/Berlin or UTC") from error


def next_fire(cron: str, time_zone: str, after: datetime) -> datetime | None:
    """The first moment after another (not at it) at which a schedule fires, in UTC; None where it never does.

    As Debian's cron: a time in the hour that is left out when clocks are set forward fires at that hour's end, one in
    the hour that is passed twice fires the first time only, and a schedule for every hour follows the real hours.

    Args:
        cron: five fields: minute, hour, day of month, month, day of week.

    Raises:
        ValueError: the schedule or the zone means nothing.
    """
    return next(_fires(cron, time_zone, after), None)


def fires_inside(cron: str, window: Window, after: datetime) -> bool:
    """Whether any of a schedule's next fires, for a year or more, lies in a window of the same zone."""
    for number, moment in enumerate(_fires(cron, window.zone.key, after)):
        if is_open(window, moment):
            return True
        if number >= _FIRES or moment > after + _DAYS:
            return False
    return False


def window_of(archive: Archive) -> Window | None:
    """An archive's window; None where its scans may always run."""
    if archive.window_start is None or archive.window_stop is None:
        return None
    start, stop = time.fromisoformat(archive.window_start), time.fromisoformat(archive.window_stop)
    return Window(start, stop, find_zone(archive.time_zone))


def is_open(window: Window | None, now: datetime) -> bool:
    """Whether scans may run now."""
    if window is None:
        return True
    clock = now.astimezone(window.zone).time()
    if window.start < window.stop:
        return window.start <= clock < window.stop
    return clock >= window.start or clock < window.stop


def next_opening(window: Window, now: datetime) -> datetime:
    """The first moment, from now on, at which the window is open, in UTC; now itself where it is."""
    moment = now.astimezone(UTC)
    if is_open(window, moment):
        return moment
    last = moment + _LONGEST_CLOSED
    moment = moment.replace(second=0, microsecond=0)
    # A minute at a time, a few milliseconds a day: arithmetic with clocks on the wall goes wrong when they are set.
    while moment < last:
        moment += _MINUTE
        if is_open(window, moment):
            return moment
    raise AssertionError("unreachable: every window opens within two days")


def _fires(cron: str, time_zone: str, after: datetime) -> Iterator[datetime]:
    zone = find_zone(time_zone)
    if not _ever_fires(cron):
        return
    for moment in CronSim(cron, after.astimezone(zone)):
        # Started in the hour that is passed twice, it yields the first passing, which is over.
        if moment > after:
            yield moment.astimezone(UTC)


def _ever_fires(cron: str) -> bool:
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(f"the schedule needs five fields (minute hour day month weekday), not {len(fields)}: {cron!r}")
    now = datetime.now(UTC)
    try:
        CronSim(cron, now)
    except CronSimError as error:
        if _is_cron(" ".join((*fields[:3], "*", fields[4]))) and _is_cron(" ".join(("0 0 1", *fields[3:]))):
            # Each field is right, but no month that it names has such a day.
            return False
        raise ValueError(f"the schedule {cron!r} cannot be read: {str(error).lower()}") from error
    return True


def _is_cron(cron: str) -> bool:
    try:
        CronSim(cron, datetime.now(UTC))
    except CronSimError:
        return False
    return True
