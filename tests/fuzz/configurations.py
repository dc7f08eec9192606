"""Configurations with mistakes: every seed makes one file, the same one each time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hpcxpcs.config.parameters import MODEL_NAMES
from hpcxpcs.config.template import template

DIALECTS = Path(__file__).parents[1] / "config" / "dialects"
Path_ = tuple[Any, ...]
DEEPEST = 20

MINIMAL = """\
analysis_mode: {model}
experimental_data: {{file_path: tiny.h5}}
analyzer_parameters:
  dt: 0.1
  scattering: {{wavevector_q: 0.005}}
data_filtering: {{phi_ranges: [{{min: -10, max: 100}}]}}
initial_parameters:
  parameter_names: [{names}]
  values: [{values}]
parameter_space:
  bounds: [{{name: {first}, min: 150, max: 9.0e+4, prior: {{type: lognormal, median: 3000, sigma: 1}}}}]
optimization: {{method: nlsq, nlsq: {{multi_start: 2}}}}
"""
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, -(2**63), 2**64, 10**400, 0.0, -0.0, 1e-320, 1e308, -1e308, 0.1),
    *(
        float("nan"),
        float("inf"),
        -float("inf"),
        "",
        " ",
        "auto",
        "none",
        "null",
        "1e3",
        "1.0e400",
        "nan",
        "0x1F",
    ),
    *(
        "½",
        "１２",
        "a" * 5000,
        "\x00",
        "a\nb",
        "\ud800",
        "🦀",
        "../../etc",
        "/dev/zero",
        "/",
        "~",
        "~nobody",
        ".",
    ),
    *(
        [],
        {},
        [None],
        [[]],
        [[[[]]]],
        {"": ""},
        {"a": {"b": {}}},
        [1, "a", None],
        {"type": "normal"},
        {"min": 1},
    ),
    *(
        list(range(300)),
        {"file_path": 1},
        [{"name": "D0"}],
        {"name": []},
        "2026-11-20",
        "12:30:45",
        "0o17",
        "1_000",
    ),
    *(
        "static",
        "lognormal",
        "D0",
        {"type": "lognormal", "median": -1, "sigma": 0},
        "4 GiB",
        "-1 GiB",
        "1e99 TB",
    ),
)
TEXTS = (
    *(
        "\t",
        "\x00",
        "\ufeff",
        "\u2028",
        "\x85",
        "%YAML 1.9\n",
        "---\n",
        "...\n",
        "&a ",
        "*a ",
        "<<: *a\n",
        "!!python/object ",
    ),
    *(
        "!!binary ",
        "!!set ",
        "!x ",
        "? ",
        ": ",
        "- ",
        "|\n",
        ">\n",
        "'",
        '"',
        "{",
        "}",
        "[",
        "]",
        "#",
        "@",
        "`",
        "\\",
    ),
    *(
        "\r",
        "\r\n",
        "\n\n",
        "1e999",
        ".inf",
        ".nan",
        "~",
        "=",
        "0b1",
        "2001-01-01",
        "{{",
        "${HOME}",
        "\x1b[31m",
        "é",
    ),
)
ENCODINGS = ("utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252", "utf-7")


@cache
def originals() -> tuple[str, ...]:
    """Texts that are accepted: small ones of every model, templates, and both older programs' examples."""
    small = []
    for model in MODEL_NAMES:
        names = {"static": "D0, alpha, D_offset", "static_ref": "D0_ref, alpha_ref, D_offset_ref"}.get(model)
        text = MINIMAL.format(
            model=model, names=names or "", values="1000, 0.0, 0.0", first=(names or "D0").split(",")[0]
        )
        kept = text.splitlines()
        if names is None:
            kept = kept[: kept.index("initial_parameters:")] + kept[-1:]
        small.append("\n".join(kept) + "\n")
    whole = [template("laminar_flow"), template("two_component")]
    old = [path.read_text("utf-8") for path in sorted(DIALECTS.glob("*.yaml"))]
    return (*small * 6, *whole, *sorted(old, key=len)[:2] * 4, *old)


