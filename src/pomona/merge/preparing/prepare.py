"""What is special about a model (adapter, tokenizer, other names) is dealt with before a merge, so
that the merge sees plain tensors. What a step makes goes to a folder named by all that made it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError, nearest, quantity
from pomona.merge.preparing.adapter_files import read_adapter
from pomona.merge.preparing.adapters import Adapted, adapted
from pomona.merge.preparing.keymap import KeyMap, alike, map_names, named_as, ties_in
from pomona.merge.preparing.tokenizer import (
    FLAGS,
    Alignment,
    Tokenizer,
    align,
    aligned,
    extended,
    files_of,
    read_tokenizer,
    union,
    without_tail,
)
from pomona.models import read_config
from pomona.models.tensors import (
    QUANTISATION,
    NewTensor,
    Stored,
    TensorRows,
    View,
    dequantised,
    encode_finite,
    is_embedding,
    is_head,
    keep,
    row_blocks,
    write_made,
)


@dataclass(frozen=True)
class ModelSource:
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
        (options "rows" and "rows_from" of the job, see `FirstRows`); all views show these tensors
        with all rows.
    changes: of models whose adapter changed what their config.json says, what it says now.
    tokenizers: of models that have another folder's tokenizer, that folder: an adapter's, which
        was trained with more tokens.
    written: bytes this preparation writes to the working folder (also in a dry run).
    """

    views: Mapping[str, View]
    tokenizer: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    special_ids: Mapping[str, Any] = field(default_factory=dict)
    frame: str | None = None
    copied: frozenset[str] = frozenset()
    rows: Mapping[str, int] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tokenizers: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    written: int = 0


def prepare(
    sources: Mapping[str, ModelSource],
    work: Path,
    *,
    base: str | None = None,
    tokenizer: Mapping[str, Any] | None = None,
    key_map: Mapping[str, Mapping[str, str] | str] | str | None = None,
    quantised: Collection[str] = (),
    dry_run: bool = False,
    tokenizers: Path | None = None,
) -> Prepared:
    """Settle quantised weights, then adapters, then names, by transformers' and by the key map,
    then the tokenizer.

    sources: every model the recipe names, in the recipe's order, under the name the recipe gives it
        (also used in `tokenizer`, `key_map`).
    base: the recipe's base_model, one of `sources`, or None.
    tokenizer: {"source": "base" | "union" | a name of sources, "tokens": {…}, "pad_to_multiple_of":
        n} as in mergekit;
        `tokenizer_source: X` is {"source": X}; None when the recipe says nothing. With a key map
            "base" is the frame's tokenizer.
    key_map: {name: {prefix: prefix in the result} | "auto"}, "auto", or None.
    quantised: models whose weights become numbers first.
    work: folder for prepared tensors, kept by the caller until the merge is done; what is there
        from the same inputs is used again. With dry_run nothing is written: types and shapes are
        right, but `locate` may name files that do not exist.
    tokenizers: folder for a tokenizer that is made, in place of `work`, also in a dry run.
    Raises PomonaError for whatever cannot be settled, before anything is written.
    """

    stages = Stages(sources, work, dry_run, tokenizers)
    for name in quantised:
        stages.dequantise(name)
    for name, source in sources.items():
        if source.merged and source.adapter is not None:
            stages.adapt(name)
    stages.name_alike(key_map or {}, base)
    if key_map:
        stages.map_names(key_map, base)
    if tokenizer is not None:
        stages.align(tokenizer, base)
    elif key_map:
        stages.lengthen()
    return stages.prepared()


_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


