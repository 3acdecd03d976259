"""Options of `histobatch archives add` and `set`, and what the API is sent for them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from core.lanes import Lane
from core.paths import path_to_text
from core.storage.addresses import is_address

Schedule = Annotated[str | None, typer.Option(help='Cron of five fields, such as "0 22 * * *"; "" for none.')]
TimeZone = Annotated[str | None, typer.Option(help="Of schedule and window, such as Europe/Berlin; UTC if not given.")]
Window = Annotated[str | None, typer.Option(help='Scans run in these hours only, such as 22:00-06:00; "" for always.')]
Include = Annotated[list[str] | None, typer.Option(help='Glob pattern of files to take; repeat for more; "" for all.')]
Exclude = Annotated[
    list[str] | None, typer.Option(help='Glob pattern of files to leave; repeat for more; "" for none.')
]
LaneOption = Annotated[
    Lane | None, typer.Option("--lane", help="Which queue waits for its images; nightly comes last.")
]
Model = Annotated[str | None, typer.Option(help='"newest", or name@version.')]
NamePattern = Annotated[str | None, typer.Option(help="How names tell patient, slide and magnification.")]
Manifest = Annotated[str | None, typer.Option(help='CSV file below the root that tells them instead; "" for none.')]
SettleS = Annotated[float | None, typer.Option(min=0, help="Files younger than this wait for the next scan.")]
Webhook = Annotated[str | None, typer.Option(help='Address that is told of each report; "" for nobody.')]
WebhookSecretFile = Annotated[
    Path | None, typer.Option(help="File that holds the webhook's secret; without it the API makes one.")
]
Enabled = Annotated[bool | None, typer.Option("--enable/--disable", help="Whether the schedule counts.")]

_PLAIN = ("schedule", "time_zone", "window", "lane", "model", "name_pattern", "manifest", "settle_s", "enabled")
# Fields that may have no value, which "" stands for.
_OPTIONAL = ("schedule", "window")


def collect(given: Mapping[str, Any]) -> dict[str, object]:
    """The fields that options were given for, as the API takes them.

    Args:
        given: what was parsed, by name, others than these options among it.
    """
    fields: dict[str, object] = {name: given[name] for name in _PLAIN if given[name] is not None}
    for name in _OPTIONAL:
        if fields.get(name) == "":
            fields[name] = None
    for name in ("include", "exclude"):
        if given[name]:
            fields[name] = [pattern for pattern in given[name] if pattern]
    webhook, secret_file = given["webhook"], given["webhook_secret_file"]
    if webhook is None and secret_file is not None:
        raise typer.BadParameter("a secret needs --webhook, too", param_hint="--webhook-secret-file")
    if webhook is not None:
        fields["webhook"] = _webhook(webhook, secret_file) if webhook else None
    return fields


def root_as_text(root: str) -> str:
    """A folder as the API takes it; addresses stay as they are."""
    return root if is_address(root) else path_to_text(os.fsencode(Path(root).expanduser().absolute()))


def _webhook(url: str, secret_file: str | None) -> dict[str, object]:
    if secret_file is None:
        return {"url": url}
    try:
        # Not an option: every user of the machine can read a command line.
        return {"url": url, "secret": Path(secret_file).read_text().strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter("cannot be read", param_hint="--webhook-secret-file") from error
