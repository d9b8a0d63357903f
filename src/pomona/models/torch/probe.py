"""Softmax statistics of rows of logits on a processor, in one pass with a vectorised
exponential.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.model import Model
from pomona.models.torch.batches import in_batches
from pomona.models.torch.decode import DecodeSettings, Plan, Truncation, decode
from pomona.models.torch.native import NativeModel
from pomona.native import jit

_LOG2E = np.float32(1.44269504)
_LN2_HIGH, _LN2_LOW = (
    np.float32(0.693145752),
    np.float32(1.42860677e-6),
)  # their sum is ln 2; the first has room for an exact product
_C = tuple(
    np.float32(value)
    for value in (0.5, 0.16666666, 0.041666657, 0.0083333685, 0.0013888937, 0.00019841270)
)
_LOWEST = np.float32(-87.0)


@intrinsic
def _from_bits(context: Any, bits: Any) -> Any:
    """The float32 whose bits an int32 holds."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@numba.njit(inline="always")
def _exp(x: Any) -> Any:
    """e^x for x ≤ 0, within 2e-7 of the value; below -87 it stays at e^-87."""
    x = max(x, _LOWEST)
    n = np.int32(x * _LOG2E - np.float32(0.5))
    whole = np.float32(n)
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    tail = _C[0] + r * (_C[1] + r * (_C[2] + r * (_C[3] + r * (_C[4] + r * _C[5]))))
    scale = _from_bits(np.int32((n + np.int32(127)) << np.int32(23)))  # pyright: ignore[reportCallIssue]
    return (np.float32(1.0) + (r + r * r * tail)) * scale


@jit("scores", fastmath={"reassoc", "nsz"})
def _sums(logits: Any, top: Any) -> Any:
    """Σe and Σe² of e = exp(logit - top)."""
    total, squares = np.float32(0.0), np.float32(0.0)
    for column in range(logits.shape[0]):
        weight = _exp(logits[column] - top)
        total += weight
        squares += weight * weight
    return total, squares


@jit("scores")
def softmax_scores(
    logits: NDArray[np.float32],
    top: NDArray[np.float32],
    targets: NDArray[np.int64],
    loss: NDArray[np.float32],
    error: NDArray[np.float32],
) -> None:
    """Write -ln p(target) and ‖p - onehot(target)‖₂ of each row of `logits` `[rows, vocabulary]` to
    `loss` and `error` `[rows]`.

    `top` `[rows]` is the largest logit of each row; where it is not a number the results are not.
    The squared error is Σ_{i≠y} p_i² + (1 - p_y)², which is Σp² - 2p_y + 1 without the cancellation
    near p_y = 1.
    """
    for row in range(logits.shape[0]):
        target, high = targets[row], top[row]
        before = _sums(logits[row, :target], high)
        after = _sums(logits[row, target + 1 :], high)
        others, squares = np.float64(before[0]) + after[0], np.float64(before[1]) + after[1]
        own_log = np.float64(logits[row, target] - high)
        everything = others + np.exp(own_log)
        loss[row] = np.log(everything) - own_log
        error[row] = np.sqrt(squares + others * others) / everything


_SLICE_BYTES = 1 << 22  # logits at once on a processor: measured fastest of 0.5 to 4 MiB
_DEVICE_SLICE_BYTES = 1 << 28


@dataclass(frozen=True)
class Unit:
    """Token ids int32 `[t]` that go through a network together; those from index `first` (at least
    1) on are scored.
    """

    ids: np.ndarray
    first: int


@dataclass(frozen=True)
class TokenScores:
    """Of each scored token of a unit, float32 `[t - first]`: `loss` = -ln p(token) and `error` = ‖p
    - onehot(token)‖₂.
    """

    loss: np.ndarray
    error: np.ndarray


