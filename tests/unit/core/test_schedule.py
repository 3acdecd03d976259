"""Scans begin when their schedule says so, in the archive's own time zone, and run while their window is open."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.archive_tables import Archive
from core.schedule import Window, find_zone, fires_inside, is_open, next_fire, next_opening, window_of

BERLIN = "Europe/Berlin"
# In Berlin clocks went from 2:00 to 3:00 on 29 March 2026 and from 3:00 back to 2:00 on 25 October 2026.
FORWARD = datetime(2026, 3, 29, tzinfo=UTC)
BACK = datetime(2026, 10, 25, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(start: str, stop: str, zone: str = BERLIN) -> Window:
    return Window(time.fromisoformat(start), time.fromisoformat(stop), find_zone(zone))


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 22 * * *", "UTC", "2026-11-23 12:00", "2026-11-23 22:00"),
        ("0 22 * * *", "UTC", "2026-11-23 22:00", "2026-11-24 22:00"),
        ("0 22 * * *", BERLIN, "2026-11-23 12:00", "2026-11-23 21:00"),
        ("0 22 * * *", BERLIN, "2026-07-01 12:00", "2026-07-01 20:00"),
        ("30 3 * * MON-FRI", BERLIN, "2026-11-27 12:00", "2026-11-30 02:30"),
        ("0 0 29 2 *", "UTC", "2026-11-23 12:00", "2028-02-29 00:00"),
        ("15 4 1-7 * SUN", "UTC", "2026-11-23 12:00", "2026-11-29 04:15"),
    ],
)
def test_a_schedule_fires_in_its_time_zone(cron: str, zone: str, after: str, expected: str) -> None:
    """Always after the given moment, never at it, and in UTC."""
    fired = next_fire(cron, zone, utc(after))
    assert fired == utc(expected)
    assert fired.utcoffset() == timedelta()


def test_a_night_without_its_hour_is_not_left_out() -> None:
    """2:30 does not exist when clocks are set forward: the scan begins at 3:00, and the next day at 2:30."""
    first = next_fire("30 2 * * *", BERLIN, FORWARD)
    assert first == utc("2026-03-29 01:00")
    assert next_fire("30 2 * * *", BERLIN, first) == utc("2026-03-30 00:30")


@pytest.mark.parametrize("asked_at", ["2026-10-25 00:30", "2026-10-25 00:45", "2026-10-25 01:10", "2026-10-25 01:40"])
def test_an_hour_that_is_passed_twice_fires_once(asked_at: str) -> None:
    """2:30 comes twice when clocks are set back: asked at any moment after the first, the next is tomorrow's."""
    assert next_fire("30 2 * * *", BERLIN, BACK) == utc("2026-10-25 00:30")
    assert next_fire("30 2 * * *", BERLIN, utc(asked_at)) == utc("2026-10-26 01:30")


def test_an_hourly_schedule_follows_the_real_hours() -> None:
    """An hour that is passed twice is two hours."""
    fired, moment = [], BACK - timedelta(minutes=1)
    for _ in range(4):
        moment = next_fire("0 * * * *", BERLIN, moment)
        fired.append(moment.hour)
    assert fired == [0, 1, 2, 3]


@pytest.mark.parametrize("cron", ["0 0 31 2 *", "0 0 31 2,4,6,9,11 *", "0 0 30 FEB *", "0 0 */30 2 MON#5"])
def test_a_schedule_may_never_fire(cron: str) -> None:
    """Each field means something, but no such day ever comes."""
    assert next_fire(cron, "UTC", utc("2026-11-23 12:00")) is None


@pytest.mark.parametrize(
    ("cron", "names"),
    [
        ("", "five fields"),
        ("0 22 * *", "five fields"),
        ("0 0 22 * * *", "five fields"),
        ("@daily", "five fields"),
        ("61 22 * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 0 32 2 *", "day-of-month"),
        ("0 0 31 13 *", "month"),
        ("0 0 * * MUN", "day-of-week"),
    ],
)
def test_a_schedule_that_means_nothing_is_refused(cron: str, names: str) -> None:
    """The sentence names the field."""
    with pytest.raises(ValueError, match=names):
        next_fire(cron, "UTC", utc("2026-11-23 12:00"))


@given(st.text(alphabet="0123456789*,-/#LWMONFEB ", max_size=30))
def test_nothing_but_a_refusal_comes_of_nonsense(cron: str) -> None:
    """Whatever someone writes: a moment, never, or ValueError."""
    try:
        fired = next_fire(cron, "UTC", utc("2026-11-23 12:00"))
    except ValueError:
        return
    assert fired is None or fired > utc("2026-11-23 12:00")