class Stages:
    """The models on their way: `adapt`, then `map_names`, then `align` or `lengthen`, each where
    the recipe asks for it.
    """

    def __init__(
        self,
        sources: Mapping[str, ModelSource],
        work: Path,
        dry_run: bool,
        tokenizers: Path | None = None,
    ) -> None:
        self.sources, self.work, self.dry_run = sources, work, dry_run
        self.tokenizers = tokenizers
        self.views = {
            name: View.of(source.folder) for name, source in sources.items() if source.merged
        }
        self.fingerprints: dict[str, list[Any]] = {
            name: [_fingerprint(source)] for name, source in sources.items()
        }
        self.result: dict[str, Any] = {
            "config": {},
            "written": 0,
            "changes": {},
            "tokenizers": {},
        }
        self.notes: list[str] = []
        self.short: Mapping[str, Sequence[str]] = {}

    def prepared(self) -> Prepared:
        """The outcome of the steps taken."""
        if self.result["written"]:
            self.notes.append(
                f"{self.result['written'] / 1e6:,.1f} MB are prepared beside the result and "
                "removed when it is whole"
            )
        return Prepared(views=self.views, notes=tuple(self.notes), **self.result)

    def dequantise(self, name: str) -> None:
        """Make a model's quantised weights numbers again."""
        view = self.views[name]
        config = read_config(view.folder)
        found = dequantised(view, config, name)
        kept = self._keep(name, "dequantised", found.made)
        left = {key: one for key, one in view.tensors.items() if key not in found.gone}
        self.views[name] = View(view.folder, {**left, **kept})
        self.result["changes"][name] = {
            f"{prefix}{key}": None
            for prefix, holder in (("", config), ("text_config.", config.get("text_config")))
            for key in QUANTISATION
            if isinstance(holder, dict) and key in holder
        }
        self.notes.append(found.note(name))

    def adapt(self, name: str) -> None:
        """Lay a model's adapter on it."""
        source, view = self.sources[name], self.views[name]
        assert source.adapter is not None
        adapter = read_adapter(source.adapter)
        names = named_as(adapter, view)
        under = View(view.folder, {names.get(key, key): one for key, one in view.tensors.items()})
        laid = adapted(under, adapter, tied=ties_in(view.folder))
        stored = {theirs: key for key, theirs in names.items()}
        made = {stored.get(key, key): one for key, one in laid.made.items()}
        taken = {stored.get(key, key): one for key, one in laid.taken.items()}
        self.views[name] = view.with_tensors({**taken, **self._keep(name, "adapted", made)})
        changed = len(made) + len(taken)
        self.notes += [
            *laid.notes,
            f'"{name}": {quantity(changed, "tensor")} changed by the adapter',
        ]
        self._changed(name, source, laid)

    def _changed(self, name: str, source: ModelSource, laid: Adapted) -> None:
        """What config.json and the tokenizer of an adapted model are from now on."""
        assert source.adapter is not None
        changes: dict[str, Any] = {"tie_word_embeddings": False} if laid.untied else {}
        if laid.rows is not None:
            changes[vocabulary_key(read_config(source.folder))] = laid.rows
            if read_tokenizer(source.adapter) is not None:
                self.result["tokenizers"][name] = source.adapter
        self.result["changes"].setdefault(name, {}).update(changes)

    def name_alike(self, key_map: KeyMap, base: str | None) -> None:
        """Give models of one kind the names of the base, or of the first whose names no map
        changes.
        """
        rules = {} if isinstance(key_map, str) else key_map
        mapped = [model for model in self.views if isinstance(rules.get(model), Mapping)]
        left = [model for model in self.views if model not in mapped]
        reference = base if base in left else next(iter(left), None)
        if reference is not None:
            self.views, notes = alike(self.views, reference, mapped)
            self.notes += notes

    def map_names(self, key_map: KeyMap, base: str | None) -> None:
        """Give all models the frame's names."""
        mapped = map_names(self.views, key_map, base=base)
        self.views, self.short = dict(mapped.views), mapped.short
        self.result |= {"frame": mapped.frame, "copied": mapped.copied}
        self.notes += mapped.notes

    def lengthen(self) -> None:
        """Give the frame's further rows to vocabulary tensors that are shorter; only the common
        rows are merged then.
        """
        frame = self.result["frame"]
        rows: dict[str, int] = {}
        reference = self._tokenizer(frame) if self.short else None
        for name, tensors in self.short.items():
            view = self.views[name]
            made: dict[str, NewTensor] = {}
            for tensor in tensors:
                short, long = view.tensors[tensor], self.views[frame].tensors[tensor]
                rows[tensor] = min(short.shape[0], rows.get(tensor, short.shape[0]))
                made[tensor] = _lengthened(short, long, f'"{name}" and "{frame}"')
            shared = min(view.info(tensor)[1][0] for tensor in tensors)
            self._check_prefix(name, frame, reference, shared)
            kept = self._keep(name, "lengthened", made, self.fingerprints[frame])
            self.views[name] = view.with_tensors(kept)
        self.result["rows"] = rows
        self.notes += [
            f'"{tensor}": rows from {count} on copied from "{frame}"'
            for tensor, count in sorted(rows.items())
        ]

    def _check_prefix(self, name: str, frame: str, reference: Tokenizer | None, rows: int) -> None:
        tokenizer = self._tokenizer(name)
        if tokenizer is None or reference is None:
            self.notes.append(
                f'"{name}" or "{frame}" has no tokenizer: rows are taken to mean the same tokens'
            )
            return
        for text, index in tokenizer.vocab.items():
            if index < rows and reference.vocab.get(text) != index:
                raise PomonaError(
                    f'token {json.dumps(text, ensure_ascii=False)} is {index} in "{name}" '
                    f'and {reference.vocab.get(text)} in "{frame}"',
                    where="key_map",
                    remedy="write tokenizer_source: MODEL or union to match rows by token",
                )

    def align(self, rule: Mapping[str, Any], base: str | None) -> None:
        """Bring all models to the rows of the result's tokenizer. With a key map the frame stands
        in for the base: its config names ids.
        """
        names = sorted(
            {name for view in self.views.values() for name in view.tensors if _by_token(name, view)}
        )
        if not names:
            raise PomonaError(
                "finds no embedding in the models",
                where="tokenizer",
                remedy="leave the rule for the tokenizer out",
            )
        donor = self.result.get("frame") or base or next(iter(self.views))
        rows = {model: _rows(view) for model, view in self.views.items()}
        read = {model: self._tokenizer(model) for model in self.views}
        tokenizers = {
            model: tokenizer or self._assumed(model, donor, read[donor], rows)
            for model, tokenizer in read.items()
        }
        chosen, owner = self._chosen(rule, donor, tokenizers, rows)
        tokens = rule.get("tokens") or {}
        flags = {flag: flag == "normalized" for flag in FLAGS}
        result = extended(
            chosen,
            {text: {"content": text, **flags} for text in tokens if text not in chosen.vocab},
        )
        vocabularies = {model: tokenizer.vocab for model, tokenizer in tokenizers.items()}
        multiple = rule.get("pad_to_multiple_of")
        alignment = align(
            result, vocabularies, rows, base=base, owner=owner, tokens=tokens, multiple=multiple
        )
        made_by = [rule, base, list(vocabularies), *map(self.fingerprints.get, self.sources)]
        self._align_tensors(names, alignment, made_by)
        known = owner not in tokenizers or chosen is tokenizers[owner]
        self._write_tokenizer(result, chosen if known else None)
        self._config(alignment.rows, donor, owner)
        self.notes.append(
            f"tokenizer: {len(result.vocab)} tokens in {alignment.rows} rows, ids of {owner}; "
            + ", ".join(f'"{model}" has {count} rows' for model, count in rows.items())
        )

    def _align_tensors(
        self, names: Sequence[str], alignment: Alignment, fingerprints: Sequence[Any]
    ) -> None:
        before = dict(self.views)
        holders = {
            name: [_held(before[model], name, model) for model in alignment.models]
            for name in names
        }
        for place, model in enumerate(alignment.models):
            made: dict[str, NewTensor] = {}
            for name in names:
                tensors = holders[name]
                dtypes = {stored.dtype for stored in tensors}
                dtype = dtypes.pop() if len(dtypes) == 1 else "F32"
                if alignment.same(place, tensors[place].shape[0]) and tensors[place].dtype == dtype:
                    continue
                if name in before[model].tensors:
                    made[name] = aligned(alignment, tensors, place, dtype)
            kept = self._keep(model, "aligned", made, fingerprints)
            self.views[model] = before[model].with_tensors(kept)

    def _chosen(
        self,
        rule: Mapping[str, Any],
        donor: str,
        tokenizers: Mapping[str, Tokenizer],
        rows: Mapping[str, int],
    ) -> tuple[Tokenizer, str]:
        source = str(rule.get("source") or "union")
        base = without_tail(tokenizers[donor], rows[donor])
        if source == "base":
            return base, donor
        if source == "union":
            others = [
                without_tail(tokenizer, rows[model])
                for model, tokenizer in tokenizers.items()
                if model != donor
            ]
            cutters = ("normalizer", "pre_tokenizer")
            for other in others:
                if any(other.data.get(key) != base.data.get(key) for key in cutters):
                    self.notes.append(
                        f"{other.folder} cuts text into words in another way; the union "
                        f'cuts it as "{donor}"'
                    )
            return union(base, others), donor
        if source not in self.sources:
            known = ["base", "union", *self.sources]
            raise PomonaError(
                f'no model "{source}"', where="tokenizer: source", remedy=nearest(source, known)
            )
        chosen = tokenizers.get(source) or self._tokenizer(source)
        if chosen is None:
            raise PomonaError(
                "holds no tokenizer",
                where=self.sources[source].folder,
                remedy="name a model that has one",
            )
        return chosen, source

    def _tokenizer(self, model: str) -> Tokenizer | None:
        return read_tokenizer(self.result["tokenizers"].get(model, self.sources[model].folder))

    def _assumed(
        self, model: str, donor: str, base: Tokenizer | None, rows: Mapping[str, int]
    ) -> Tokenizer:
        if base is None or rows[model] != rows[donor]:
            remedy = "copy tokenizer.json and tokenizer_config.json of the model into its folder"
            raise PomonaError("holds no tokenizer", where=self.sources[model].folder, remedy=remedy)
        self.notes.append(f'"{model}" has no tokenizer: taken to be that of "{donor}"')
        return base

    def _write_tokenizer(self, result: Tokenizer, known: Tokenizer | None) -> None:
        if known is not None and result is known:
            self.result["tokenizer"] = known.folder
            return
        files = files_of(result)
        content = hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()
        folder = (self.tokenizers or self.work) / f"tokenizer-{content[:16]}"
        if (self.tokenizers or not self.dry_run) and not folder.exists():
            write_made(folder, {}, files)
        self.result["tokenizer"] = folder
        self.result["written"] += sum(map(len, files.values()))

    def _config(self, rows: int, donor: str, owner: str) -> None:
        main = read_config(self.sources[self.result.get("frame") or donor].folder)
        key = vocabulary_key(main)
        prefix = key.removesuffix("vocab_size")
        self.result["config"] = {key: rows}
        if owner != donor:
            other = read_config(self.sources[owner].folder)
            other = other.get("text_config", other) if prefix else other
            ids = {key: other[key] for key in _SPECIAL_IDS if key in other}
            self.result["config"] |= {prefix + key: value for key, value in ids.items()}
            generation = read_config(self.sources[owner].folder, "generation_config.json")
            self.result["special_ids"] = ids | {
                key: generation[key] for key in _SPECIAL_IDS if key in generation
            }

    def _keep(
        self, model: str, what: str, made: Mapping[str, NewTensor], fingerprints: Sequence[Any] = ()
    ) -> dict[str, Stored]:
        self.fingerprints[model] = [*self.fingerprints[model], what, *fingerprints]
        digest = hashlib.sha256(
            json.dumps(self.fingerprints[model], sort_keys=True).encode()
        ).hexdigest()[:16]
        label = re.sub(r"[^\w.-]+", "-", model)[-40:].strip("-.")
        self.result["written"] += sum(tensor.size for tensor in made.values())
        return keep(self.work / f"{label}-{what}-{digest}", made, dry_run=self.dry_run)


