"""scripts/supply-chain: a bill of materials without a network, and no silence taken for an all-clear."""

import importlib.util
import json
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from core.settings import PROJECT


@pytest.fixture(scope="module")
def supply_chain() -> ModuleType:
    """The script as a module."""
    loader = SourceFileLoader("supply_chain", str(PROJECT / "scripts" / "supply-chain"))
    spec = importlib.util.spec_from_loader("supply_chain", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    was = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    sys.dont_write_bytecode = was
    return module


def test_what_was_not_asked_is_no_all_clear(supply_chain: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """pip-audit skips what its service does not answer about, and ends with 0; this says so and ends with 3."""
    clean, skipped = {"name": "a", "vulns": []}, {"name": "b", "skip_reason": "not found"}
    assert supply_chain.judge("light", [clean]) == 0
    assert supply_chain.judge("light", [clean, skipped]) == 3
    assert "NOT AUDITED" in capsys.readouterr().err
    assert supply_chain.judge("light", []) == 3
    assert supply_chain.judge("light", [skipped, {"name": "c", "vulns": [{"id": "CVE-2026-1"}]}]) == 1
    assert "c has CVE-2026-1" in capsys.readouterr().out


def test_the_bill_names_every_pinned_package_with_its_hashes(supply_chain: ModuleType, tmp_path: Path) -> None:
    """Written from the constraint file alone; needs the tools, which the script installs, and no network."""
    if not (supply_chain.TOOLS / "cyclonedx-py").is_file():
        pytest.skip("run scripts/supply-chain once: its tools are not installed here")
    pins = supply_chain.constraints("light")
    supply_chain.write_bill(pins, tmp_path / "bill.json")
    bill = json.loads((tmp_path / "bill.json").read_text())
    pinned = re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==", pins.read_text(), re.MULTILINE)
    assert bill["bomFormat"] == "CycloneDX"
    assert sorted(one["name"] for one in bill["components"]) == sorted(pinned)
    assert all(any(link.get("hashes") for link in one["externalReferences"]) for one in bill["components"])
