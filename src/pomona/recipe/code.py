"""The code that a step runs: the files that its module imports, itself or by others.

They are found in the source, so no list can forget one: imports inside functions count, those for
types alone do not, and of a lazy face (`pomona._lazy`) only the module that defines a name.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pomona.errors import PomonaError

PACKAGE = "pomona"
ROOT = Path(__file__).parents[2]
# What only shows results: a new colour on a page is no reason to train again.
SHOWN = ("pomona.pages", "pomona.merge.report", "pomona.merge.search.page", "pomona._version")
# Calls that take modules beside theirs by name, as text.
BY_NAME = ("Family", "import_module")


@cache
def code_key(module: str) -> str:
    """Hash of all the code behind a module, of this package or of a user; of what a user's module
    imports, that of this package counts. Raises PomonaError for an import that leads nowhere.
    """
    digest = hashlib.sha256()
    for name in sorted(reachable(module)):
        digest.update(name.encode() + b"\0" + _file(name).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def reachable(module: str) -> set[str]:
    """The modules of this package behind `module`, with itself and the packages around them."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name.startswith(SHOWN):
            continue
        seen.add(name)
        if name != PACKAGE:
            around = [name.rpartition(".")[0]] if _ours(name) else []
            waiting += [*around, *_imports(name)]
    return seen


@cache
def _file(module: str) -> Path:
    if not _ours(module):  # a step's own module, which has been imported by its name
        return Path(sys.modules[module].__file__ or "")
    path = ROOT / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        raise PomonaError("is imported, and is not there", where=file, remedy="mend the import")
    return file


def _is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_bytes())


@cache
def _imports(module: str) -> tuple[str, ...]:
    """What a module imports when it runs; a lazy face imports nothing by itself."""
    names: list[str] = []
    nodes = list(_running(_tree(module)))
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [item.name for item in node.names if _ours(item.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and _ours(node.module):
            for item in node.names:
                names += _named(node.module, item.name, item.asname or item.name, nodes)
    if any(isinstance(node, ast.Call) and _callee(node) in BY_NAME for node in nodes):
        names += _beside(module, nodes)
    return tuple(dict.fromkeys(names))


def _ours(name: str) -> bool:
    return name.partition(".")[0] == PACKAGE


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers see."""
    waiting = [tree]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
                continue
            waiting.append(node)
            yield node


def _named(package: str, name: str, alias: str, nodes: list[ast.AST]) -> list[str]:
    """The modules behind `from package import name as alias`."""
    inner = f"{package}.{name}"
    if not _is_module(inner):
        return [package, *([home] if (home := _face(package).get(name)) else [])]
    face = _face(inner)
    used = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == alias
    }
    return [inner, *(home for attribute, home in face.items() if attribute in used)]


@cache
def _face(package: str) -> dict[str, str]:
    """Where a lazy face finds each of its names; empty for other modules."""
    calls = [
        node.value
        for node in (_tree(package).body if package != PACKAGE else ())
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
    ]
    for call in calls:
        if _callee(call) == "lazily":
            homes: dict[str, str] = ast.literal_eval(call.args[1])
            return {name: f"{package}.{home}" for home in homes for name in homes[home].split()}
    return {}


def _callee(node: ast.Call) -> str:
    return getattr(node.func, "id", "") or getattr(node.func, "attr", "")


def _beside(module: str, nodes: list[ast.AST]) -> list[str]:
    """Modules in a module's folder that its texts name."""
    package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    names = [f"{package}.{text}" for text in texts if isinstance(text, str) and text.isidentifier()]
    return sorted(name for name in names if _is_module(name))
