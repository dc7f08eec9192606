"""The rules of the house as functions over {module name: source}, to be tried on bad examples too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "hpcxpcs"
FLOORS = {
    "arrays": 0,
    "errors": 0,
    "files": 1,
    "config": 2,
    "runs": 2,
    "answer": 3,
    "physics": 3,
    "data": 3,
    "log": 3,
    "likelihood": 4,
    "frames": 4,
    "batch": 4,
    "workers": 5,
    "inference": 5,
    "results": 5,
    "g2": 6,
    "pipeline": 7,
    "cli": 8,
    "__main__": 9,
    "": 9,  # the package itself: version and the lazy public API
}
PHYSICS_MAY_IMPORT = {"jax"}
WITHOUT_JAX = {"runs", "log", "workers", "batch"}
MAY_NOT_IMPORT = {"jax", "jaxlib", "numpyro", "nlsq"}
MAY_NOT_REACH = {"physics", "likelihood", "inference"}
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
EMPTY_WORDS = {"util", "utils", "helper", "helpers", "manager", "handler", "engine", "core"}
MODULE_LINES = 600
FUNCTION_LINES = 60

Sources = Mapping[str, str]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is a full module path, `name` what is taken from it ("" for the module)."""

    target: str
    name: str
    line: int
    typing_only: bool


def package_sources(folder: Path) -> dict[str, str]:
    """Read {module name: source} of all modules under the folder of the package."""
    sources = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [PACKAGE, *path.relative_to(folder).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        sources[".".join(parts)] = path.read_text()
    return sources


def room_of(module: str) -> str:
    """Return the room of a module: the first word below the package, "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports_of(module: str, sources: Sources) -> Iterator[Import]:
    """Yield every import of a module, also those inside functions; relative ones are made absolute."""
    tree = ast.parse(sources[module])
    guarded = _typing_only_nodes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", node.lineno, node in guarded)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node, sources)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                target, name = (inner, "") if inner in sources else (base, alias.name)
                yield Import(target, name, node.lineno, node in guarded)


def _absolute(module: str, node: ast.ImportFrom, sources: Sources) -> str:
    if not node.level:
        return node.module or ""
    is_package = any(other.startswith(f"{module}.") for other in sources)
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _typing_only_nodes(tree: ast.Module) -> set[ast.AST]:
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def floor_violations(sources: Sources) -> Iterator[str]:
    """Rooms import lower rooms or themselves; neighbours on one floor may be named in annotations only."""
    for module in sources:
        room = room_of(module)
        if room not in FLOORS:
            yield f"{module}: the room '{room}' has no floor"
            continue
        for found in imports_of(module, sources):
            if not _is_ours(found.target) or room_of(found.target) == room:
                continue
            if found.target == PACKAGE:
                if found.name != "__version__":
                    yield f"{module}:{found.line}: only __version__ may be taken from {PACKAGE}"
                continue
            above = FLOORS.get(room_of(found.target), 99) - FLOORS[room]
            if above > 0 or (above == 0 and not found.typing_only):
                yield f"{module}:{found.line}: imports {found.target}, which is not on a lower floor"


def _is_ours(target: str) -> bool:
    return target == PACKAGE or target.startswith(f"{PACKAGE}.")


def physics_violations(sources: Sources) -> Iterator[str]:
    """physics imports JAX, the standard library and itself."""
    for module in sources:
        if room_of(module) != "physics":
            continue
        for found in imports_of(module, sources):
            top = found.target.split(".")[0]
            allowed = top in PHYSICS_MAY_IMPORT or top in sys.stdlib_module_names
            if not allowed and not (_is_ours(found.target) and room_of(found.target) == "physics"):
                yield f"{module}:{found.line}: physics imports {found.target}"


def jax_violations(sources: Sources) -> Iterator[str]:
    """What runs and looks after processes imports no JAX, and no room that does."""
    for module in sources:
        if room_of(module) not in WITHOUT_JAX:
            continue
        for found in imports_of(module, sources):
            top = found.target.split(".")[0]
            if top in MAY_NOT_IMPORT or (top == PACKAGE and room_of(found.target) in MAY_NOT_REACH):
                yield f"{module}:{found.line}: imports {found.target}"


def arrows(sources: Sources) -> set[tuple[str, str]]:
    """Which room imports which, without what follows from the others."""
    direct: dict[str, set[str]] = {}
    for module in sources:
        room = room_of(module)
        if FLOORS.get(room, 9) < FLOORS["__main__"]:
            targets = {room_of(found.target) for found in imports_of(module, sources) if _is_ours(found.target)}
            direct.setdefault(room, set()).update(targets - {"", room})
    below: dict[str, set[str]] = {}
    for room in sorted(direct, key=FLOORS.__getitem__):
        below[room] = direct[room].union(*(below[target] for target in direct[room]))
    return {
        (room, target)
        for room, targets in direct.items()
        for target in targets
        if not any(target in below[other] for other in targets)
    }


def cycles(sources: Sources) -> Iterator[str]:
    """Modules do not import each other in a circle (the package itself imports lazily and is left out)."""
    graph = {
        module: sorted(
            {
                found.target
                for found in imports_of(module, sources)
                if found.target in sources and found.target != PACKAGE and not found.typing_only
            }
        )
        for module in sources
        if module != PACKAGE
    }
    done: set[str] = set()
    for start in graph:
        yield from _cycles_from(start, graph, [], done)


def _cycles_from(module: str, graph: Mapping[str, list[str]], path: list[str], done: set[str]) -> Iterator[str]:
    if module in path:
        yield " -> ".join([*path[path.index(module) :], module])
    elif module not in done:
        for target in graph[module]:
            yield from _cycles_from(target, graph, [*path, module], done)
        done.add(module)


def private_violations(sources: Sources) -> Iterator[str]:
    """No module uses another module's names that begin with an underscore."""
    for module in sources:
        aliases: set[str] = set()
        for found in imports_of(module, sources):
            if _is_ours(found.target) and _is_private(found.name):
                yield f"{module}:{found.line}: takes {found.name} from {found.target}"
        tree = ast.parse(sources[module])
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                aliases |= _module_aliases(node, module, sources)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and _is_private(node.attr):
                owner = ast.unparse(node.value)
                if owner in aliases or owner in sources:
                    yield f"{module}:{node.lineno}: uses {owner}.{node.attr}"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def _module_aliases(node: ast.Import | ast.ImportFrom, module: str, sources: Sources) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.asname for alias in node.names if alias.asname and _is_ours(alias.name)}
    base = _absolute(module, node, sources)
    return {alias.asname or alias.name for alias in node.names if f"{base}.{alias.name}" in sources}


