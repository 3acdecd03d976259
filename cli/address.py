"""Where the API is, as every command that talks to it takes it."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cli.client import ApiClient

Address = Annotated[
    str | None, typer.Option("--api", help="Address of the API; by default the one that the settings name.")
]


def connect(address: str | None) -> "ApiClient":
    """Make a client of the API at an address; it connects when it is first asked."""
    from cli.client import ApiClient
    from core.settings import read_settings

    settings = read_settings()
    return ApiClient(address or f"http://{settings.api_host}:{settings.api_port}", settings)
