"""`pomona merge transplant`: a model gets another's tokenizer, and rows for the tokens that it did
not know (Goddard and Fernandes Neto 2025, arXiv 2506.06607).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.files import atomic_file, read_array
from pomona.merge.engine.run import Progress, bytes_of, merge_planned
from pomona.merge.plan import MERGED, MergePlan, MergeResult, TensorInput, TensorJob
from pomona.merge.planning.models import Opened, folders_of, locate_model, numbers_first
from pomona.merge.planning.planner import open_models
from pomona.merge.planning.result import extra_files, tokenizer_folder
from pomona.merge.pursuit import (
    Atoms,
    Doubles,
    Floats,
    Places,
    batch_size,
    check_finite,
    pursue,
)
from pomona.merge.reading.recipe import MergeRecipe, MergeSource, ModelRef, parse_model
from pomona.models import read_config
from pomona.models.tensors import (
    NewTensor,
    Stored,
    TensorRows,
    View,
    check_free,
    encode_finite,
    is_embedding,
    is_head,
    keep,
)
from pomona.places import check_outputs
from pomona.workspace import stamp

TransplantMethod = Literal["omp", "mean"]
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_TEXT = 1 << 17  # bytes of a text that is measured
_LINES = 400  # of the embedded one


@dataclass(frozen=True)
class Transplant:
    """What was done, or in a dry run would be. known: tokens of the donor that the model has; made:
    those whose rows are new. before, after: bits per byte on `measured`, None where nothing was
    measured.
    """

    result: MergeResult
    method: str
    known: int
    made: int
    measured: str
    before: float | None = None
    after: float | None = None

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "result": self.result.document()}


def transplant_vocabulary(
    model: str,
    donor: str,
    out: str | Path,
    *,
    method: TransplantMethod = "omp",
    k: int = 64,
    text: Path | None = None,
    measure: bool = True,
    memory: int | str = "1GiB",
    threads: int | None = None,
    shard_size: int | str = "5GB",
    device: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Transplant:
    """Give a model the tokenizer of a donor. Rows of tokens that both have are the model's own; the
    others are made.

    omp: the donor's row of a new token is written as a sum of k of its rows of shared tokens, and
    the same sum of the model's rows is the new one, for the input and the output embedding apart.
    mean: the mean of the rows of the tokens that the model cuts it into. Tokens are matched by the
    bytes that they spell, special ones by their role. How well model and result predict a text is
    told in bits per byte. Raises PomonaError naming model and tensor where it cannot be done.

    Args:
        model: Folder, name of `pomona models` or Hugging Face id that gets a tokenizer.
        donor: The model whose tokenizer it is.
        out: Folder of the result.
        method: omp, or mean as the baseline.
        k: Shared tokens that a new one is a sum of (omp).
        text: UTF-8 file that both are measured on, its first 128 KiB; English texts of the
            embedded data where it is left out.
        measure: Measure how well both predict a text.
        memory: Memory for rows and for what is computed of them, such as 1GiB.
        threads: CPU threads of the copying; all when left out.
        shard_size: Largest safetensors file, such as 5GB.
        device: Where the models are measured, such as cpu or cuda; a GPU when there is one.
        overwrite: Replace a checkpoint that is there and that Pomona wrote; files that others have
            put into its folder stay.
        dry_run: Only print what would be done.
    """
    if k < 1:
        raise PomonaError(f"k is {k}", where="k", remedy="use at least 1; 64 is usual")
    out = Path(out).absolute()
    refs = [_parsed(each, name) for each, name in ((model, "model"), (donor, "donor"))]
    folders = list(folders_of((*refs,), {}, locate_model).values())
    check_outputs(
        {"the result": out}, [*folders, *([text] if text else [])], folders=["the result"]
    )
    check_free(out, MERGED, overwrite)
    lines = _lines(text) if measure and not dry_run else []
    before: list[float | None] = []
    grafts: list[Graft] = []

    def planned(work: Path | None) -> MergePlan:
        grafts.append(Graft(refs, method, k, bytes_of(memory, "memory"), progress))
        before.append(_measured(folders[0], lines, device))  # not every model can be run
        return grafts[0].plan(work)

    engine: dict[str, Any] = {"memory": memory, "threads": threads, "shard_size": shard_size}
    engine |= {"report": False, "progress": progress, "overwrite": overwrite, "dry_run": dry_run}
    result = merge_planned(planned, out, **engine)
    (graft,) = grafts
    told = Transplant(
        result, method, graft.known, len(graft.new), str(text or "English texts of ui")
    )
    return replace(told, before=before[0], after=_measured(out, lines, device))


def _measured(folder: Path, lines: list[str], device: str | None) -> float | None:
    if not lines:
        return None
    from pomona.models.torch import bits_per_byte

    return bits_per_byte(folder, lines, device=device)


def _parsed(text: str, name: str) -> ModelRef:
    try:
        ref = parse_model(text)
    except ValueError as error:
        raise PomonaError(str(error), where=name, remedy="name a folder or a model") from None
    if ref.lora:
        remedy = "merge the adapter first: a recipe with passthrough"
        raise PomonaError("has an adapter", where=text, remedy=remedy)
    return ref


def _lines(text: Path | None) -> list[str]:
    if text is None:
        from pomona.records import read

        rows = read("ui").where(split="test").select("english").to_table()
        return sorted(set(rows["english"].to_pylist()))[:_LINES]
    try:
        with text.open("rb") as stream:
            data = stream.read(_TEXT)
    except OSError as error:
        raise PomonaError(f"cannot be read: {error.strerror}", where=text) from None
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        if len(data) < _TEXT or error.end < len(data) or error.reason != "unexpected end of data":
            remedy = "save it as UTF-8"
            raise PomonaError("is not UTF-8 text", where=text, remedy=remedy) from None
        lines = data[: error.start].decode().splitlines()  # a character was cut at the end
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise PomonaError("is empty", where=text, remedy="name a text that both can be measured on")
    return lines


class Graft:
    """The two models with their vocabularies matched."""

    def __init__(
        self,
        refs: Sequence[ModelRef],
        method: str,
        k: int,
        memory: int,
        progress: Progress | None = None,
    ) -> None:
        from pomona.models.torch import Vocabulary

        self.method, self.k, self.memory, self.refs = method, k, memory, refs
        self._progress = progress
        self._found: dict[str, tuple[Places, Doubles]] = {}
        self.recipe = MergeRecipe("passthrough", (MergeSource(refs[0]),))
        _, opened, self.folders = open_models(self.recipe, {}, locate_model, None, True)
        self.model = opened[str(refs[0])]
        self.donor_folder = folders_of((refs[1],), {}, locate_model)[str(refs[1])]
        self.donor = View.of(self.donor_folder)
        if self.model.packed:
            message = f"tensor {self.model.packed[0]} is quantised"
            remedy = numbers_first(self.model.folder, self.model.name)
            raise PomonaError(message, where=self.model.folder, remedy=remedy)
        self.mine, self.theirs = Vocabulary(self.model.folder), Vocabulary(self.donor_folder)
        rows, donated = self._embedding(self.model).shape[0], self._donated().shape[0]
        mine = {key: at for key, at in self.mine.ids().items() if at < rows}
        # By the donor's ids: the row of the model, or none.
        self.matched = {
            at: mine.get(key) for at, key in sorted(self.theirs.meanings.items()) if at < donated
        }
        self.known = sum(row is not None for row in self.matched.values())
        self.new = [at for at, row in self.matched.items() if row is None]
        self.rows = max(self.theirs.meanings) + 1
        if method == "omp" and self.new and k > self.known:
            raise PomonaError(
                f"k is {k}, and the vocabularies share {self.known} tokens",
                where="k",
                remedy="give a smaller k, or --method mean",
            )

    def _embedding(self, model: Opened) -> Stored:
        found = [stored for name, stored in model.tensors.items() if is_embedding(name)]
        if len(found) != 1:
            message = f"has {len(found)} input embeddings"
            raise PomonaError(message, where=model.folder, remedy="name a causal language model")
        return found[0]

    def _donated(self, head: bool = False) -> Stored:
        heads = [s for n, s in self.donor.tensors.items() if is_head(n) and n.endswith("weight")]
        tables = [stored for name, stored in self.donor.tensors.items() if is_embedding(name)]
        found = (heads if head else []) or tables or heads
        if not found:
            remedy = "name a causal language model"
            raise PomonaError("has no embedding", where=self.donor_folder, remedy=remedy)
        return found[0]

    def plan(self, work: Path | None) -> MergePlan:
        """Copies of everything but the rows of the vocabulary."""
        about = [self.method, self.k, self.matched, stamp([*self.folders, self.donor_folder])]
        self._digest = hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:16]
        self._work = work or Path()
        made = {
            name: self._made(name, stored)
            for name, stored in self.model.tensors.items()
            if is_embedding(name) or is_head(name)
        }
        self._wanted = {self._donated(is_head(name)).name for name in made}
        kept = keep(self._work / f"rows-{self._digest}", made, dry_run=work is None)
        folders: dict[Path, int] = {}
        jobs = []
        for name, old in self.model.tensors.items():
            stored = kept.get(name, old)
            place = folders.setdefault(stored.folder, len(folders))
            held = TensorInput(place, stored.name, stored.dtype, {}, self.model.name)
            jobs.append(TensorJob(name, stored.shape, stored.dtype, "copy", (held,)))
        config, ids = self._config()
        tokenizer = tokenizer_folder(self.donor_folder)
        sources, models = (*self.folders, self.donor_folder), {self.model.name: self.model}
        return MergePlan(
            models=tuple(folders),
            sources=sources,
            jobs=tuple(jobs),
            seed=0,
            config=config,
            tokenizer=tokenizer,
            recipe={
                "transplant": self.method,
                "model": self.model.name,
                "donor": str(self.refs[1]),
                "k": self.k,
            },
            extra=extra_files(self.recipe, models, self.model.folder, tokenizer, ids, sources),
            prepared=sum(tensor.size for tensor in made.values()),
            notes=(
                f"{self.rows:,} rows: {self.known:,} tokens of the donor are the model's own, "
                f"{len(self.new):,} are made ({self.method}), "
                f"{self.rows - self.known - len(self.new):,} are zero",
            ),
        )

    def _config(self) -> tuple[dict[str, Any], dict[str, Any]]:
        config = json.loads(json.dumps(dict(self.model.config)))
        inner = config["text_config"] if self.model.text is not self.model.config else config
        inner["vocab_size"] = self.rows
        theirs = read_config(self.donor_folder)
        theirs = theirs.get("text_config", theirs)
        ids = {key: theirs.get(key) for key in _IDS if key in theirs or key in inner}
        inner |= ids
        return config, ids

    def _made(self, name: str, stored: Stored) -> NewTensor:
        shape = (self.rows, *stored.shape[1:])

        def blocks() -> Iterator[bytes]:
            rows, make, step = TensorRows(stored), *self._maker(stored, head=is_head(name))
            for start in range(0, self.rows, step):
                part = range(start, min(start + step, self.rows))
                values = np.zeros((len(part), rows.shape[1]), np.float32)
                own = {at - start: row for at in part if (row := self.matched.get(at)) is not None}
                new = [at for at in part if at in self.matched and self.matched[at] is None]
                if own:
                    values[list(own)] = rows.float32(np.array(list(own.values())))
                if new and len(shape) == 2:  # of a head's bias nothing is known
                    values[np.array(new) - start] = make(new)
                yield encode_finite(values, stored.dtype, name, self.model.folder)

        return NewTensor(stored.dtype, shape, blocks)

    def _maker(self, stored: Stored, *, head: bool) -> tuple[Callable[[list[int]], Floats], int]:
        """What makes rows for tokens of the donor, and for how many at a time."""
        if self.method == "mean" or not self.new:
            return partial(self._means, TensorRows(stored)), max(1, self.memory // (1 << 20))
        shared = [row for row in self.matched.values() if row is not None]
        mine = Atoms(stored, shared, self.memory // 4)
        where = {token: at for at, token in enumerate(self.new)}
        chosen, coefficients = self._sums(self._donated(head))

        def make(new: list[int]) -> Floats:
            places = [where[token] for token in new]
            made = np.zeros((len(new), mine.width))
            for step in range(self.k):
                made += coefficients[places, step, None] * mine.take(chosen[places, step])
            return made.astype(np.float32)

        return make, max(1, self.memory // 4 // (32 * mine.width))

    def _sums(self, donated: Stored) -> tuple[Places, Doubles]:
        """The shared tokens that each new one is a sum of, and how much of each; what a killed run
        has found is read.
        """
        if donated.name in self._found:
            return self._found[donated.name]
        tokens = [at for at, row in self.matched.items() if row is not None]
        atoms = Atoms(donated, tokens, self.memory // 4)
        atoms.prepare(len(self.new), self.k, self.memory // 2)
        step = batch_size(atoms, self.k, self.memory)
        parts: list[NDArray[np.float64]] = []
        at, before = 0, len(self._found) * len(self.new) * self.k

        def advance(done: int) -> None:
            if self._progress is not None:
                total = len(self._wanted) * len(self.new) * self.k
                self._progress(before + at * self.k + done, total)

        while at < len(self.new):
            file = self._work / f"sums-{self._digest}" / f"{donated.name}-{at}.npy"
            if not file.exists():
                wanted = TensorRows(donated).float32(np.array(self.new[at : at + step]))
                check_finite(wanted, donated)
                sums = np.stack(pursue(wanted, atoms, self.k, advance))
                with atomic_file(file) as partial, partial.open("wb") as stream:
                    np.save(stream, sums)
            parts.append(np.array(read_array(file)))
            at += parts[-1].shape[1]
        places, coefficients = np.concatenate(parts, 1)
        self._found[donated.name] = places.astype(np.int64), coefficients
        return self._found[donated.name]

    def _means(self, rows: TensorRows, new: list[int]) -> Floats:
        made = np.zeros((len(new), rows.shape[1]), np.float32)
        for place, ids in enumerate(self._cut(new)):
            known = [one for one in ids if one < rows.shape[0]]
            if known:
                made[place] = rows.float32(np.array(known)).mean(0)
        return made

    def _cut(self, new: list[int]) -> Iterator[list[int]]:
        """The tokens that the model cuts each of the donor's into; of one that is no whole
        characters the tokens of its bytes, as far as there are some.
        """
        bytes_of_mine = {key: at for key, at in self.mine.ids().items() if len(key) == 1}
        for at in new:
            meaning = self.theirs.meanings[at]
            try:
                text = self.theirs.texts[at] if isinstance(meaning, str) else meaning.decode()
                yield self.mine.encode([text])[0]
            except UnicodeDecodeError:
                assert isinstance(meaning, bytes)
                single = [bytes([one]) for one in meaning]
                yield [bytes_of_mine[one] for one in single if one in bytes_of_mine]