def vocabulary_key(config: Mapping[str, Any]) -> str:
    """Where a config.json says how many rows the vocabulary has."""
    inner = "vocab_size" not in config and isinstance(config.get("text_config"), dict)
    return "text_config.vocab_size" if inner else "vocab_size"


def _fingerprint(source: ModelSource) -> list[Any]:
    folders = [source.folder] + ([source.adapter] if source.adapter else [])
    files = [
        file
        for folder in folders
        for file in sorted(folder.iterdir())
        if file.suffix in (".safetensors", ".json", ".model")
    ]
    return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _by_token(name: str, view: View) -> bool:
    return (is_embedding(name) or is_head(name)) and view.info(name)[1][:1] == (_rows(view),)


def _rows(view: View) -> int:
    names = [name for name in view.names if is_embedding(name)] or [
        name for name in view.names if is_head(name)
    ]
    return view.info(names[0])[1][0] if names else 0


def _held(view: View, name: str, model: str) -> Stored:
    """A model's vocabulary tensor; its embedding where it ties its head."""
    if name in view.tensors:
        return view.tensors[name]
    embeddings = [other for other in view.names if is_embedding(other)]
    if is_head(name) and name.endswith(".weight") and len(embeddings) == 1 and ties_in(view.folder):
        return view.tensors[embeddings[0]]
    raise PomonaError(
        f'has no tensor "{name}"',
        where=view.folder,
        remedy=f'"{model}" does not fit the other models',
    )


def _lengthened(short: Stored, long: Stored, models: str) -> NewTensor:
    if short.shape[0] > long.shape[0] or short.shape[1:] != long.shape[1:]:
        raise PomonaError(
            f'tensor "{long.name}" of {models} is {list(short.shape)} and {list(long.shape)}',
            where="key_map",
            remedy="write tokenizer_source: MODEL or union if only the vocabularies differ",
        )

    def blocks() -> Iterator[bytes]:
        first, second = TensorRows(short), TensorRows(long)
        yield from (first.stored(rows).tobytes() for rows in row_blocks(*first.shape))
        for rows in row_blocks(second.shape[0] - first.shape[0], second.shape[1]):
            block = second.float32(slice(rows.start + first.shape[0], rows.stop + first.shape[0]))
            yield encode_finite(block, short.dtype, long.name, long.folder)

    return NewTensor(short.dtype, long.shape, blocks)
