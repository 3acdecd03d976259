"""What the images promise."""

import re

import pytest

from core.bundle import NOTICE
from core.settings import PROJECT

DOCKERFILES = {path.name: path.read_text() for path in sorted((PROJECT / "deploy").glob("Dockerfile*"))}
IGNORED = (PROJECT / ".dockerignore").read_text().splitlines()
each = pytest.mark.parametrize("name", DOCKERFILES)


def test_every_program_has_its_image() -> None:
    """An image that is missing here would be missed by every rule below."""
    assert set(DOCKERFILES) == {"Dockerfile", "Dockerfile.gpu", "Dockerfile.trainer"}


@each
def test_packages_are_installed_by_hash(name: str) -> None:
    """An altered package must stop the build."""
    text = DOCKERFILES[name]
    wanted = {"trainer"} if name == "Dockerfile.trainer" else {"light", "remote"}
    assert wanted <= set(re.findall(r"--require-hashes --requirement constraints/([\w-]+)\.txt", text))
    installs = re.findall(r"pip --python \S+ (?:install|wheel)(?:.|\\\n)*?(?=\n[A-Z#\n]| && )", text)
    assert len(installs) >= len(wanted) + 2
    for install in installs:
        assert "--require-hashes" in install or "--no-deps" in install


def test_the_pins_of_all_images_are_those_that_were_tested() -> None:
    """test.txt is what the tests run with; a version that only an image has was never seen to work."""
    pins = {
        part: set(
            re.findall(r"^([\w.-]+==[^ ;\\\n]+)", (PROJECT / "constraints" / f"{part}.txt").read_text(), re.MULTILINE)
        )
        for part in ("test", "light", "remote", "trainer")
    }
    assert pins["light"] | pins["remote"] | pins["trainer"] <= pins["test"]
    assert any(pin.startswith("s3fs==") for pin in pins["remote"])
    assert any(pin.startswith("sshfs==") for pin in pins["remote"])


@each
def test_the_program_is_not_root(name: str) -> None:
    """By number, so that Kubernetes' runAsNonRoot can see it."""
    text = DOCKERFILES[name]
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert text.rindex("USER 10001") < text.index("ENTRYPOINT")


@each
def test_the_label_carries_the_notice(name: str) -> None:
    """Who finds the image without its documentation reads it there."""
    assert f'histobatch.intended-use="{NOTICE}"' in DOCKERFILES[name]


@each
def test_a_service_has_a_health_check_and_a_command_says_that_it_has_none(name: str) -> None:
    """An image that is silent about it takes its base image's check, which knows nothing of us."""
    expected = "HEALTHCHECK NONE\n" if name == "Dockerfile.trainer" else "HEALTHCHECK --interval="
    assert f"\n{expected}" in DOCKERFILES[name]


def test_base_images_are_pinned_by_tag_and_name_no_host() -> None:
    """Whoever builds chooses the registry."""
    for name in ("Dockerfile", "Dockerfile.trainer"):
        bases = set(re.findall(r"^FROM (\S+)", DOCKERFILES[name], re.MULTILINE)) - {"packages", "project"}
        assert bases == {"python:3.12-slim"}
    gpu = DOCKERFILES["Dockerfile.gpu"]
    assert set(re.findall(r"^FROM (\S+)", gpu, re.MULTILINE)) == {"${GPU_BASE}", "packages"}
    (base,) = re.findall(r"^ARG GPU_BASE=(\S+)$", gpu, re.MULTILINE)
    assert re.fullmatch(r"nvidia/tensorrt:\d\d\.\d\d-py3", base)
    assert f"${{GPU_BASE:-{base}}}" in (PROJECT / "compose.yaml").read_text()


def test_only_named_files_reach_the_build() -> None:
    """A list of what may enter cannot forget the .env, the data set or somebody's run folder."""
    lines = [line for line in IGNORED if line and not line.startswith("#")]
    assert lines[0] == "*"
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", "\n".join(DOCKERFILES.values()), re.MULTILINE))
    named = {line[1:] for line in lines if line.startswith("!")}
    assert {name for group in copied for name in group.split()} == named


@each
def test_the_image_says_the_version_of_the_project(name: str) -> None:
    """A label that lies is worse than none."""
    text = DOCKERFILES[name]
    version = re.search(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f'image.version="{version[1]}"' in text
    for image in ("histobatch", "histobatch-gpu"):
        assert f"image: {image}:{version[1]}\n" in (PROJECT / "compose.yaml").read_text()
