"""What a network saw and which token came next, for texts of one kind: the neighbours of a state
say how that kind would go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pomona import records
from pomona.errors import PomonaError
from pomona.files import atomic_file
from pomona.models._torch import TorchModel
from pomona.models.chat import open_chat
from pomona.models.chat.torch import TorchChat

if TYPE_CHECKING:
    from pomona.records import Where

_ROWS = 1 << 16  # keys compared at once


@dataclass(frozen=True, eq=False)
class Datastore:
    """`keys` float32 `[n, d]`: what goes into the output projection at a place of a text. `tokens`
    int64 `[n]`: the next token there.

    `identity` is that of the model the keys are from; only with it can they be compared.
    """

    keys: torch.Tensor
    tokens: torch.Tensor
    identity: str

    @classmethod
    def build(cls, model: TorchChat, texts: Sequence[str]) -> Datastore:
        """One entry for each token of the texts after their first. A PomonaError when no text has
        two tokens.

        Runs in the calling thread: use it before the model answers requests. Texts longer than the
        context are cut off there.
        """
        keys, tokens = [], []
        for ids in model.model.codec.prompts(list(texts)):
            seen = ids[: model.model._context]
            if len(seen) > 1:
                keys.append(_states(model.model, seen[:-1]))
                tokens.append(torch.tensor(seen[1:]))
        if not keys:
            raise PomonaError(
                "no text has two tokens", where="Datastore.build", remedy="give longer texts"
            )
        return cls(torch.cat(keys), torch.cat(tokens), model.identity)

    def save(self, path: str | Path) -> Path:
        """Write the store as one safetensors file, whole or not at all."""
        with atomic_file(path) as partial:
            save_file(
                {"keys": self.keys.contiguous(), "tokens": self.tokens.contiguous()},
                partial,
                metadata={"identity": self.identity},
            )
        return Path(path)

    @classmethod
    def open(cls, path: str | Path) -> Datastore:
        """Read what `save` wrote. A PomonaError when it is not such a file."""
        try:
            with safe_open(str(path), "pt") as file:
                keys, tokens = file.get_tensor("keys"), file.get_tensor("tokens")
                identity = (file.metadata() or {})["identity"]
        except (OSError, SafetensorError, KeyError) as error:
            raise PomonaError(
                f"is no datastore: {error}", where=path, remedy="build it with Datastore.build"
            ) from error
        if keys.ndim != 2 or tokens.shape != keys.shape[:1] or not len(keys):
            raise PomonaError(
                "its keys and tokens do not belong together",
                where=path,
                remedy="build it with Datastore.build",
            )
        return cls(keys.float(), tokens.long(), identity)

    @property
    def digest(self) -> str:
        """16 hex digits that name the content."""
        content = hashlib.sha256(
            self.keys.cpu().numpy().tobytes() + self.tokens.cpu().numpy().tobytes()
        )
        return content.hexdigest()[:16]

    def log_probabilities(
        self, states: torch.Tensor, vocabulary: int, *, k: int, temperature: float
    ) -> torch.Tensor:
        """Log-probability of each token by the neighbours of each state, float32
        `[rows, vocabulary]`, from states `[rows, d]`.

        p(w) is the softmax of −(squared distance) / temperature over the k nearest keys, summed
        over those whose next token is w (Khandelwal et al. 2020, eq. 2). A token that no neighbour
        has gets what the least likely found token of its row has: log 0 would outweigh everything.
        (The authors' code takes the least of the whole batch, so that an answer depends on the
        others of its batch.)
        """
        distances, found = self._nearest(states.float(), min(k, len(self.keys)))
        weights = torch.softmax(-distances / temperature, dim=-1)
        sums = torch.zeros((len(states), vocabulary), device=states.device)
        sums.scatter_add_(1, self.tokens.to(states.device)[found], weights)
        least = torch.where(sums > 0, sums, torch.inf).amin(dim=-1, keepdim=True)
        return torch.where(sums > 0, sums, least).log()

    def _nearest(self, states: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared distances, ascending, and rows of the k nearest keys, `[rows, k]` each; keys go
        through in blocks.
        """
        best = torch.empty((len(states), 0), device=states.device)
        rows = torch.empty((len(states), 0), dtype=torch.int64, device=states.device)
        for first, keys in self._blocks(states.device):
            distances = (
                states.square().sum(1, keepdim=True) + keys.square().sum(1) - 2 * states @ keys.T
            ).clamp_(min=0)
            numbers = torch.arange(first, first + len(keys), device=states.device).expand(
                len(states), -1
            )
            best, rows = torch.cat([best, distances], 1), torch.cat([rows, numbers], 1)
            best, order = best.topk(min(k, best.shape[1]), dim=1, largest=False)
            rows = rows.gather(1, order)
        return best, rows

    def _blocks(self, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
        for first in range(0, len(self.keys), _ROWS):
            yield first, self.keys[first : first + _ROWS].to(device)


def build_file(inputs: Where, column: str = "text", *, out: str | Path, model: str) -> Datastore:
    """Read the texts of a column and write their datastore to `out`, by the checkpoint that the URI
    `model` names.

    A PomonaError when the column is missing, a text is null, no text has two tokens, or the model
    is none of torch.
    """
    from pomona.sample.blocking import wait_for

    texts = records.read(inputs).require(column).select(column).to_table()[column].to_pylist()
    for row, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise PomonaError(
                f'"{column}" is {text!r}, not a text',
                where=f"{inputs}, row {row}",
                remedy="drop the row, or name another column",
            )
    opened = open_chat(model)
    try:
        if not isinstance(opened, TorchChat):
            raise PomonaError(
                "gives no states of its network",
                where=model,
                remedy="use a torch model, such as ui-s or hf:PATH",
            )
        built = Datastore.build(opened, texts)
    finally:
        wait_for(opened.close())
    built.save(out)
    return built


@torch.inference_mode()
def _states(model: TorchModel, ids: Sequence[int]) -> torch.Tensor:
    """The last hidden state at each token, float32 `[tokens, d]`."""
    with model._arithmetic:
        states = model.network.base_model(
            input_ids=torch.tensor([list(ids)], device=model.network.device), use_cache=False
        )
    return states.last_hidden_state[0].float().cpu()