def size_violations(sources: Sources) -> Iterator[str]:
    """Modules stay under 600 lines, functions at or under 60 (docstring not counted)."""
    for module, source in sources.items():
        lines = len(source.splitlines())
        if lines >= MODULE_LINES:
            yield f"{module}: {lines} lines"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, Function) and function_lines(node) > FUNCTION_LINES:
                yield f"{module}:{node.lineno}: {node.name} has {function_lines(node)} lines"


def function_lines(node: Function) -> int:
    """Count the lines of a function from `def` to its end, without its docstring."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def name_violations(sources: Sources) -> Iterator[str]:
    """Module names are domain words."""
    for module in sources:
        empty = {word for part in module.split(".") for word in part.split("_")} & EMPTY_WORDS
        if empty:
            yield f"{module}: '{min(empty)}' says nothing about what is inside"


def docstring_violations(sources: Sources) -> Iterator[str]:
    """Every module, public class, function and method says what it is; bare declarations (`...`) need not."""
    for module, source in sources.items():
        tree = ast.parse(source)
        if not ast.get_docstring(tree):
            yield f"{module}: no module docstring"
        for owner, node in _public_definitions(tree):
            if not ast.get_docstring(node) and not _is_declaration(node):
                yield f"{module}:{node.lineno}: {owner}{node.name} has no docstring"


def _is_declaration(node: Function | ast.ClassDef) -> bool:
    return isinstance(node, Function) and [ast.unparse(statement) for statement in node.body] == ["..."]


def _public_definitions(tree: ast.Module) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield "", node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, Function) and not inner.name.startswith("_"):
                        yield f"{node.name}.", inner


def pickle_violations(sources: Sources) -> Iterator[str]:
    """Nothing is unpickled: data files must not be able to run code."""
    for module, source in sources.items():
        for found in imports_of(module, sources):
            if found.target.split(".")[0] in UNSAFE_MODULES:
                yield f"{module}:{found.line}: imports {found.target}"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not _is_false(node.value):
                yield f"{module}:{node.value.lineno}: allow_pickle is not False"


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False
