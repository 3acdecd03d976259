"""`histobatch keys`: who may ask the API. Works on the database, so that the first key needs no other."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.direct import open_database
from core.access import Scope

if TYPE_CHECKING:
    from core.access_tables import ApiKey

app = typer.Typer(add_completion=False, no_args_is_help=True)

_Scopes = Annotated[list[Scope], typer.Option("--scope", help="What it may do; may be given several times.")]
_ExpiresDays = Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it ends; by default it does not.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is; submissions, reviews and the audit name this.")],
    scope: _Scopes,
    expires_days: _ExpiresDays = None,
) -> None:
    """Make a key and print it, once: alone on standard output, so that it can be stored by a program."""
    from getpass import getuser

    from core.keys import make_key
    from core.settings import read_settings
    from core.tables import utc_now

    settings = read_settings()
    expires_at = None if expires_days is None else utc_now() + timedelta(days=expires_days)
    with open_database(settings) as database, database.write() as session:
        key, text = make_key(session, name, set(scope), made_by=getuser(), expires_at=expires_at)
    typer.echo(text)
    typer.echo(f"{key.id} of {name}: {_describe(key)}. Keep it: it is shown once and stored nowhere.", err=True)
    if not settings.asks_who:
        typer.echo(
            "Keys have no effect yet: without HISTOBATCH_API_TOKEN and HISTOBATCH_REQUIRE_KEY the API lets everybody "
            "on this machine in.",
            err=True,
        )


@app.command("list")
def list_() -> None:
    """List all keys, with those that have ended; never the keys themselves."""
    from rich.console import Console
    from rich.table import Table

    from core.keys import list_keys
    from core.settings import read_settings
    from core.tables import utc_now

    with open_database(read_settings()) as database, database.read() as session:
        keys = list_keys(session)
    table = Table("id", "name", "scopes", "state", "made", "by", "last used (to the hour)")
    now = utc_now()
    for key in keys:
        table.add_row(key.id, *_cells(key, now))
    # A program that reads the table shall not find it cut to a terminal that is not there.
    console = Console(width=None if Console().is_terminal else 200)
    console.print(table if keys else "there is no key", markup=False, highlight=False)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `histobatch keys list` shows it.")]) -> None:
    """End a key from the next request on, and the sessions that were begun with it."""
    from getpass import getuser

    from core.keys import revoke_key
    from core.settings import read_settings

    with open_database(read_settings()) as database, database.write() as session:
        key = revoke_key(session, key_id, getuser())
    typer.echo(f"{key.id} of {key.name} is revoked since {_moment(key.revoked_at)}")


def _describe(key: "ApiKey") -> str:
    end = "does not expire" if key.expires_at is None else f"expires {_moment(key.expires_at)}"
    return f"{', '.join(key.scopes)}; {end}"


def _cells(key: "ApiKey", now: datetime) -> Iterator[str]:
    from rich.markup import escape

    yield escape(key.name)
    yield ", ".join(key.scopes)
    yield _state(key, now)
    yield _moment(key.created_at)
    yield escape(key.created_by)
    yield _moment(key.last_used_at)


def _state(key: "ApiKey", now: datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {_moment(key.revoked_at)}"
    if key.expires_at is not None and key.expires_at <= now:
        return f"expired {_moment(key.expires_at)}"
    return "valid" if key.expires_at is None else f"valid until {_moment(key.expires_at)}"


def _moment(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
