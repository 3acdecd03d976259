"""The alert rules and Prometheus' configuration, as data."""

from pathlib import Path
from typing import Any

import yaml

from core.settings import PROJECT

FOLDER: Path = PROJECT / "deploy" / "prometheus"
RULES: Path = FOLDER / "alerts.yml"


def read_rules() -> dict[str, dict[str, Any]]:
    """Return every alert rule by its alert's name."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def read_configuration() -> dict[str, Any]:
    """Return Prometheus' configuration."""
    return dict(yaml.safe_load((FOLDER / "prometheus.yml").read_text()))