@pytest.mark.parametrize("name", ["", "Europe", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "\0"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    """Also one that would name a file elsewhere."""
    with pytest.raises(ValueError, match="no time zone"):
        find_zone(name)


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    after=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_a_daily_schedule_fires_every_day_at_its_time(minute: int, hour: int, after: datetime, zone: str) -> None:
    """In every zone, through every change of clocks: at its time, or up to an hour later where that is missing."""
    fired = next_fire(f"{minute} {hour} * * *", zone, after)
    assert after < fired <= after + timedelta(hours=26)
    local = fired.astimezone(find_zone(zone))
    late = (local.hour * 60 + local.minute) - (hour * 60 + minute)
    assert late == 0 or (0 < late <= 60 and local.utcoffset() != (local - timedelta(hours=3)).utcoffset())


@pytest.mark.parametrize(
    ("start", "stop", "clock", "expected"),
    [
        ("22:00", "06:00", "22:00", True),
        ("22:00", "06:00", "23:59", True),
        ("22:00", "06:00", "05:59", True),
        ("22:00", "06:00", "06:00", False),
        ("22:00", "06:00", "21:59", False),
        ("01:00", "05:00", "01:00", True),
        ("01:00", "05:00", "05:00", False),
        ("01:00", "05:00", "00:59", False),
        ("00:00", "23:59", "23:59", False),
    ],
)
def test_a_window_is_open_from_its_start_until_its_stop(start: str, stop: str, clock: str, expected: bool) -> None:
    """The start belongs to it, the stop does not; where stop comes first, it passes midnight."""
    now = datetime.combine(datetime(2026, 11, 23).date(), time.fromisoformat(clock), find_zone(BERLIN))
    assert is_open(window(start, stop), now.astimezone(UTC)) is expected


def test_without_a_window_scans_always_may_run() -> None:
    """No window is not a window that is closed."""
    assert is_open(None, utc("2026-11-23 12:00"))
    assert window_of(Archive(name="a", root="/a")) is None


def test_an_archive_has_its_window_in_its_own_zone() -> None:
    """22:00 in Berlin is 21:00 UTC in winter."""
    archive = Archive(name="a", root="/a", window_start="22:00", window_stop="06:00", time_zone=BERLIN)
    found = window_of(archive)
    assert found == window("22:00", "06:00")
    assert is_open(found, utc("2026-11-23 21:00"))
    assert not is_open(found, utc("2026-11-23 20:59"))


def test_the_hour_that_is_passed_twice_is_open_twice() -> None:
    """A window of 2:00-2:30 opens at both of its hours, and 2:30-3:00 in between is closed."""
    twice = window("02:00", "02:30")
    half_hours = [BACK + timedelta(minutes=30 * number) for number in range(6)]
    assert [is_open(twice, moment) for moment in half_hours] == [True, False, True, False, False, False]
    assert next_opening(twice, utc("2026-10-25 00:40")) == utc("2026-10-25 01:00")


def test_a_window_in_the_missing_hour_opens_a_day_later() -> None:
    """2:15-2:45 does not exist when clocks are set forward; a window that reaches beyond opens at 3:00."""
    assert next_opening(window("02:15", "02:45"), FORWARD + timedelta(minutes=45)) == utc("2026-03-30 00:15")
    assert next_opening(window("02:15", "05:00"), FORWARD + timedelta(minutes=45)) == utc("2026-03-29 01:00")


def test_a_window_has_a_length() -> None:
    """22:00-22:00 may mean always or never: neither is guessed."""
    with pytest.raises(ValueError, match="no length"):
        window("22:00", "22:00")


_MINUTES = st.integers(0, 24 * 60 - 1).map(lambda minutes: time(minutes // 60, minutes % 60))


@given(
    times=st.lists(_MINUTES, min_size=2, max_size=2, unique=True),
    now=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    share=st.floats(0, 0.999),
)
def test_a_window_opens_at_its_next_opening_and_not_before(
    times: list[time], now: datetime, zone: str, share: float
) -> None:
    """It is open then, and at no moment in between; where it is open already, that is now."""
    mine = Window(times[0], times[1], find_zone(zone))
    opening = next_opening(mine, now)
    assert opening >= now
    assert is_open(mine, opening)
    between = now + (opening - now) * share
    assert opening == now or not is_open(mine, between)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [("0 23 * * *", True), ("0 12 * * *", False), ("0 12 1 1 *", False), ("0 3 29 2 *", True), ("*/7 * * * *", True)],
)
def test_a_schedule_may_fire_outside_its_window_only(cron: str, expected: bool) -> None:
    """Its scans then wait each time until the window opens, which nobody may have meant."""
    assert fires_inside(cron, window("22:00", "06:00"), utc("2026-11-23 12:00")) is expected
