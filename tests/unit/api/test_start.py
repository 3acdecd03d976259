"""The app starts light."""

import subprocess
import sys

from core.settings import PROJECT


def test_making_the_app_loads_no_engine_and_connects_to_nothing() -> None:
    """Neither torch nor openvino is imported, and unreachable parts do not keep the app from being made."""
    program = (
        "import sys; from api.app import create_app; from core.settings import Settings;"
        "create_app(Settings(database_url='postgresql://nowhere.invalid/x', redis_url='redis://:p@nowhere.invalid'));"
        "print(sorted({'torch', 'openvino', 'tensorrt', 'nncf'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT, timeout=120
    )
    assert done.stdout.strip() == "[]"
