"""The floors of the house, and proof that each rule can fail."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import floors

PACKAGE_FOLDER = Path(__file__).parents[1] / "hpcxpcs"
RULES: list[Callable[[floors.Sources], Iterator[str]]] = [
    floors.floor_violations,
    floors.physics_violations,
    floors.jax_violations,
    floors.cycles,
    floors.private_violations,
    floors.size_violations,
    floors.name_violations,
    floors.docstring_violations,
    floors.pickle_violations,
]
DOC = '"""What this is."""\n'

BAD = {
    "a lower room imports a higher one": (
        floors.floor_violations,
        {"hpcxpcs.data.select": "from hpcxpcs.likelihood.cells import Cells", "hpcxpcs.likelihood.cells": ""},
    ),
    "an import inside a function counts": (
        floors.floor_violations,
        {"hpcxpcs.config.load": "def load():\n    import hpcxpcs.data.twotime", "hpcxpcs.data.twotime": ""},
    ),
    "a relative import counts": (
        floors.floor_violations,
        {"hpcxpcs.config.load": "from ..data import twotime", "hpcxpcs.data.twotime": ""},
    ),
    "neighbours on one floor do not import each other": (
        floors.floor_violations,
        {"hpcxpcs.data.select": "from hpcxpcs.physics import rates", "hpcxpcs.physics.rates": ""},
    ),
    "a type of a higher room is out of reach too": (
        floors.floor_violations,
        {"hpcxpcs.data.select": "if TYPE_CHECKING:\n    import hpcxpcs.cli.fit", "hpcxpcs.cli.fit": ""},
    ),
    "the public API is for users": (floors.floor_violations, {"hpcxpcs.cli.fit": "from hpcxpcs import load"}),
    "a new room needs a floor": (floors.floor_violations, {"hpcxpcs.attic.box": ""}),
    "physics with numpy": (floors.physics_violations, {"hpcxpcs.physics.rates": "import numpy as np"}),
    "physics with configuration": (
        floors.physics_violations,
        {"hpcxpcs.physics.model": "from hpcxpcs.config.schema import Config", "hpcxpcs.config.schema": ""},
    ),
    "a worker with jax": (floors.jax_violations, {"hpcxpcs.workers.machine": "from jax import numpy"}),
    "a worker with a room that imports jax": (
        floors.jax_violations,
        {"hpcxpcs.workers.machine": "from hpcxpcs.physics import rates", "hpcxpcs.physics.rates": ""},
    ),
    "a circle of two": (
        floors.cycles,
        {
            "hpcxpcs.data.select": "from hpcxpcs.data.twotime import TwoTime",
            "hpcxpcs.data.twotime": "def later():\n    from hpcxpcs.data import select",
        },
    ),
    "a circle through the room's own front door": (
        floors.cycles,
        {
            "hpcxpcs.data": "from hpcxpcs.data.select import load",
            "hpcxpcs.data.select": "from hpcxpcs.data import MASK",
        },
    ),
    "a private name is taken": (
        floors.private_violations,
        {"hpcxpcs.data.select": "from hpcxpcs.data.twotime import _cut", "hpcxpcs.data.twotime": ""},
    ),
    "a private name is reached through the module": (
        floors.private_violations,
        {
            "hpcxpcs.data.select": "from hpcxpcs.data import twotime\ntwotime._cut()",
            "hpcxpcs.data.twotime": "",
        },
    ),
    "a private name is reached through the full path": (
        floors.private_violations,
        {
            "hpcxpcs.data.select": "import hpcxpcs.data.twotime\nhpcxpcs.data.twotime._cut",
            "hpcxpcs.data.twotime": "",
        },
    ),
    "a module of 600 lines": (floors.size_violations, {"hpcxpcs.data.select": "x = 1\n" * 600}),
    "a function of 61 lines": (
        floors.size_violations,
        {"hpcxpcs.data.select": "def f():\n" + "    x = 1\n" * 60},
    ),
    "a module of all sorts": (floors.name_violations, {"hpcxpcs.data.hdf_utils": ""}),
    "a folder of all sorts": (floors.name_violations, {"hpcxpcs.core.select": ""}),
    "a module without docstring": (floors.docstring_violations, {"hpcxpcs.data.select": "x = 1"}),
    "a function without docstring": (
        floors.docstring_violations,
        {"hpcxpcs.data.select": DOC + "def cut():\n    return 1"},
    ),
    "a class without docstring": (
        floors.docstring_violations,
        {"hpcxpcs.data.select": DOC + "class Cut:\n    x = 1"},
    ),
    "a method without docstring": (
        floors.docstring_violations,
        {"hpcxpcs.data.select": DOC + f"class Cut:\n    {DOC}    def of(self):\n        return 1"},
    ),
    "pickle": (floors.pickle_violations, {"hpcxpcs.data.cache": "def f():\n    import pickle"}),
    "allow_pickle": (floors.pickle_violations, {"hpcxpcs.data.cache": "np.load(path, allow_pickle=True)"}),
    "allow_pickle by variable": (
        floors.pickle_violations,
        {"hpcxpcs.data.cache": "np.load(path, allow_pickle=yes)"},
    ),
}

GOOD = {
    "hpcxpcs": DOC + "__version__ = '1'\ndef __getattr__(name):\n    from hpcxpcs import pipeline\n    return pipeline",
    "hpcxpcs.cli.fit": DOC + "from hpcxpcs import __version__\nfrom hpcxpcs.pipeline import run",
    "hpcxpcs.pipeline": DOC + "from hpcxpcs.inference import point\npoint.fit()",
    "hpcxpcs.inference.point": DOC + "from hpcxpcs.physics.rates import rate\nimport numpy\nrate._x",
    "hpcxpcs.results.nlsq": DOC + "if TYPE_CHECKING:\n    from hpcxpcs.inference.point import PointFit",
    "hpcxpcs.physics.rates": DOC + "import jax.numpy as jnp\nimport math\ndef _inner():\n    return 1",
    "hpcxpcs.workers.machine": DOC + "import psutil\nnp.load(path, allow_pickle=False)",
}


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return floors.package_sources(PACKAGE_FOLDER)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_given_the_package_then_the_rule_holds(rule, sources):
    assert list(rule(sources)) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_given_a_tidy_package_then_the_rule_is_silent(rule):
    assert list(rule(GOOD)) == []


@pytest.mark.parametrize(("rule", "bad"), BAD.values(), ids=BAD.keys())
def test_given_a_bad_example_then_the_rule_complains(rule, bad):
    assert list(rule(bad))


def test_given_the_package_then_all_its_rooms_were_read(sources):
    folders = {path.parent.name for path in PACKAGE_FOLDER.glob("*/*.py")}
    assert folders <= {floors.room_of(module) for module in sources}
    assert "hpcxpcs.cli.doctor" in sources


def test_given_a_long_docstring_then_it_does_not_count_as_function_length():
    docstring = '    """' + "\n    words" * 80 + '\n    """\n'
    assert list(floors.size_violations({"hpcxpcs.data.select": f"def f():\n{docstring}    return 1"})) == []


def test_when_all_that_looks_after_processes_is_imported_then_jax_is_not(sources):
    modules = [module for module in sources if floors.room_of(module) in floors.WITHOUT_JAX]
    program = f"import sys, {', '.join(modules)}; print('jax' in sys.modules)"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "False"


def test_given_the_picture_in_the_readme_then_it_shows_every_room_and_no_other(sources):
    picture = (PACKAGE_FOLDER.parent / "README.md").read_text().split("```mermaid")[1].split("```")[0]
    drawn = set(re.findall(r'\["(\w+)(?:/|\.py) ', picture))
    assert drawn == {floors.room_of(module) for module in sources} - {"", "__main__"}


def test_given_the_picture_in_the_readme_then_its_arrows_are_the_imports_that_no_others_imply(sources):
    picture = (PACKAGE_FOLDER.parent / "README.md").read_text().split("```mermaid")[1].split("```")[0]
    arrows = re.findall(r"^ *(\w+)(?:\[.*?\])? --> (\w+)", picture, flags=re.MULTILINE)
    assert sorted(arrows) == sorted(floors.arrows(sources))
