"""House rules: who may import whom, which imports are heavy, and that importing does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from core.settings import PROJECT

PROGRAMS = ("core", "worker", "api", "trainer", "cli")
# Beyond itself, a program may import these; trainer verifies what it compiles on the engines that serve.
ALLOWED = {
    "core": (),
    "worker": ("core",),
    "api": ("core",),
    "trainer": ("core", "worker.engines"),
    "cli": ("core", "worker", "api", "trainer"),
}
HEAVY = {
    "torch": "trainer",
    "torchvision": "trainer",
    "nncf": "trainer",
    "onnx": "trainer",
    "openvino": "worker.engines.openvino",
    "tensorrt": "worker.engines.tensorrt",
    "tensorrt_rtx": "worker.engines.tensorrt",
    "pycuda": "worker.engines.tensorrt",
}


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(*PROGRAMS, cache_dir=None, exclude_type_checking_imports=True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_import_only_what_they_may(imports, program):
    """Everything may import core, core nothing; worker, api and trainer stay apart; cli composes all."""
    allowed = (program, *ALLOWED[program])
    forbidden = [
        f"{importer} imports {imported}"
        for importer in imports.modules
        if is_within(importer, program)
        for imported in imports.find_modules_directly_imported_by(importer)
        if not any(is_within(imported, package) for package in allowed)
    ]
    assert forbidden == []


def test_the_rule_sees_modules(imports):
    """The graph is not empty, so that the rules above can fail."""
    assert imports.find_modules_directly_imported_by("worker.classify") >= {"core.errors", "worker.batches"}


def test_no_module_imports_itself_by_way_of_others(imports):
    """No cycle, inside packages either."""
    cycles = []
    for module in sorted(imports.modules):
        for imported in imports.find_modules_directly_imported_by(module):
            chain = imports.find_shortest_chain(imported, module)
            if chain:
                cycles.append(" -> ".join((module, *chain)))
    assert cycles == []


def _module_level_imports(path: Path) -> set[str]:
    """Top packages that a file imports when it is imported itself."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        for node in ast.iter_child_nodes(pending.pop()):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                pending.append(node)
    return found


def test_heavy_packages_are_imported_where_they_belong():
    """Engines have one file each that imports them at its top; the trainer's tools stay in the trainer."""
    misplaced = []
    for program in PROGRAMS:
        for path in (PROJECT / program).rglob("*.py"):
            module = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
            misplaced += [
                f"{module} imports {package}"
                for package in _module_level_imports(path) & HEAVY.keys()
                if not is_within(module, HEAVY[package]) and not _is_trainers_openvino(module, package)
            ]
    assert misplaced == []


def _is_trainers_openvino(module: str, package: str) -> bool:
    """The trainer makes OpenVINO's graphs, in one file."""
    return (module, package) == ("trainer.quantise", "openvino")


def _writes_a_state(node: ast.AST) -> bool:
    """Whether a node assigns to .state, or is an UPDATE with a state among its values."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Attribute) and target.attr == "state" for target in node.targets)
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values"):
        return False
    called = {
        inner.func.id for inner in ast.walk(node) if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name)
    }
    return "update" in called and any(keyword.arg == "state" for keyword in node.keywords)


def test_states_move_in_one_place():
    """core.transitions knows which moves are legal. One other file writes the outcomes of a batch's images at once."""
    writers = {
        path.relative_to(PROJECT).as_posix()
        for program in ("core", "worker", "api", "cli")
        for path in (PROJECT / program).rglob("*.py")
        if "migrations" not in path.parts
        and any(_writes_a_state(node) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert writers == {"core/transitions.py", "worker/batches.py"}


_REFUSE_HEAVY = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "nncf", "onnx"}:
            raise ImportError(f"{name} may not be imported here")

sys.meta_path.insert(0, Refuse())
"""


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


@pytest.mark.parametrize("module", ["api.app", "worker.program", "worker.engines.openvino", "cli.main"])
def test_serving_programs_start_without_the_trainers_packages(module):
    """The light installation has no torch, torchvision, nncf or onnx: nothing that serves may ask for them."""
    done = run(f"{_REFUSE_HEAVY}\nimport {module}")
    assert done.returncode == 0, done.stderr[-1500:]


def test_the_refusal_works():
    """The test above would fail for a program that imports torch."""
    assert "may not be imported here" in run(f"{_REFUSE_HEAVY}\nimport torch").stderr


_REFUSE_CONNECTIONS = """
import socket

def refuse(*args):
    raise AssertionError("importing connects")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = refuse
"""


@pytest.mark.parametrize("program", [program for program in PROGRAMS if program != "trainer"])
def test_importing_reads_no_settings_and_connects_to_nothing(program):
    """Every module can be imported while every variable is wrong and nothing can be reached."""
    modules = sorted(
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for path in (PROJECT / program).rglob("*.py")
        if path.name != "__init__.py" and "migrations" not in path.parts and path.stem != "tensorrt"
    )
    assert modules
    script = _REFUSE_CONNECTIONS + "\n".join(f"import {module}" for module in modules)
    done = run(script, HISTOBATCH_BATCH_SIZE="nonsense", HISTOBATCH_REDIS_URL="nonsense", HISTOBATCH_ROOTS="relative")
    assert done.returncode == 0, done.stderr[-1500:]


def test_no_module_is_called_by_a_word_that_says_nothing():
    """A module's name says what is in it."""
    empty_words = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    named = {path.stem for program in (*PROGRAMS, "tests") for path in (PROJECT / program).rglob("*.py")}
    assert named & empty_words == set()
