"""What is special about a model (adapter, tokenizer, other names) is settled before a merge, so
that the merge sees plain tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pomona.merge.checkpoints.view import View


@dataclass(frozen=True)
class Source:
    """One model of a recipe: its checkpoint folder and, for `PATH+LORA`, the adapter's folder."""

    folder: Path
    adapter: Path | None = None
    merged: bool = True  # False: only its tokenizer is asked for (`tokenizer_source: MODEL`)


@dataclass(frozen=True)
class Prepared:
    """Where every tensor of every model is read, and what the result takes from the preparation.

    views: by the recipe's name of the model, only the merged ones; all a planner needs: `names`,
        `info(name)`, `locate(name)`.
    tokenizer: folder with the result's tokenizer files; None: take them as for any merge. In a dry
        run it may not exist yet.
    config: changes to config.json of the result, by dotted key, e.g. {"vocab_size": 1003} or
        {"text_config.vocab_size": 1003}.
    special_ids: what generation_config.json of the result says of special tokens, where the
        tokenizer is another model's than its own.
    frame: with a key map, the model whose names, config.json and other files the result has (it may
        not be the base); architectures are not compared then. None without a key map.
    copied: with a key map, the tensors only the frame has: the result takes them from the frame as
        they are (method "copy").
    rows: tensors of which only the first so many rows are merged, the others copied from the frame
        (options "rows" and "rows_from" of the job, see pomona.merge.engine.rows); all views show
        these tensors with all rows.
    written: bytes this preparation writes to the working folder (also in a dry run).
    """

    views: Mapping[str, View]
    tokenizer: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    special_ids: Mapping[str, Any] = field(default_factory=dict)
    frame: str | None = None
    copied: frozenset[str] = frozenset()
    rows: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    written: int = 0


def prepare(
    sources: Mapping[str, Source],
    work: Path,
    *,
    base: str | None = None,
    tokenizer: Mapping[str, Any] | None = None,
    key_map: Mapping[str, Mapping[str, str] | str] | str | None = None,
    dry_run: bool = False,
) -> Prepared:
    """Settle adapters, then the key map, then the tokenizer.

    sources: every model the recipe names, in the recipe's order, under the name the recipe gives it
        (also used in `tokenizer`, `key_map`).
    base: the recipe's base_model, one of `sources`, or None.
    tokenizer: {"source": "base" | "union" | a name of sources, "tokens": {…}, "pad_to_multiple_of":
        n} as in mergekit;
        `tokenizer_source: X` is {"source": X}; None when the recipe says nothing. With a key map
            "base" is the frame's tokenizer.
    key_map: {name: {prefix: prefix in the result} | "auto"}, "auto", or None.
    work: folder for prepared tensors, kept by the caller until the merge is done; what is there
        from the same inputs is used again. With dry_run nothing is written: types and shapes are
        right, but `locate` may name files that do not exist.
    Raises PomonaError for whatever cannot be settled, before anything is written.
    """
    from pomona.merge.preparing.stages import Stages

    stages = Stages(sources, work, dry_run)
    for name, source in sources.items():
        if source.merged and source.adapter is not None:
            stages.adapt(name)
    if key_map:
        stages.map_names(key_map, base)
    if tokenizer is not None:
        stages.align(tokenizer, base)
    elif key_map:
        stages.lengthen()
    return stages.prepared()
