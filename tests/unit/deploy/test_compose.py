"""What compose.yaml promises to whoever reviews the security of an installation."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from core.archive_file import read_archive_file
from core.bundle import NOTICE
from core.settings import PROJECT, Settings
from tests.unit.deploy.compose_text import COMPOSE, read_services, read_variables

SERVICES = read_services()
ONE_SHOT = {"migrate"}
STORES = {"redis", "postgres"}
MONITORS = {"prometheus", "grafana"}
PUBLISHED = {"api", "flower"} | MONITORS
SECRETS = {"REDIS_PASSWORD", "POSTGRES_PASSWORD", "API_TOKEN", "FLOWER_PASSWORD"}
# Compose asks for the variables of profiles that are not started, too: these are asked for by their containers.
LATER_SECRETS = {"GRAFANA_PASSWORD", "METRICS_TOKEN"}
# What only files beside compose.yaml ask for.
REMOTE = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "SSH_DIR"}


def test_the_stack_has_every_program_and_its_stores() -> None:
    """A program that is missing here would be missed by every rule below."""
    programs = {"migrate", "api", "worker-cpu", "worker-gpu", "beat", "flower"}
    assert set(SERVICES) == STORES | MONITORS | programs


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_and_by_few_services_only(name: str) -> None:
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


@pytest.mark.parametrize("name", sorted(set(SERVICES) - STORES - MONITORS))
def test_our_programs_run_the_one_image(name: str) -> None:
    """The image brings an unprivileged user and a health check; a service that overrides the user loses it."""
    assert "target: service" in SERVICES[name]
    assert "    user:" not in SERVICES[name]


@pytest.mark.parametrize("name", sorted(STORES | MONITORS))
def test_what_is_not_ours_is_pinned_by_tag_and_not_root(name: str) -> None:
    """An image without a tag is another one tomorrow."""
    (image,) = re.findall(r"^    image: (\S+)$", SERVICES[name], re.MULTILINE)
    assert re.fullmatch(r"[a-z/]+:v?\d[\d.]*", image)
    (user,) = re.findall(r"^    user: (\S+)$", SERVICES[name], re.MULTILINE)
    assert user.strip('"') not in {"root", "0"}


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
        assert f"HISTOBATCH_ROLE: {name.partition('-')[0]}\n" in body
    else:
        assert "    healthcheck:\n      " in body
        assert "test: [" in body


def test_secrets_must_be_set() -> None:
    """A stack with a default password is a stack with a known password."""
    variables = read_variables(COMPOSE.read_text())
    assert variables.keys() >= SECRETS
    for name in SECRETS:
        assert variables[name].startswith(":?")
    others = {name: rest for name, rest in variables.items() if name not in SECRETS | LATER_SECRETS}
    assert all(rest.startswith(":-") for rest in others.values())
    assert not any(word in name for name in others for word in ("PASSWORD", "TOKEN", "SECRET", "KEY"))


def test_the_example_names_every_variable_and_holds_no_secret() -> None:
    """Who copies the example must find all that can be set, and must fill the secrets in."""
    lines = (PROJECT / "deploy" / "env.example").read_text().splitlines()
    assigned = dict(line.lstrip("#").split("=", 1) for line in lines if re.match(r"#?[A-Z_]+=", line))
    assert assigned.keys() == read_variables(COMPOSE.read_text()).keys() | REMOTE
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert {name for name, value in assigned.items() if not value} == SECRETS | LATER_SECRETS | keys


def test_variables_of_programs_are_settings() -> None:
    """A misspelt HISTOBATCH_ variable would be ignored in silence."""
    text = COMPOSE.read_text() + "".join(path.read_text() for path in (PROJECT / "deploy").glob("Dockerfile*"))
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
    assert "      - uploads:/data:ro\n      - *images\n" in SERVICES["worker-cpu"]
    assert "      - uploads:/data\n      - *images\n" in SERVICES["api"]
    models = COMPOSE.read_text().split("x-models: &models\n")[1].split("\n\n")[0]
    assert "  read_only: true\n" in models
    assert [name for name, body in SERVICES.items() if "      - *models\n" in body] == [
        "api",
        "worker-cpu",
        "worker-gpu",
    ]
    assert [name for name, body in SERVICES.items() if "uploads:/data\n" in body] == ["api"]


def test_the_gpu_worker_starts_only_where_it_is_asked_for_and_reserves_one_gpu() -> None:
    """A host without a GPU must not fail over it; each GPU has a worker of its own, which keeps its engines."""
    assert [name for name, body in SERVICES.items() if "    profiles: [gpu]\n" in body] == ["worker-gpu"]
    body = SERVICES["worker-gpu"]
    assert 'devices: [{driver: nvidia, device_ids: ["${GPU:-0}"], capabilities: [gpu]}]' in body
    assert "      - uploads:/data:ro\n      - engines:/engines\n      - *images\n" in body


def test_work_starts_after_the_tables_are_there() -> None:
    """An old table under a new program is damage that no retry mends."""
    after = COMPOSE.read_text().split("x-after-migration: &after-migration\n")[1].split("\n\n")[0]
    assert "migrate: {condition: service_completed_successfully}" in after
    for name in ("api", "worker-cpu", "worker-gpu", "beat", "flower"):
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
    # Not asking for Grafana's password, either.
    assert services.keys() == {name for name, body in SERVICES.items() if "    profiles:" not in body}
    hosts = {port["host_ip"] for service in services.values() for port in service.get("ports", [])}
    assert hosts == {"127.0.0.1"}


@pytest.mark.parametrize("name", SERVICES)
def test_memory_folders_can_be_written_after_a_restart_too(name: str) -> None:
    """A tmpfs takes the mode of the folder below it, which at a second start is root's unless the image has it."""
    lines = re.findall(r"^    tmpfs: (.*)$", SERVICES[name], re.MULTILINE)
    for mount in (mount for line in lines for mount in json.loads(line)):
        assert mount.startswith("/tmp:") or ",uid=" in mount


