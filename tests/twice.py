"""Run pytest, and what failed once more: `python -m tests.twice ARGUMENTS OF PYTEST`.

Many tests here kill, freeze and race real processes on machines with two cores; among three thousand, one that is too
sure of time shows itself only beside others. A few failures are therefore run again, alone. What fails again has
failed. What passes then is printed as FLAKY: it is a defect of the test or of the product, to be mended, and no reason
to refuse everybody's work.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_FAILED = 1
_CACHE = Path(".pytest_cache")
# More than this is no accident.
_FEW = 5


def main(arguments: Sequence[str]) -> int:
    """Return the status of the first run, or of the second where there was one."""
    last_failed = _CACHE / "v" / "cache" / "lastfailed"
    last_failed.unlink(missing_ok=True)
    cache = ("-o", f"cache_dir={_CACHE}")
    status = _pytest([*cache, *arguments])
    failed = sorted(json.loads(last_failed.read_text())) if last_failed.exists() else []
    # What cannot even be collected stands there by its file.
    if status != _FAILED or not 0 < len(failed) <= _FEW or not all("::" in name for name in failed):
        return status
    print(f"\n{len(failed)} failed; once more, alone:", flush=True)
    status = _pytest([*cache, *failed])
    if status == 0:
        print("\n".join(f"FLAKY {name}: failed beside others, passed alone" for name in failed), flush=True)
    return status


def _pytest(arguments: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
