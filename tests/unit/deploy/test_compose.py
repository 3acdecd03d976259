"""What compose.yaml promises to whoever reviews the security of an installation."""

import json
import os
import re
import shutil
import subprocess

import pytest

from core.settings import PROJECT, Settings
from tests.unit.deploy.compose_text import COMPOSE, read_services, read_variables

SERVICES = read_services()
ONE_SHOT = {"migrate"}
PUBLISHED = {"api", "flower"}
SECRETS = {"REDIS_PASSWORD", "POSTGRES_PASSWORD", "API_TOKEN", "FLOWER_PASSWORD"}


def test_the_stack_has_every_program_and_its_stores() -> None:
    """A program that is missing here would be missed by every rule below."""
    assert set(SERVICES) == {"redis", "postgres", "migrate", "api", "worker", "beat", "flower"}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_and_by_two_services_only(name: str) -> None:
    """Whoever wants to serve others puts TLS before it; a mistake here would open a hospital's results."""
    published = re.findall(r"^    ports: (.*)$", SERVICES[name], re.MULTILINE)
    assert bool(published) == (name in PUBLISHED)
    for port in (port for line in published for port in json.loads(line)):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_gives_up_what_it_does_not_need(name: str) -> None:
    """No capability, no new privilege, no writable system, and bounded memory and processes."""
    body = SERVICES[name]
    for line in ("read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]'):
        assert f"    {line}\n" in body
    assert re.search(r"limits: \{memory: \w+, pids: \d+\}", body)
    assert "privileged: true" not in body
    assert "network_mode" not in body


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"redis", "postgres"}))
def test_our_programs_run_the_one_image(name: str) -> None:
    """The image brings an unprivileged user and a health check; a service that overrides the user loses it."""
    assert "target: service" in SERVICES[name]
    assert "    user:" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_or_ends_by_itself(name: str) -> None:
    """Start order and restarts rest on health, and a check that is off says nothing."""
    body = SERVICES[name]
    if name in ONE_SHOT:
        assert "healthcheck: {disable: true}" in body
        assert 'restart: "no"' in body
        return
    assert "disable: true" not in body
    if "target: service" in body:
        assert f"HISTOBATCH_ROLE: {name}" in body
    else:
        assert "    healthcheck:\n      " in body
        assert "test: [" in body


def test_secrets_must_be_set() -> None:
    """A stack with a default password is a stack with a known password."""
    variables = read_variables(COMPOSE.read_text())
    assert variables.keys() >= SECRETS
    for name in SECRETS:
        assert variables[name].startswith(":?")
    others = {name: rest for name, rest in variables.items() if name not in SECRETS}
    assert all(rest.startswith(":-") for rest in others.values())
    assert not any(word in name for name in others for word in ("PASSWORD", "TOKEN", "SECRET", "KEY"))


def test_the_example_names_every_variable_and_holds_no_secret() -> None:
    """Who copies the example must find all that can be set, and must fill the secrets in."""
    lines = (PROJECT / "deploy" / "env.example").read_text().splitlines()
    assigned = dict(line.lstrip("#").split("=", 1) for line in lines if re.match(r"#?[A-Z_]+=", line))
    assert assigned.keys() == read_variables(COMPOSE.read_text()).keys()
    assert {name for name, value in assigned.items() if not value} == SECRETS


def test_variables_of_programs_are_settings() -> None:
    """A misspelt HISTOBATCH_ variable would be ignored in silence."""
    text = COMPOSE.read_text() + (PROJECT / "deploy" / "Dockerfile").read_text()
    names = set(re.findall(r"^ *(HISTOBATCH_\w+)[:=]", text, re.MULTILINE)) - {"HISTOBATCH_ROLE"}
    assert names
    assert {name.removeprefix("HISTOBATCH_").lower() for name in names} <= Settings.model_fields.keys()


def test_broker_and_database_have_no_way_out() -> None:
    """Only what is published needs the outer network."""
    assert "  inside: {internal: true}\n" in COMPOSE.read_text()
    for name, body in SERVICES.items():
        expected = "[inside, outside]" if name in PUBLISHED else "[inside]"
        assert f"    networks: {expected}\n" in body


def test_images_are_read_only_and_uploads_are_written_by_the_api_alone() -> None:
    """No program can change a hospital's images."""
    images = COMPOSE.read_text().split("x-images: &images\n")[1].split("\n\n")[0]
    assert "  read_only: true\n" in images
    assert "      - uploads:/data:ro\n      - *images\n" in SERVICES["worker"]
    assert "      - uploads:/data\n      - *images\n" in SERVICES["api"]
    assert [name for name, body in SERVICES.items() if "uploads:/data\n" in body] == ["api"]


def test_work_starts_after_the_tables_are_there() -> None:
    """An old table under a new program is damage that no retry mends."""
    after = COMPOSE.read_text().split("x-after-migration: &after-migration\n")[1].split("\n\n")[0]
    assert "migrate: {condition: service_completed_successfully}" in after
    for name in ("api", "worker", "beat", "flower"):
        assert "depends_on: *after-migration" in SERVICES[name]


def test_compose_itself_accepts_the_file_only_with_secrets() -> None:
    """The rules above read text; where the real tool is at hand, it has the last word."""
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed here")
    command = [docker, "compose", "--file", str(COMPOSE), "--env-file", "/dev/null", "config", "--format", "json"]
    clean = {name: value for name, value in os.environ.items() if name not in read_variables(COMPOSE.read_text())}
    bare = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
    assert bare.returncode != 0
    assert "deploy/env.example" in bare.stderr
    secrets = dict.fromkeys(SECRETS, "x" * 8)
    full = subprocess.run(command, capture_output=True, text=True, env=clean | secrets, check=True)
    services = json.loads(full.stdout)["services"]
    assert services.keys() == SERVICES.keys()
    hosts = {port["host_ip"] for service in services.values() for port in service.get("ports", [])}
    assert hosts == {"127.0.0.1"}


@pytest.mark.parametrize("name", SERVICES)
def test_memory_folders_can_be_written_after_a_restart_too(name: str) -> None:
    """A tmpfs takes the mode of the folder below it, which at a second start is root's unless the image has it."""
    lines = re.findall(r"^    tmpfs: (.*)$", SERVICES[name], re.MULTILINE)
    for mount in (mount for line in lines for mount in json.loads(line)):
        assert mount.startswith("/tmp:") or ",uid=" in mount