def test_the_file_of_archives_comes_with_the_stack_and_is_valid() -> None:
    """A missing or faulty one would be an error from the first start on; it names no archive until someone adds one."""
    assert read_archive_file(PROJECT / "deploy" / "archives" / "archives.toml", Settings()) == []
    archives = COMPOSE.read_text().split("x-archives: &archives\n")[1].split("\n\n")[0]
    assert "  read_only: true\n" in archives
    for name in ("api", "worker-cpu", "worker-gpu"):
        assert "      - *archives\n" in SERVICES[name]


def test_the_file_for_webhooks_lets_workers_out_and_changes_nothing_else() -> None:
    """Whoever needs no webhook keeps workers without a way out."""
    text = (PROJECT / "deploy" / "compose.webhooks.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    way_out = "    networks: [inside, outside]"
    assert lines == ["services:", "  worker-cpu:", way_out, "  worker-gpu:", way_out]


def test_the_files_for_remote_storage_give_workers_a_way_and_credentials_and_nothing_else() -> None:
    """The API needs neither; whoever has no such archives keeps workers without a way out."""
    for name, given in {"s3": "    environment: *credentials", "sftp": "    volumes: [*ssh]"}.items():
        text = (PROJECT / "deploy" / f"compose.{name}.yaml").read_text()
        way_out = "    networks: [inside, outside]"
        expected = ["  worker-cpu:", given, way_out, "  worker-gpu:", given, way_out]
        assert text.split("services:\n")[1].splitlines() == expected
        variables = read_variables(text)
        assert variables
        assert all(rest.startswith(":?") for rest in variables.values())
    assert "  read_only: true\n" in (PROJECT / "deploy" / "compose.sftp.yaml").read_text()


def test_the_monitors_start_only_where_they_are_asked_for() -> None:
    """They are a convenience; a hospital has its own."""
    assert {name for name, body in SERVICES.items() if "    profiles: [monitoring]\n" in body} == MONITORS


def test_the_token_for_metrics_goes_through_a_file_in_memory() -> None:
    """A command line is everybody's to read, and the configuration is in the repository."""
    body = SERVICES["prometheus"]
    assert 'printf %s "$$METRICS_TOKEN" > /tmp/token\n' in body
    assert "credentials_file: /tmp/token" in (PROJECT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    command = body.split("command:\n")[1].split("ports:")[0]
    assert "${" not in command.replace("$${", "")


def test_grafana_lets_nobody_in_without_a_password_and_asks_nobody_outside() -> None:
    """Its default password is known to everyone, so it does not start without another."""
    body = SERVICES["grafana"]
    assert '        : "$${GF_SECURITY_ADMIN_PASSWORD:?set GRAFANA_PASSWORD, see deploy/env.example}"\n' in body
    for line in (
        'GF_AUTH_ANONYMOUS_ENABLED: "false"',
        'GF_USERS_ALLOW_SIGN_UP: "false"',
        'GF_ANALYTICS_REPORTING_ENABLED: "false"',
        'GF_ANALYTICS_CHECK_FOR_UPDATES: "false"',
        'GF_SNAPSHOTS_EXTERNAL_ENABLED: "false"',
    ):
        assert f"      {line}\n" in body


def test_the_dashboard_reads_the_source_that_is_provisioned_and_carries_the_notice() -> None:
    """A panel of another source stays empty; the metrics it asks for are compared with the API's own elsewhere."""
    folder = PROJECT / "deploy" / "grafana"
    source = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    dashboard = json.loads((folder / "dashboards" / "histobatch.json").read_text())
    asking = [panel for panel in dashboard["panels"] if panel.get("targets")]
    assert len(asking) > 10
    assert {panel["datasource"]["uid"] for panel in asking} == {source["uid"]}
    assert any(NOTICE in panel.get("options", {}).get("content", "") for panel in dashboard["panels"])
    assert source["url"] == "http://prometheus:9090"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_prometheus_asks_the_port_at_which_the_api_listens() -> None:
    """Two files say it."""
    configuration = yaml.safe_load((PROJECT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (target,) = configuration["scrape_configs"][0]["static_configs"][0]["targets"]
    name, _, port = target.partition(":")
    assert f'HISTOBATCH_API_PORT: "{port}"\n' in SERVICES[name]


@pytest.mark.parametrize(
    "file", [COMPOSE, *sorted((PROJECT / "deploy").glob("compose.*.yaml"))], ids=lambda path: path.name
)
def test_nothing_is_said_twice(file: Path) -> None:
    """YAML's readers differ on which of two equal names counts; compose refuses the file."""

    def refuse(node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            names = [name.value for name, _ in node.value]
            assert len(names) == len(set(names)), names
            for _, value in node.value:
                refuse(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                refuse(value)

    refuse(yaml.compose(file.read_text()))
