"""Commands that work on the database itself, run in the tests' process."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.main import main
from core.database import Database


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], sqlite_url: str, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run a command on a database of its own; its exit status, its standard output, and what it said of errors."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("HISTOBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("HISTOBATCH_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: object, answer: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["histobatch", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        sys.stdout.flush()
        output, said = (stream.decode() for stream in capfdbinary.readouterr())
        return (1, output, f"{said}{code}") if isinstance(code, str) else (int(code or 0), output, said)

    return run


@pytest.fixture
def database(sqlite: Database) -> Database:
    """The command's database: what it does to rows does not depend on which it is."""
    return sqlite
