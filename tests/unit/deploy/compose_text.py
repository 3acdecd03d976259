"""compose.yaml as text by service: enough to hold rules, with no YAML reader among the dependencies."""

import re
from pathlib import Path

from core.settings import PROJECT

COMPOSE: Path = PROJECT / "compose.yaml"


def read_services() -> dict[str, str]:
    """Return each service's lines, those it merges from the anchor program included."""
    sections = _blocks(COMPOSE.read_text(), indent=0)
    program = sections["x-program"]
    services = _blocks(sections["services"], indent=2)
    return {name: body.replace("    <<: *program\n", _indented(program)) for name, body in services.items()}


def read_variables(text: str) -> dict[str, str]:
    """Return each ${VARIABLE...} by name with what follows the name: ":?message", ":-default" or nothing."""
    return dict(re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", text))


def _blocks(text: str, indent: int) -> dict[str, str]:
    heads = re.compile(rf"^ {{{indent}}}([\w-]+):[^\n]*\n", re.MULTILINE)
    found = list(heads.finditer(text))
    ends = [head.start() for head in found[1:]] + [len(text)]
    return {head[1]: text[head.end() : end] for head, end in zip(found, ends, strict=True)}


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines() if line.strip())
