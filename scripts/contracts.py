"""A contract for import-linter: rooms know each other by their faces.

A room is a folder below the package. Whatever imports from another room imports a package of it,
whose `__init__` says what is public, and never a module, whose names are private to the room.
Imports for type checkers count too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grimp
from importlinter import Contract, ContractCheck, fields, output
from importlinter.application import contract_utils


class FacesContract(Contract):
    """Options: `package`, the package whose folders are rooms; `ignore_imports` and
    `unmatched_ignore_imports_alerting` as elsewhere.
    """

    type_name = "faces"

    package: Any = fields.StringField()
    ignore_imports: Any = fields.SetField(subfield=fields.ImportExpressionField(), required=False)
    unmatched_ignore_imports_alerting: Any = fields.EnumField(
        contract_utils.AlertLevel, default=contract_utils.AlertLevel.ERROR
    )

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Look for imports of modules from outside of their room."""
        whole = grimp.build_graph(self.package)  # the given graph may lack what type checkers read
        contract_utils.remove_ignored_imports_and_report(
            graph=whole,
            ignore_imports=self.ignore_imports,
            unmatched_alerting=self.unmatched_ignore_imports_alerting,
        )
        packages = packages_of(self.package)
        reached = [
            (importer, imported, [line["line_number"] for line in lines])
            for importer in sorted(whole.modules)
            for imported in sorted(whole.find_modules_directly_imported_by(importer))
            if imported.count(".") > 1
            and imported not in packages
            and room_of(imported) != room_of(importer)
            and (lines := whole.get_import_details(importer=importer, imported=imported))
        ]
        return ContractCheck(kept=not reached, metadata={"reached": reached})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print the imports, each as `ignore_imports` would take it."""
        for importer, imported, lines in check.metadata["reached"]:
            where = ", ".join(f"l.{line}" for line in lines)
            output.print_error(f"{importer} -> {imported} ({where})", bold=False)
        output.new_line()


def room_of(module: str) -> str:
    """The folder below the package that a module is in, or its name where it is in none."""
    return module.split(".")[1] if "." in module else ""


def packages_of(package: str) -> set[str]:
    """The names of a package and those below it, as files say them."""
    import importlib

    root = Path(str(importlib.import_module(package).__file__)).parent
    return {
        ".".join((package, *file.parent.relative_to(root).parts))
        for file in root.rglob("__init__.py")
    }
