"""`python -m tests.acceptance.hooked HOOKS ARGUMENTS`: hpcxpcs with some of its calls interfered with.

HOOKS is a JSON object {"module:function": {...}} with, for each function (looked up in the module that calls it):
"pause": seconds before every call, unless the file "unless" is there; "kill": the number of the call at which the
process kills itself with SIGKILL; "note": a file that gets a line "PID PATH" per call, of the first path among its
arguments.
{"fsync": {"in": PART, "call": n, "errno": e}} lets the n-th fsync of a path that contains PART fail, and all after it.
Modules are changed when the program imports them, never earlier: it must choose its cores before JAX is there.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class Interfering(importlib.abc.MetaPathFinder):
    """Lets modules be imported as usual, then changes functions in them."""

    def __init__(self, hooks: dict[str, dict[str, Any]]) -> None:
        self.hooks: dict[str, dict[str, dict[str, Any]]] = {}
        for place, hook in hooks.items():
            module, _, name = place.partition(":")
            self.hooks.setdefault(module, {})[name] = hook

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.hooks:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            for name, hook in self.hooks[fullname].items():
                setattr(module, name, changed(getattr(module, name), hook))

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def changed(function: Callable[..., Any], hook: dict[str, Any]) -> Callable[..., Any]:
    """A function that waits, or kills its process, before it does what it should."""
    calls = itertools.count(1)

    def call(*arguments: Any, **keywords: Any) -> Any:
        if "note" in hook:
            path = next(argument for argument in arguments if isinstance(argument, Path))
            with Path(hook["note"]).open("a") as stream:
                stream.write(f"{os.getpid()} {path}\n")
        if next(calls) == hook.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if not Path(hook.get("unless", "")).is_file():
            time.sleep(hook.get("pause", 0.0))
        return function(*arguments, **keywords)

    return call


def failing_fsync(hook: dict[str, Any]) -> Callable[[int], None]:
    """An fsync that fails for some paths from some call on."""
    fsync, calls = os.fsync, itertools.count(1)

    def call(descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if hook["in"] in path and next(calls) >= hook["call"]:
            raise OSError(hook["errno"], os.strerror(hook["errno"]), path)
        fsync(descriptor)

    return call


def main() -> int:
    """Interfere, then run the command."""
    hooks = json.loads(sys.argv[1])
    if "fsync" in hooks:
        os.fsync = failing_fsync(hooks.pop("fsync"))  # type: ignore[assignment]
    sys.meta_path.insert(0, Interfering(hooks))
    from hpcxpcs.cli import main as command

    return command(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
