"""Moments in addresses."""

from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator


def _refuse_number(value: object) -> object:
    """A number would be taken for seconds since 1970, and after=2026 would mean nearly everything."""
    if isinstance(value, str) and value.replace(".", "", 1).replace("-", "", 1).isdecimal():
        raise ValueError("write a moment such as 2026-11-23T18:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_refuse_number)]