class Probe:
    """A loaded torch model that is given token ids. Nothing depends on what else is in a batch, but
    for rounding (see NativeModel).

    Rows are padded behind, where a causal network does not look; a network for which that does not
    hold, or whose logits are not its output projection of its last hidden state, is noticed at the
    start and run whole, with a mask.
    """

    def __init__(self, model: Model) -> None:
        if not isinstance(model, NativeModel):
            raise PomonaError(
                "its hidden states cannot be seen",
                where=model.uri,
                remedy="use a model that torch runs",
            )
        self._model, self._network = model, model.network
        self.codec, self.shape, self.context, self.uri = (
            model.codec,
            model.shape,
            model.context,
            model.uri,
        )
        network: Any = model.network
        self._body, self._table, self._head = (
            network.base_model,
            network.get_input_embeddings(),
            network.get_output_embeddings(),
        )
        self._whole = not self._separable()
        config = network.config.get_text_config(decoder=True)
        feed_forward = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        self._graph = (
            config.num_hidden_layers * (16 * config.hidden_size + 5 * feed_forward) * 4
        )  # bytes a token keeps for its gradient

    def token_scores(self, units: Sequence[Unit]) -> list[TokenScores]:
        """Losses and errors of the scored tokens of each unit, from one pass; logits exist for a
        slice of tokens at a time.
        """

        def run(batch: Sequence[Unit]) -> list[TokenScores]:
            with torch.inference_mode(), self._model.arithmetic:
                hidden, targets = self._outputs(batch, None)
                loss, error = self._heads(hidden, targets)
            ends = np.cumsum([len(unit.ids) - unit.first for unit in batch])[:-1]
            return [
                TokenScores(*pair)
                for pair in zip(np.split(loss, ends), np.split(error, ends), strict=True)
            ]

        budget = self._model.budget
        return self._batched(
            units,
            lambda unit: budget.scoring(len(unit.ids), len(unit.ids) if self._whole else 1),
            run,
        )

    def logits(self, units: Sequence[Unit], rows: int) -> Iterator[torch.Tensor]:
        """The logits that predict the scored tokens, `[≤ rows, vocabulary]` at a time, a block
        never of two units: in the order of the units, of which those go through the network
        together that fit.
        """
        start = 0
        while start < len(units):
            longest = len(units[start].ids)
            stop = start + 1
            while stop < len(units):
                longest = max(longest, len(units[stop].ids))
                positions = longest if self._whole else 1
                if stop + 1 - start > self._model.budget.scoring(longest, positions):
                    break
                stop += 1
            with torch.inference_mode(), self._model.arithmetic:
                hidden, _ = self._outputs(units[start:stop], None)
            at = 0
            for unit in units[start:stop]:
                end = at + len(unit.ids) - unit.first
                for place in range(at, end, rows):
                    with torch.inference_mode(), self._model.arithmetic:
                        part = hidden[place : min(place + rows, end)]
                        block = part if self._whole else self._head(part)
                    yield block
                at = end
            start = stop

    def gradients(self, units: Sequence[Unit]) -> list[np.ndarray]:
        """L2 norm at each input token, float32 `[t - 1]`, of the gradient of the unit's mean target
        logit by the input embeddings.

        The logit before the softmax, not the probability (Agarwal et al. 2022, §2); the last token
        is never read, so it has none.
        """

        def run(batch: Sequence[Unit]) -> list[np.ndarray]:
            with torch.enable_grad(), self._model.arithmetic:
                ids, _ = self._padded(batch)
                embedded = self._table(ids).detach().requires_grad_()
                hidden, targets = self._outputs(batch, embedded)
                counts = [len(unit.ids) - unit.first for unit in batch]
                weights = torch.repeat_interleave(
                    1 / torch.tensor(counts, dtype=torch.float64), torch.tensor(counts)
                )
                total = (
                    self._target_logits(hidden, targets) * weights.to(hidden.device, hidden.dtype)
                ).sum()
                (slope,) = torch.autograd.grad(total, embedded)
            norms = (
                torch.linalg.vector_norm(slope.double(), dim=-1).cpu().numpy().astype(np.float32)
            )
            return [norms[row, : len(unit.ids) - 1].copy() for row, unit in enumerate(batch)]

        budget = self._model.budget

        def size(unit: Unit) -> int:
            fit = budget.memory // (
                len(unit.ids) * (self._graph + (budget.logits if self._whole else 0))
            )
            return max(1, min(fit, budget.pass_tokens // len(unit.ids)))

        return self._batched(units, size, run)

    def greedy(self, prompts: Sequence[np.ndarray], new: int) -> list[np.ndarray]:
        """The `new` likeliest tokens after each prompt, int32 `[new]`, generated freely; an end
        token does not end them.
        """
        settings = DecodeSettings(new, Truncation(), (), self.context)

        def run(batch: Sequence[np.ndarray]) -> list[np.ndarray]:
            rows = len(batch)
            plan = Plan(
                prompt=np.arange(rows), key=np.zeros(rows, np.uint64), temperature=np.zeros(rows)
            )
            with self._model.arithmetic:
                return [
                    row.token_ids
                    for row in decode(
                        self._network, [ids.tolist() for ids in batch], plan, settings
                    )
                ]

        return self._batched(
            prompts, lambda ids: self._model.budget.decoding(len(ids), new, 1), run
        )

    def _batched(
        self,
        items: Sequence[Any],
        size: Callable[[Any], int],
        run: Callable[[Sequence[Any]], list[Any]],
    ) -> list[Any]:
        """One result an item, in their order; the longest go first, so that a batch holds rows of
        like length.
        """
        lengths = [len(item.ids) if isinstance(item, Unit) else len(item) for item in items]
        order = sorted(range(len(items)), key=lambda index: -lengths[index])
        done = in_batches([items[index] for index in order], size, run)
        results: list[Any] = [None] * len(items)
        for index, result in zip(order, done, strict=True):
            results[index] = result
        return results

    def _padded(self, batch: Sequence[Unit]) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens that are read, all but the last of each unit, and their mask: int64
        `[rows, longest - 1]`, padded behind.
        """
        shape = (len(batch), max(len(unit.ids) for unit in batch) - 1)
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, unit in enumerate(batch):
            ids[row, : len(unit.ids) - 1], mask[row, : len(unit.ids) - 1] = unit.ids[:-1], 1
        return torch.from_numpy(ids).to(self._network.device), torch.from_numpy(mask).to(
            self._network.device
        )

    def _outputs(
        self, batch: Sequence[Unit], embedded: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (or logits, when the network is run whole) that predict the scored tokens,
        `[tokens, width]`, and those tokens.
        """
        ids, mask = self._padded(batch)
        given: dict[str, Any] = (
            {"input_ids": ids} if embedded is None else {"inputs_embeds": embedded}
        )
        if self._whole:
            out = self._network(**given, attention_mask=mask, use_cache=False).logits
        else:
            out = self._body(**given, use_cache=False).last_hidden_state
        width = ids.shape[1]
        places = np.concatenate(
            [
                np.arange(unit.first - 1, len(unit.ids) - 1) + row * width
                for row, unit in enumerate(batch)
            ]
        )
        targets = np.concatenate([unit.ids[unit.first :] for unit in batch]).astype(np.int64)
        device = self._network.device
        return out.flatten(0, 1).index_select(
            0, torch.from_numpy(places).to(device)
        ), torch.from_numpy(targets).to(device)

    def _heads(self, hidden: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Loss and error of every target, float32 `[tokens]`."""
        width, on_cpu = self._model.shape.vocabulary * 4, self._network.device.type == "cpu"
        step = max(
            16,
            min(_SLICE_BYTES if on_cpu else _DEVICE_SLICE_BYTES, self._model.budget.memory // 4)
            // width,
        )
        loss, error = (torch.empty(len(targets), device=hidden.device) for _ in range(2))
        for start in range(0, len(targets), step):
            part = slice(start, start + step)
            logits = hidden[part] if self._whole else self._head(hidden[part])
            statistics(logits, targets[part], loss[part], error[part])
        return loss.cpu().numpy(), error.cpu().numpy()

    def _target_logits(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The logit of each target, `[tokens]`: one row of the output projection each, not the
        vocabulary.
        """
        if self._whole:
            return hidden.gather(1, targets[:, None])[:, 0]
        logits = (hidden * self._head.weight[targets].to(hidden.dtype)).sum(dim=-1)
        return (
            logits
            if getattr(self._head, "bias", None) is None
            else logits + self._head.bias[targets]
        )

    @torch.inference_mode()
    def _separable(self) -> bool:
        """Whether the head of the body's output, with padding behind and no mask, gives the
        network's own logits.
        """
        if (
            self._head is None
            or self._body is self._network
            or type(self._head) is not torch.nn.Linear
        ):
            return False
        ids = (torch.arange(6, device=self._network.device) * 7 % self._model.shape.vocabulary)[
            None
        ]
        expected = self._network(input_ids=ids, use_cache=False).logits[0]
        padded = torch.nn.functional.pad(ids, (0, 3))
        got = self._head(self._body(input_ids=padded, use_cache=False).last_hidden_state)[
            0, : ids.shape[1]
        ]
        scale = float(expected.abs().max()) or 1.0
        return bool(
            (
                (got - expected).abs()
                <= (1e-4 if expected.dtype == torch.float32 else 3e-2) * scale
            ).all()
        )


def statistics(
    logits: torch.Tensor, targets: torch.Tensor, loss: torch.Tensor, error: torch.Tensor
) -> None:
    """Write -ln p(target) and ‖p - onehot(target)‖₂ of each row of `logits` `[rows, vocabulary]` to
    `loss` and `error`, float32 `[rows]`.

    On a processor the compiled kernel; elsewhere, and for float64, the same sums by torch.
    """
    if logits.device.type == "cpu" and logits.dtype != torch.float64:
        logits = logits.float()
        softmax_scores(
            logits.numpy(),
            logits.amax(dim=-1).numpy(),
            targets.numpy(),
            loss.numpy(),
            error.numpy(),
        )
        return
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weight, place = logits - logits.amax(dim=-1, keepdim=True), targets[:, None]
    own_log = weight.gather(1, place)
    weight.exp_().scatter_(1, place, 0.0)
    others = weight.sum(dim=-1, keepdim=True)
    everything = others + own_log.exp()
    loss.copy_((everything.log() - own_log)[:, 0])
    error.copy_(
        (torch.hypot(torch.linalg.vector_norm(weight, dim=-1, keepdim=True), others) / everything)[
            :, 0
        ]
    )
