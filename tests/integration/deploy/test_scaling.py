"""The query by which Kubernetes decides how many workers there are."""

import subprocess
from pathlib import Path

import pytest
import yaml

from core.settings import PROJECT


def _lanes(name: str, bulk: int, nightly: int) -> dict[str, str]:
    """Two APIs, which tell the same."""
    return {
        f'histobatch_{name}{{lane="{lane}",instance="{instance}"}}': f"{value}x9"
        for lane, value in {"bulk": bulk, "nightly": nightly}.items()
        for instance in ("a", "b")
    }


RUNNING = _lanes("batches_running", 2, 1)
CASES = {
    "waiting and running, once each": (_lanes("batches_queued", 40, 5) | RUNNING | _lanes("lane_paused", 0, 0), 48),
    "a paused lane needs no worker": (_lanes("batches_queued", 40, 5) | RUNNING | _lanes("lane_paused", 1, 0), 8),
    "all paused, and some still run": (_lanes("batches_queued", 40, 5) | RUNNING | _lanes("lane_paused", 1, 1), 3),
    "nothing to do": (
        _lanes("batches_queued", 0, 0) | _lanes("batches_running", 0, 0) | _lanes("lane_paused", 0, 0),
        0,
    ),
    "no metrics is an error, and not nothing to do": ({}, None),
}


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_workers_follow_the_batches_that_they_could_do(overlay: str, promtool: str, tmp_path: Path) -> None:
    """Several APIs tell the same of one database, and a paused lane waits for people."""
    folder = PROJECT / "deploy" / "kubernetes" / "overlays" / overlay
    (trigger,) = yaml.safe_load((folder / "scaling.yaml").read_text())["spec"]["triggers"]
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in given.items()],
            "promql_expr_test": [
                {
                    "expr": trigger["metadata"]["query"],
                    "eval_time": "5m",
                    "exp_samples": [] if expected is None else [{"labels": "{}", "value": expected}],
                }
            ],
        }
        for name, (given, expected) in CASES.items()
    ]
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"tests": tests}))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
