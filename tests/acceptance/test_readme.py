"""Every command in the README does what the README says."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.stack import Stack, running_stack
from core.settings import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
LINES = [line for block in COMMANDS for line in block.splitlines()]

# Run by other tests, in this file under this name.
DEMO_TESTS = "acceptance/test_demo.py"
TRAINER_TESTS = "integration/trainer/test_train_and_export.py"
ELSEWHERE = {
    "scripts/demo": (DEMO_TESTS, "test_served_addresses_answer_and_a_signal_leaves_no_process"),
    "scripts/demo --once FOLDER": (DEMO_TESTS, "test_own_folder_with_a_broken_file_names_the_reason"),
    ".venv/bin/histobatch train BREAKHIS --out runs/mine --weights WEIGHTS": (
        TRAINER_TESTS,
        "test_a_run_folder_holds_what_explains_it",
    ),
    ".venv/bin/histobatch export runs/mine --name my-model --version 1.0.0": (
        TRAINER_TESTS,
        "test_the_int8_graph_runs_in_the_workers_engine",
    ),
}
# This very run: CI calls it, and test_ci_calls_the_test_command holds that.
THIS_RUN = {"scripts/test"}
# Shortened, so that they take seconds.
SHORTENED = {
    ".venv/bin/python -m benchmarks.end_to_end": " --images 16 --rounds 1",
    ".venv/bin/python -m benchmarks.bulk": " --images 64 --photos 16",
}
AGAINST_A_STACK = {
    ".venv/bin/histobatch doctor",
    ".venv/bin/histobatch submit FOLDER --wait",
    ".venv/bin/histobatch results SUBMISSION --format csv",
}


def _sh(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], cwd=PROJECT, env=os.environ, capture_output=True, text=True, timeout=280, check=False
    )


def test_every_command_is_run_by_a_test() -> None:
    """A command that is added to the README must be added here, and the other way round."""
    assert set(LINES) == set(ELSEWHERE) | THIS_RUN | set(SHORTENED) | AGAINST_A_STACK
    for file, name in ELSEWHERE.values():
        assert f"def {name}(" in (PROJECT / "tests" / file).read_text(encoding="utf-8")


def test_ci_calls_the_test_command() -> None:
    """What the README tells people to run is what CI runs."""
    assert re.search(r"^scripts/test$", (PROJECT / ".ci" / "run").read_text(), re.MULTILINE)


@pytest.mark.trainer
@pytest.mark.parametrize("command", SHORTENED)
def test_benchmark_prints_its_ratio(command: str) -> None:
    """Each benchmark that the README names runs and ends with its figures."""
    finished = _sh(command + SHORTENED[command])
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"share of the limit: \d+%|queue and database: -?\d+\.\d+ ms", finished.stdout)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A running system with one image below its root."""
    before = dict(os.environ)
    folder = tmp_path / "images" / "case"
    folder.mkdir(parents=True)
    shutil.copy(next((PROJECT / "samples").glob("*.jpg")), folder)
    with running_stack(tmp_path, tmp_path / "images", HISTOBATCH_ENGINE="fake") as running:
        yield running
    os.environ.clear()
    os.environ.update(before)


def test_commands_for_a_permanent_installation_work(stack: Stack) -> None:
    """doctor, submit and results do their work against a running system."""
    folder = stack.images / "case"
    assert _sh(".venv/bin/histobatch doctor").returncode == 0
    submitted = _sh(".venv/bin/histobatch submit FOLDER --wait".replace("FOLDER", str(folder)))
    assert submitted.returncode == 0, submitted.stderr
    command = ".venv/bin/histobatch results SUBMISSION --format csv"
    results = _sh(command.replace("SUBMISSION", submitted.stdout.strip()))
    assert results.returncode == 0, results.stderr
    assert next(folder.iterdir()).name in results.stdout


def test_every_link_leads_to_a_file() -> None:
    """Relative links of the README name files that are there."""
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (PROJECT / target).exists(), target
