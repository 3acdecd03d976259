"""docs/api.md names the routes that there are."""

import re
from collections.abc import Iterator

from api.app import create_app
from core.settings import PROJECT, Settings

# Other tables name no address.
_ROW = re.compile(r"^\| (`(?:[A-Z]+ )?/[^|]*`) \| ", re.MULTILINE)
# Pages for people are in no schema.
_PAGES = {("GET", "/login"), ("POST", "/logout"), ("GET", "/"), ("GET", "/submissions/{}")}


def _documented() -> Iterator[tuple[str, str]]:
    """Method and address of each route in the table; what follows a comma replaces the address's last part."""
    for cell in _ROW.findall((PROJECT / "docs" / "api.md").read_text()):
        method, before = "GET", ""
        for name in re.findall(r"`([^`]+)`", cell):
            given, _, address = name.rpartition(" ")
            method = given or method
            address = address.partition("?")[0]
            before = address if address.startswith("/") else f"{before.rpartition('/')[0]}/{address}"
            yield method, re.sub(r"\{\w+\}", "{}", before)


def test_every_route_is_documented_and_no_other() -> None:
    """Who reads the page finds each address and method, and none that is gone."""
    paths = create_app(Settings()).openapi()["paths"]
    routes = {(method.upper(), re.sub(r"\{\w+\}", "{}", path)) for path in paths for method in paths[path]}
    documented = list(_documented())
    assert sorted(documented) == sorted(routes | _PAGES)
