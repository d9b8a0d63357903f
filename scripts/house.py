"""Count the house: size, files behind a job, long functions, circles. For this checkout or another.

    python scripts/house.py [CHECKOUT] [--behind JOB | --rooms]

Lines of code are counted after `ruff format` at 100 columns, without blank lines, comments and
docstrings, so that two checkouts are compared alike. The files behind a job are those that any
import reaches from its entry, imports inside functions included and type-only ones left out; a
package's `__init__` counts where it holds code. Circles are counted over every import, type-only
and inside functions included.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

COLUMNS = 100
LONG = 40


@dataclass
class Module:
    """One file: its code at 100 columns, and what it imports (names of modules of the package)."""

    name: str
    path: Path
    code: int = 0
    functions: list[tuple[str, int]] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    runtime: set[str] = field(default_factory=set)


@cache
def parsed(text: str) -> ast.Module:
    """The tree of a text; most files are laid out as they stand, and parsed once."""
    return ast.parse(text)


def formatted(paths: list[Path], root: Path) -> dict[Path, str]:
    """The files below `root` as `ruff format` lays them out at 100 columns."""
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "--isolated"]
    command += ["--line-length", str(COLUMNS)]
    with tempfile.TemporaryDirectory() as folder:
        copies = {path: Path(folder) / path.relative_to(root) for path in paths}
        for path, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            # What is laid out by hand would hide its size.
            text = re.sub(r" *# fmt: (skip|off|on)", "", path.read_text(encoding="utf-8"))
            copy.write_text(text, encoding="utf-8")
        subprocess.run([*command, folder], check=True)
        return {path: copy.read_text(encoding="utf-8") for path, copy in copies.items()}


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """The module and every statement in it; no expression holds one, and most nodes are those."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, part, ())


def docstring_lines(tree: ast.AST) -> set[int]:
    """Line numbers that docstrings take."""
    lines: set[int] = set()
    for node in statements(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
        ):
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                lines |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def code_lines(source: str, tree: ast.AST) -> set[int]:
    """Line numbers that hold code."""
    told, texts = docstring_lines(tree), source.splitlines()
    lines = {at for at, text in enumerate(texts, 1) if text.strip() and text.strip()[0] != "#"}
    # Other strings of several lines hold blank ones, and such as look like comments.
    if any('"""' in texts[at - 1] for at in lines - told):
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr):
                lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines - told


def imported(tree: ast.AST, known: set[str], *, types: bool) -> Iterator[str]:
    """Modules of the package that are imported anywhere in `tree`; `types` adds those under
    TYPE_CHECKING.
    """
    hidden: set[int] = set()
    if not types:
        for node in statements(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                hidden |= {id(inner) for child in node.body for inner in statements(child)}
    for node in statements(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def read(root: Path) -> dict[str, Module]:
    """Every module of the package below `root`/src."""
    source = root / "src"
    paths = sorted(source.rglob("*.py"))
    texts = formatted(paths, source)
    modules = {}
    gc.disable()  # trees are many small objects, and all of them stay
    for path in paths:
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = Module(name, path)
    for module in modules.values():
        tree = parsed(texts[module.path])
        lines = code_lines(texts[module.path], tree)
        module.code = len(lines)
        for node in statements(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                module.functions.append(
                    (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
                )
        module.imports = set(imported(tree, set(modules), types=True)) - {module.name}
        module.runtime = set(imported(tree, set(modules), types=False)) - {module.name}
    _follow_faces(modules)
    parsed.cache_clear()
    gc.enable()
    return modules


def _follow_faces(modules: dict[str, Module]) -> None:
    """A lazy face loads only the file that defines the name asked for, so an arrow to a face
    becomes one to that file.
    """
    faces = {m.name: homes for m in modules.values() if (homes := _homes(m, modules))}
    for module in modules.values():
        if module.name in faces:
            continue
        tree = parsed(module.path.read_text(encoding="utf-8"))
        for node in statements(tree):
            if isinstance(node, ast.ImportFrom) and node.module in faces:
                for alias in node.names:
                    home = faces[node.module].get(alias.name)
                    if home:
                        for kind in (module.imports, module.runtime):
                            if node.module in kind:
                                kind.add(home)
    for face in faces:
        for module in modules.values():
            module.imports.discard(face)
            module.runtime.discard(face)
        modules[face].imports.clear()
        modules[face].runtime.clear()


def _homes(module: Module, modules: dict[str, Module]) -> dict[str, str]:
    """Where each name of a lazy face is defined; empty for other modules."""
    text = module.path.read_text(encoding="utf-8")
    tree = parsed(text if "lazily" in text else "")
    if not any("lazily" in ast.dump(node) for node in tree.body):
        return {}
    homes = {}
    for node in statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                homes[alias.asname or alias.name] = inner if inner in modules else node.module
    return homes


def closure(modules: dict[str, Module], entries: Iterable[str]) -> set[str]:
    """Everything that the entries reach at run time."""
    seen: set[str] = set()
    waiting = [name for name in entries if name in modules]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += modules[name].runtime
    return {name for name in seen if modules[name].code}


def circles(modules: dict[str, Module]) -> list[list[str]]:
    """Groups of files that import each other in a loop (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(modules[name].imports):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for name in sorted(modules):
        if name not in index:
            visit(name)
    return found


# The entry of each job. Where a file has moved, the first of its names that is there counts.
JOBS = {
    "near-duplicates": ("pomona.data.duplicates.near", "pomona.data.duplicates._run"),
    "dedup by any method": ("pomona.data.duplicates.methods", "pomona.data.duplicates._run"),
    "merge": ("pomona.merge.engine.run",),
    "answer": ("pomona.sample.answering", "pomona.sample.batch"),
    "chrf": ("pomona.tasks.chrf",),
}


def report(modules: dict[str, Module]) -> dict[str, Any]:
    """The figures of a house."""
    sizes = [length for module in modules.values() for _, length in module.functions]
    found = {job: [n for n in names if n in modules] for job, names in JOBS.items()}
    return {
        "files": len(modules),
        "lines of code": sum(module.code for module in modules.values()),
        "median lines of code a file": statistics.median(m.code for m in modules.values()),
        "functions": len(sizes),
        f"functions over {LONG} lines, %": round(
            100 * sum(n > LONG for n in sizes) / len(sizes), 2
        ),
        "circles": circles(modules),
        "files behind": {job: len(closure(modules, names[:1])) for job, names in found.items()},
    }


def main() -> None:
    """Print the figures of the checkout named, or of this one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--behind", metavar="JOB", choices=JOBS, help="list the files behind a job")
    parser.add_argument("--rooms", action="store_true", help="lines and files of each room")
    options = parser.parse_args()
    modules = read(options.checkout)
    if options.behind:
        names = [name for name in JOBS[options.behind] if name in modules]
        print("\n".join(sorted(closure(modules, names[:1]))))
    elif options.rooms:
        rooms: dict[str, list[int]] = {}
        for module in modules.values():
            rooms.setdefault(".".join(module.name.split(".")[1:3]), []).append(module.code)
        for room, codes in sorted(rooms.items()):
            print(f"{sum(codes):6} lines {len(codes):4} files  {room}")
    else:
        print(json.dumps(report(modules), indent=1))


if __name__ == "__main__":
    main()
