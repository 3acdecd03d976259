"""What the image promises."""

import re

from core.bundle import NOTICE
from core.settings import PROJECT

DOCKERFILE = (PROJECT / "deploy" / "Dockerfile").read_text()
IGNORED = (PROJECT / ".dockerignore").read_text().splitlines()


def test_packages_are_installed_by_hash() -> None:
    """An altered package must stop the build."""
    assert "--require-hashes --requirement constraints/light.txt" in DOCKERFILE
    for install in re.findall(r"pip --python \S+ (?:install|wheel)(?:.|\\\n)*?(?=\n[A-Z#\n])", DOCKERFILE):
        assert "--require-hashes" in install or "--no-deps" in install


def test_the_program_is_not_root() -> None:
    """By number, so that Kubernetes' runAsNonRoot can see it."""
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    assert DOCKERFILE.rindex("USER 10001") < DOCKERFILE.index("ENTRYPOINT")


def test_the_label_carries_the_notice() -> None:
    """Who finds the image without its documentation reads it there."""
    assert f'histobatch.intended-use="{NOTICE}"' in DOCKERFILE


def test_base_images_are_pinned_by_tag_and_name_no_host() -> None:
    """Whoever builds chooses the registry."""
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) - {"packages", "project"}
    assert bases == {"python:3.12-slim"}


def test_only_named_files_reach_the_build() -> None:
    """A list of what may enter cannot forget the .env, the data set or somebody's run folder."""
    lines = [line for line in IGNORED if line and not line.startswith("#")]
    assert lines[0] == "*"
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE))
    named = {line[1:] for line in lines if line.startswith("!")}
    assert {name for group in copied for name in group.split()} == named


def test_the_image_says_the_version_of_the_project() -> None:
    """A label that lies is worse than none."""
    version = re.search(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f'image.version="{version[1]}"' in DOCKERFILE
    assert f"image: histobatch:{version[1]}\n" in (PROJECT / "compose.yaml").read_text()
