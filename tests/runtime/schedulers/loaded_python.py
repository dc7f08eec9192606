"""Starts a function of submitit with its clock at zero when Python has loaded, which takes long on a busy machine.

It takes the place of `python` in `python -u -m submitit.core._submit FOLDER`, so that short walltimes hold no imports.
"""

from __future__ import annotations

import os
import runpy
import shlex
import sys
import time
from pathlib import Path

COMMAND = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).absolute()))}"

if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())  # as -m does
    import submitit.local.test_local

    assert submitit.local.test_local and sys.argv[1:3] == ["-u", "-m"]
    os.environ["SUBMITIT_PBS_STARTED"] = repr(time.time())
    sys.argv = sys.argv[3:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
