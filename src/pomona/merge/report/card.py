"""The model card of a merge: README.md for people and the hub, pomona_merge.json for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona._version import __version__
from pomona.merge._plan import Plan
from pomona.merge.checkpoints.files import Tensors
from pomona.merge.engine.forecast import MergeResult
from pomona.merge.engine.streams import inputs_of

if TYPE_CHECKING:
    from pomona.merge.report.survey import Layers

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """A model as the card names it, and the files of it that are read."""

    name: str
    files: tuple[Path, ...]
    prepared: bool  # made for this merge from an adapter or a tokenizer


def sources_of(plan: Plan, work: Path) -> tuple[Source, ...]:
    """The models of a plan with the files that its jobs read, in the recipe's order. `work` is
    where tensors were prepared.
    """
    used: dict[tuple[str, Path], dict[Path, None]] = {}
    opened: dict[Path, Tensors] = {}
    for job in plan.jobs:
        for item in inputs_of(job):
            folder = plan.models[item.model]
            if folder not in opened:
                opened[folder] = Tensors(folder)
            used.setdefault((item.identity or folder.name, folder), {})[
                opened[folder].place(item.tensor).file
            ] = None
    return tuple(
        Source(name, tuple(sorted(files)), work in folder.parents)
        for (name, folder), files in sorted(used.items())
    )


def card_files(
    plan: Plan,
    title: str,
    sources: Sequence[Source],
    hashes: Mapping[Path, str],
    told: MergeResult,
    layers: Layers | None,
) -> dict[str, bytes]:
    """README.md and pomona_merge.json."""
    inputs = [
        {
            "model": source.name,
            "prepared": source.prepared,
            "files": [
                {"name": file.name, "bytes": file.stat().st_size, "sha256": hashes[file]}
                for file in source.files
            ],
        }
        for source in sources
    ]
    about: dict[str, Any] = {
        "signature": told.signature,
        "version": __version__,
        "seed": plan.seed,
        "recipe": plan.recipe,
        "inputs": inputs,
        "tensors": {"count": told.tensors, "by_method": told.methods},
        "parameters": told.parameters,
        "notes": list(plan.notes),
    }
    if layers is not None:
        about["report"] = {"of": layers.of, "measured": layers.share, "layers": layers.rows}
    readme = _readme(plan, title, inputs, told, layers)
    return {
        "README.md": readme.encode(),
        "pomona_merge.json": (
            json.dumps(about, indent=1, ensure_ascii=False, default=str) + "\n"
        ).encode(),
    }


def _readme(
    plan: Plan,
    title: str,
    inputs: Sequence[Mapping[str, Any]],
    told: MergeResult,
    layers: Layers | None,
) -> str:
    import yaml

    names = list(dict.fromkeys(source["model"] for source in inputs))
    hub = [name for name in names if _HUB_ID.fullmatch(name) and not Path(name).exists()]
    front = {
        **({"base_model": hub} if hub else {}),
        "library_name": "transformers",
        "tags": ["merge", "pomona"],
    }
    recipe = yaml.safe_dump(
        json.loads(json.dumps(plan.recipe, default=str)),
        sort_keys=False,
        allow_unicode=True,
        width=120,
    )
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", recipe)), default=0))
    counts = ", ".join(f"{count:,} {method}" for method, count in told.methods.items())
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        f"# {_plain(title)}",
        "",
        f"{told.parameters:,} parameters in {told.tensors:,} tensors ({counts}), merged by "
        f"Pomona {__version__} with seed {plan.seed}.",
        "",
        "## Recipe",
        f"{fence}yaml",
        recipe.rstrip(),
        fence,
        "",
        "## Inputs",
        "| model | file | bytes | SHA-256 |",
        "|---|---|--:|---|",
    ]
    for source in inputs:
        name = _plain(source["model"]) + (" (prepared)" if source["prepared"] else "")
        lines += [
            f"| {name} | {_plain(file['name'])} | {file['bytes']:,} | `{file['sha256']}` |"
            for file in source["files"]
        ]
    if plan.notes:
        lines += ["", "## Notes", *(f"- {_plain(note)}" for note in plan.notes)]
    if layers is not None:
        lines += ["", "`report.html` shows how the models differ, layer by layer."]
    return "\n".join([*lines, "", f"Signature: `{told.signature}`", ""])


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
