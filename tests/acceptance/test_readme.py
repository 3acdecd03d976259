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
    ".venv/bin/histobatch dataset BREAKHIS --out runs/dataset": (
        "integration/trainer/test_dataset_command.py",
        "test_a_zip_is_described_and_its_images_are_cached",
    ),
    ".venv/bin/histobatch evaluate runs/mine": (
        "integration/trainer/test_evaluate.py",
        "test_a_run_is_judged_again_by_the_command",
    ),
    ".venv/bin/histobatch report runs/mine": (
        "integration/trainer/test_report.py",
        "test_the_page_names_the_commands_that_make_it_again",
    ),
    ".venv/bin/histobatch compare BREAKHIS --out runs/compared --recipe smoke": (
        "integration/trainer/test_compare_command.py",
        "test_the_smoke_recipe_judges_one_fold",
    ),
    ".venv/bin/histobatch export runs/mine --name my-model --version 1.0.0": (
        TRAINER_TESTS,
        "test_the_int8_graph_runs_in_the_workers_engine",
    ),
    ".venv/bin/histobatch compile models/histobatch-breakhis-0.2.0 --target tensorrt-rtx": (
        "integration/engines/test_compile_command.py",
        "test_an_engine_lies_beside_its_manifest_and_its_build_log",
    ),
}
# This very run: CI calls it, and test_ci_calls_the_test_command holds that.
THIS_RUN = {"scripts/test"}
# Shortened, so that they take seconds.
SHORTENED = {
    ".venv/bin/python -m benchmarks.end_to_end": " --images 16 --rounds 1",
    ".venv/bin/python -m benchmarks.bulk": " --images 64 --photos 16",
}
FAULTS = {"scripts/faults": " --seed 1 --database sqlite --part kills --images 200"}
AGAINST_A_STACK = {
    ".venv/bin/histobatch doctor",
    ".venv/bin/histobatch submit FOLDER --wait",
    ".venv/bin/histobatch results SUBMISSION --format csv",
    '.venv/bin/histobatch archives add NAME FOLDER --schedule "0 22 * * *" --window 22:00-06:00',
    ".venv/bin/histobatch archives scan NAME --wait",
    ".venv/bin/histobatch archives report NAME --format html --output report.html",
}


def _sh(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], cwd=PROJECT, env=os.environ, capture_output=True, text=True, timeout=280, check=False
    )


def test_every_command_is_run_by_a_test() -> None:
    """A command that is added to the README must be added here, and the other way round."""
    assert set(LINES) == set(ELSEWHERE) | THIS_RUN | set(SHORTENED) | set(FAULTS) | AGAINST_A_STACK
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


@pytest.mark.parametrize("command", FAULTS)
def test_breaking_the_system_prints_what_was_lost(command: str) -> None:
    """Twenty kills during 200 images: the table says that all of them have one outcome."""
    finished = _sh(command + FAULTS[command])
    assert re.search(r"images with one outcome\s*│ 200\s*│ 200\s*│ pass", finished.stdout), finished.stdout[-3000:]
    # Batches of 20 make much of 200 images be under way at a kill, so that only the share computed again may fail.
    assert re.search(r"doubled\s*│ 0\s*│ 0\s*│ pass", finished.stdout)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A running system with one image below its root."""
    before = dict(os.environ)
    folder = tmp_path / "images" / "case"
    folder.mkdir(parents=True)
    copied = shutil.copy(next((PROJECT / "samples").glob("*.jpg")), folder)
    os.utime(copied, (0, 0))  # as old as files of an archive are
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


def test_commands_for_an_archive_work(stack: Stack, tmp_path: Path) -> None:
    """An archive is added, scanned at once whatever its window says, and its report names the image."""
    folder, report = stack.images / "case", tmp_path / "report.html"
    image = next(folder.iterdir()).name
    commands = [line for line in LINES if " archives " in line]
    assert len(commands) == 3
    for command in commands:
        line = command.replace("NAME", "pathology").replace("FOLDER", str(folder))
        done = _sh(line.replace("report.html", str(report)))
        assert done.returncode == 0, done.stderr
    assert image in report.read_text()


def test_every_link_leads_to_a_file() -> None:
    """Relative links of the README name files that are there."""
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (PROJECT / target).exists(), target