@cache
def plain(number: int) -> Any:
    return yaml.load(originals()[number], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def mutated(seed: int) -> tuple[str, bytes]:
    """The name and the bytes of the configuration of a seed."""
    draw = random.Random(f"configuration {seed}")
    number = draw.randrange(len(originals()))
    how = draw.choices((structure, text, encoded, bomb), (70, 22, 4, 4))[0]
    return how(number, draw)


def structure(number: int, draw: random.Random) -> tuple[str, bytes]:
    """Keys and values changed, then written as YAML or JSON."""
    data = json.loads(json.dumps(plain(number), default=str))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        draw.choice(CHANGES)(data, draw)
    as_json = json.dumps(data, default=str)
    if draw.random() < 0.6 or "\\ud8" in as_json:
        return "mutated.json", json.dumps(data, default=str, ensure_ascii=draw.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
    dumped = yaml.dump(data, Dumper=_Dumper, allow_unicode=True, default_flow_style=draw.choice((None, True, False)))
    return draw.choice(("mutated.yaml", "mutated.yml", "mutated")), dumped.encode("utf-8", "surrogatepass")


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes shared values twice instead of as aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def places(data: Any, here: Path_ = ()) -> Iterator[Path_]:
    """Paths of everything in nested mappings and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*here, key)
        if len(here) < DEEPEST:
            yield from places(value, (*here, key))


def _somewhere(data: Any, draw: random.Random) -> tuple[Any, Any] | None:
    found = list(places(data))
    if not found:
        return None
    path = draw.choice(found)
    for part in path[:-1]:
        data = data[part]
    return data, path[-1]


def replaced(data: Any, draw: random.Random) -> None:
    if place := _somewhere(data, draw):
        place[0][place[1]] = deepcopy(draw.choice(VALUES))


def retyped(data: Any, draw: random.Random) -> None:
    if place := _somewhere(data, draw):
        owner, key = place
        owner[key] = draw.choice((str, lambda v: [v], lambda v: {"value": v}, lambda v: [v, v], bool, repr))(owner[key])


def scaled(data: Any, draw: random.Random) -> None:
    numbers = [p for p in places(data) if isinstance(_at(data, p), int | float)]
    if numbers:
        path = draw.choice(numbers)
        owner = _at(data, path[:-1])
        with suppress(OverflowError):
            owner[path[-1]] = owner[path[-1]] * draw.choice((-1, 1e-30, 1e30, 10, 0.1, 1e9, 0))


def deleted(data: Any, draw: random.Random) -> None:
    if place := _somewhere(data, draw):
        del place[0][place[1]]


def misspelt(data: Any, draw: random.Random) -> None:
    place = _somewhere(data, draw)
    if place and isinstance(place[0], dict):
        owner, key = place
        value = owner.pop(key)
        name = str(key)
        at = draw.randrange(len(name) + 1)
        owner[draw.choice((name[:at] + name[at + 1 :], name[:at] + "x" + name[at:], name.upper(), name + " ", ""))] = (
            value
        )


def moved(data: Any, draw: random.Random) -> None:
    first, second = _somewhere(data, draw), _somewhere(data, draw)
    if first and second:
        second[0][second[1]] = json.loads(json.dumps(first[0][first[1]]))


def nested(data: Any, draw: random.Random) -> None:
    if place := _somewhere(data, draw):
        owner, key = place
        for _ in range(draw.choice((3, 30, 150))):
            owner[key] = draw.choice((lambda v: [v], lambda v: {"a": v}))(owner[key])


def crossed(data: Any, draw: random.Random) -> None:
    """A section of another configuration."""
    other = plain(draw.randrange(len(originals())))
    key = draw.choice(list(other))
    if isinstance(data, dict):
        data[key] = json.loads(json.dumps(other[key], default=str))


CHANGES: tuple[Callable[[Any, random.Random], None], ...] = (
    *(replaced,) * 5,
    *(retyped, scaled, deleted, misspelt, moved, nested, crossed),
)


def _at(data: Any, path: Path_) -> Any:
    for part in path:
        data = data[part]
    return data


def text(number: int, draw: random.Random) -> tuple[str, bytes]:
    """Characters and lines changed in the text itself."""
    lines = originals()[number].splitlines(keepends=True)
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(len(lines))
        line = lines[at]
        column = draw.randrange(len(line) + 1)
        lines[at] = draw.choice(
            (
                line[:column] + draw.choice(TEXTS) + line[column:],
                line[:column] + chr(draw.choice((draw.randrange(0xD800), draw.randrange(256)))) + line[column + 1 :],
                line + line,
                line[:column],
                "  " + line,
                line.lstrip(),
                line.replace(":", draw.choice(("", "::", ": -", ": &a", ": *a"))),
                "",
            )
        )
    name = draw.choice(("mutated.yaml", "mutated.yaml", "mutated.json"))
    return name, "".join(lines).encode("utf-8", "surrogatepass")


def encoded(number: int, draw: random.Random) -> tuple[str, bytes]:
    """Another encoding, spoiled bytes, cut text, or something that is no text."""
    whole = originals()[number].encode()
    at = draw.randrange(len(whole))
    return "mutated.yaml", draw.choice(
        (
            lambda: whole.decode().encode(draw.choice(ENCODINGS), "replace"),
            lambda: whole[:at] + bytes(draw.randrange(256) for _ in range(4)) + whole[at + 4 :],
            lambda: whole[:at],
            lambda: draw.randbytes(draw.choice((0, 1, 7, 300))),
            lambda: b"\x89HDF\r\n\x1a\n" + draw.randbytes(60),
            lambda: whole + b"\x00" * 50,
        )
    )()


def bomb(number: int, draw: random.Random) -> tuple[str, bytes]:
    """Small texts that stand for a lot: aliases of aliases, depth, width, circles."""
    levels, width = draw.choice((5, 9, 40)), draw.choice((9, 30))
    laughs = ["a0: &a0 [1, 2]"]
    laughs += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * width)}]" for k in range(1, levels)]
    deep = draw.choice((50, 400, 5000))
    merged = ["m0: &m0 {a: 1, b: 2}"]
    merged += [f"m{k}: &m{k} {{<<: [{', '.join([f'*m{k - 1}'] * 9)}]}}" for k in range(1, levels)]
    added = draw.choice(
        (
            "\n".join(laughs),
            "\n".join(merged),
            "x: " + "[" * deep + "]" * deep,
            "x: " + "{a: " * deep + "1" + "}" * deep,
            "x: &x [*x]",
            "x: &x {y: *x}",
            "&x x: *x",
            "? [a, b]\n: 1",
            "x: " + "9" * draw.choice((400, 5000, 20000)),
            "x: " + "1e" + "9" * 300,
            "".join(f"k{k}: {k}\n" for k in range(draw.choice((200, 3000)))),
            "x: |\n" + "  long\n" * 3000,
            "analysis_mode: static",
            "x: !!python/object/apply:os.system [true]",
        )
    )
    if draw.random() < 0.2:
        return "mutated.json", ("[" * deep + "]" * deep).encode()
    return "mutated.yaml", f"{originals()[number]}\n{added}\n".encode()
