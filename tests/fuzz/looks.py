"""What is done with an input, and what may come of it: it is used, or refused in one readable message."""

from __future__ import annotations

import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcxpcs.errors import HpcxpcsError, OldConfigurationWarning
from tests.fuzz import configurations, layouts

LONGEST = 30_000
"""Characters beyond which no message is read."""


def configuration(seed: int, folder: Path) -> str:
    """Read, validate, resolve, print and (when the data file is there) select the data of a configuration."""
    name, content = configurations.mutated(seed)
    path = folder / name
    path.write_bytes(content)
    return watched(lambda: _used(path), path)


def _used(path: Path) -> None:
    from hpcxpcs.cli.config import _summary, parameter_table
    from hpcxpcs.config import load_config, parameter_choices
    from hpcxpcs.config.load import config_from_mapping
    from hpcxpcs.data.select import load

    config = load_config(path)
    shown = [*_summary(config), *parameter_table(parameter_choices(config))]
    assert all(line.encode() for line in shown if line)
    again = config_from_mapping(config.to_mapping())
    assert again.to_mapping() == config.to_mapping(), "a configuration that is written is not read back"
    if config.data_file.name == "tiny.h5" and config.data_file.is_file():
        load(config).angle(0)


def hdf5(seed: int, folder: Path) -> str:
    """Detect, describe, select and read every matrix of a data file, and judge some."""
    path = folder / "mutated.h5"
    layouts.mutate(seed, path)
    verdicts = read_everything(path)
    if seed % 7 == 0:
        verdicts.append(watched(lambda: _judged(path), path))
    bad = [verdict for verdict in verdicts if verdict not in ("used", "refused")]
    return bad[0] if bad else "used" if verdicts[2] == "used" else "refused"


def read_everything(path: Path) -> list[str]:
    """The verdict of every look at a data file."""
    return [watched(lambda look=look: look(path), path) for look in LOOKS]  # type: ignore[misc]


def _described(path: Path) -> None:
    from hpcxpcs.cli.inspect import _lines
    from hpcxpcs.data.inspect import describe
    from hpcxpcs.files.json_safe import dumps

    found = describe(path)
    "\n".join(_lines(found)).encode()
    dumps({**vars(found)})


def _selected(path: Path) -> None:
    from hpcxpcs.data.inspect import describe

    describe(path, q=layouts.Q)


def _loaded(path: Path) -> None:
    from hpcxpcs.data.select import load
    from tests.data.stacks import config_for

    data = load(config_for(path, wavevector_q=layouts.Q))
    for k in range(min(data.n_phi, 8)):
        data.angle(k)
    data.picture(0)
    data.fingerprint()


def _truth(path: Path) -> None:
    from hpcxpcs.data.formats import read_truth

    read_truth(path)


def _judged(path: Path) -> None:
    from hpcxpcs.data.quality.report import examine
    from hpcxpcs.data.select import load
    from tests.data.stacks import config_for

    examine(load(config_for(path, wavevector_q=layouts.Q)), "standard", shear=False)


LOOKS: tuple[Callable[[Path], None], ...] = (_described, _selected, _loaded, _truth)


def hanging(seed: int, folder: Path) -> str:
    """Something that never ends for odd seeds: what the pool is for."""
    while seed % 2:
        time.sleep(1)
    return "used"


def dying(seed: int, folder: Path) -> str:
    """Something that takes the whole process with it for odd seeds."""
    if seed % 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return "used"


def watched(action: Callable[[], Any], path: Path) -> str:
    """`used`, `refused`, or what went wrong: a traceback, a message without the file, a warning of a library."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", OldConfigurationWarning)
        try:
            action()
            verdict = "used"
        except HpcxpcsError as error:
            verdict = unreadable(str(error), path) or "refused"
        except BaseException:
            return f"traceback: {traceback.format_exc()}"
    return f"warning: {told[0].message} ({told[0].filename}:{told[0].lineno})" if told else verdict


def unreadable(message: str, path: Path) -> str:
    """Why a message is no use to a reader, nothing if it is."""
    if str(path.parent) not in message:
        return f"nameless: {message}"
    if len(message) > LONGEST:
        return f"endless: {len(message)} characters: {message[:300]}"
    if any(mark in message for mark in ("Traceback", "object at 0x", "<class", "<built-in", "pydantic")):
        return f"internal: {message}"
    strange = [c for c in message if not c.isprintable() and c not in "\n"]
    return f"unprintable {strange[:3]}: {message[:2000]!r}" if strange else ""
