"""Code in a process of its own: what is decided at import, or by the environment."""

import os
import subprocess
import sys


def in_a_new_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
