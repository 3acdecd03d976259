"""The alert rules by Prometheus' own checker: valid, complete, raised when they should be and not otherwise."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from core.settings import PROJECT
from tests.integration.deploy.alert_cases import CASES
from tests.integration.deploy.alert_rules import FOLDER, RULES, read_configuration, read_rules

ALERTS = read_rules()


def _promtool(promtool: str, *arguments: str) -> str:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_its_configuration_and_the_rules(promtool: str, tmp_path: Path) -> None:
    """The file of the token is made when the container starts, so another stands in for it here."""
    token = tmp_path / "token"
    token.touch()
    configuration = read_configuration()
    (scrape,) = configuration["scrape_configs"]
    assert scrape["authorization"].pop("credentials_file") == "/tmp/token"
    scrape["authorization"]["credentials_file"] = str(token)
    configuration["rule_files"] = [str(FOLDER / name) for name in configuration["rule_files"]]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    assert f"{len(ALERTS)} rules found" in _promtool(promtool, "check", "config", str(file))


def test_every_alert_is_tried_both_ways() -> None:
    """An alert that no case raises may never be raised; one that no case leaves alone may always be."""
    assert {case.alert for case in CASES if case.fires} == ALERTS.keys()
    assert {case.alert for case in CASES if not case.fires} == ALERTS.keys()


def test_alerts_are_raised_when_they_should_be_and_not_otherwise(promtool: str, tmp_path: Path) -> None:
    """Each case against the real rules."""
    tests = []
    for case in CASES:
        labels = {"alertname": case.alert, "alertstate": "firing", **ALERTS[case.alert]["labels"], **case.labels}
        pairs = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
        raised = [{"labels": f"ALERTS{{{pairs}}}", "value": 1}] if case.fires else []
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}',
                        "eval_time": case.at,
                        "exp_samples": raised,
                    }
                ],
            }
        )
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    _promtool(promtool, "test", "rules", str(file))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_is_so_and_what_to_do(name: str) -> None:
    """Whoever it wakes has read nothing of this before."""
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert len(notes["summary"]) < 100
    assert len(notes["description"]) > len(notes["summary"])
    assert not re.search(r"https?://", notes["runbook_url"])


@pytest.mark.parametrize("name", ALERTS)
def test_the_runbook_has_the_chapter_that_an_alert_names(name: str) -> None:
    """A link to nowhere costs minutes at night."""
    file, _, anchor = ALERTS[name]["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (PROJECT / file).read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert anchor in anchors


def test_the_runbook_lists_every_alert() -> None:
    """With how bad it is, and first of all the chapter that the alert itself names."""
    text = (PROJECT / "docs" / "runbook.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \| \[.+?\]\((\S+?)\).* \|$", text, re.MULTILINE)
    rules = [
        (name, rule["labels"]["severity"], rule["annotations"]["runbook_url"].removeprefix("docs/runbook.md"))
        for name, rule in ALERTS.items()
    ]
    assert sorted(listed) == sorted(rules)
