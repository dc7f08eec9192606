"""The page on errors tells the truth about hpcxpcs.errors, and nothing swallows what it does not understand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from hpcxpcs import errors
from hpcxpcs.errors import AlreadyComplete, DataError, HpcxpcsError, readable
from tests.floors import package_sources

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "hpcxpcs" / "ERRORS.md").read_text("utf-8")
CLASSES = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
SOURCES = package_sources(ROOT / "hpcxpcs")
BROAD = {"Exception", "BaseException", "HpcxpcsError"}
SWALLOWED = {
    (
        "hpcxpcs.pipeline.compile_cache",
        "_decompresses",
    ): "two packages, each with its own error class: not whole",
    ("hpcxpcs.log.lines", "emit"): "a record that cannot be written must not end the work",
    ("hpcxpcs.log.lines", "_message"): "a text that does not fit its values is logged as it is",
    ("hpcxpcs.log.lines", "_safe"): "what an object of a library says of itself is logged",
    ("hpcxpcs.runs.status", "look"): "progress that cannot be read now is read a moment later",
    (
        "hpcxpcs.batch.submissions",
        "queue_look",
    ): "who may not write the cache of answers asks each time",
}
"""Where a broad `except` keeps nothing of the error, and why that is right."""


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its first two lines."""
    table = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_the_table_names_exactly_the_classes_with_their_base_and_exit_code():
    told = {names(row[0])[0]: (names(row[1])[0], row[2]) for row in rows("The classes")}
    true = {name: (kind.__base__.__name__, str(getattr(kind, "exit_code", 0))) for name, kind in CLASSES.items()}
    true["AlreadyComplete"] = ("HpcxpcsError", "that of the run")
    assert told == true


def test_every_row_says_when_and_what_to_do():
    assert all(len(row) == 5 and all(row) for row in rows("The classes"))


def test_every_published_exception_leads_to_a_class_that_exists_or_to_a_status():
    published = rows("Exceptions of the published packages")
    assert len(published) > 20
    for *_, there, here in published:
        assert there and (names(here) or here.startswith(("status", "not raised"))), here
        assert set(names(here)) <= set(CLASSES), here


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"HpcxpcsError", "OldConfigurationWarning"}))
def test_every_class_is_raised_somewhere(name):
    made = [
        node
        for source in SOURCES.values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]
    assert made


def test_the_warning_is_given_somewhere():
    assert any("OldConfigurationWarning, stacklevel" in source for source in SOURCES.values())


def test_exit_codes_are_those_of_the_readme():
    section = (ROOT / "docs" / "outputs.md").read_text("utf-8").split("## Exit codes")[1].split("\n#")[0]
    known = {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}
    assert known == {
        0,
        3,
        130,
        *(kind.exit_code for kind in CLASSES.values() if issubclass(kind, HpcxpcsError)),
    }


def handlers(source: str):
    """Every broad `except` and `suppress`: the innermost function, and whether it keeps the error."""

    def walk(node: ast.AST, function: str):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if isinstance(node, ast.ExceptHandler) and caught(node.type) & BROAD:
            uses = any(isinstance(n, ast.Name) and n.id == node.name for item in node.body for n in ast.walk(item))
            raises = any(isinstance(n, ast.Raise) for item in node.body for n in ast.walk(item))
            yield function, bool(node.name and uses) or raises
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "suppress":
            yield from ((function, False) for argument in node.args if caught(argument) & BROAD)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    yield from walk(ast.parse(source), "")


def caught(node: ast.expr | None) -> set[str]:
    if node is None:
        return {"BaseException"}
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def test_nothing_swallows_errors_that_it_does_not_understand():
    found = {
        (module, function) for module, source in SOURCES.items() for function, keeps in handlers(source) if not keeps
    }
    assert found == set(SWALLOWED)


@pytest.mark.parametrize(
    "swallowing",
    [
        "def f():\n try: g()\n except Exception: pass",
        "def f():\n try: g()\n except: return None",
        "def f():\n try: g()\n except (OSError, BaseException) as error: return 0",
        "def f():\n with suppress(Exception): g()",
        "def f():\n for x in y:\n  try: g()\n  except HpcxpcsError: continue",
    ],
)
def test_a_handler_that_swallows_is_found(swallowing):
    assert list(handlers(swallowing)) == [("f", False)]


@pytest.mark.parametrize(
    "honest",
    [
        "def f():\n try: g()\n except Exception as error: tell(error)",
        "def f():\n try: g()\n except Exception: raise Other from None",
    ],
)
def test_a_handler_that_tells_is_not(honest):
    assert list(handlers(honest)) == [("f", True)]


def test_given_what_controls_a_terminal_then_a_message_shows_it_instead():
    assert str(DataError("a\x1b[2Jb\x00\ud800ü…\nsecond")) == "a\\x1b[2Jb\\x00\\ud800ü…\nsecond"


def test_given_a_line_that_nobody_reads_then_its_middle_is_left_out():
    shown = readable("begin" + "x" * 100_000 + "end\nshort")
    assert shown.startswith("begin") and shown.endswith("end\nshort") and len(shown) < 2100


def test_given_a_finished_run_then_its_own_exit_code_is_returned():
    assert AlreadyComplete("done", 3).exit_code == 3
