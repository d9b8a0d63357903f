"""The decoding loop: one prefill for all samples of a prompt, then a token a step for every row
still going.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from pomona.models.request import Steer
from pomona.models.sampling import Sampling
from pomona.models.torch.batches import Watched, padded

_BLOCK = 64  # steps whose uniform numbers are made at once


@dataclass(frozen=True)
class DecodeSettings:
    """What holds for all rows. `stops` are the tokens that end an answer; `context` is the most
    tokens the network takes, or None.

    `top` is how many of the likeliest tokens are kept with each token.
    """

    max_new_tokens: int
    cut: Truncation
    stops: tuple[int, ...]
    context: int | None
    top: int = 0


@dataclass(frozen=True)
class Plan:
    """The rows of a batch, `[rows]` each: the prompt a row continues, the key of its random numbers
    (uint64), its temperature.

    `limit` is the most new tokens of each row, where that is less than the settings'.
    """

    prompt: np.ndarray
    key: np.ndarray
    temperature: np.ndarray
    limit: np.ndarray | None = None


@dataclass(frozen=True)
class DecodedRow:
    """One decoded row: ids int32 `[t]` and log-probabilities float32 `[t]` without the end token;
    `stopped` when there was one.

    `top_ids` and `top_logprobs`, `[t, top]`, are of the likeliest tokens at each place, likeliest
    first.
    """

    token_ids: np.ndarray
    logprobs: np.ndarray
    stopped: bool
    top_ids: np.ndarray
    top_logprobs: np.ndarray


@dataclass(frozen=True)
class DecodeStep:
    """The tokens of one step, of the rows still going: their numbers and tokens, int64 `[live]`,
    log-probabilities, the likeliest.
    """

    rows: torch.Tensor
    tokens: torch.Tensor
    logprobs: torch.Tensor
    top_ids: torch.Tensor
    top_logprobs: torch.Tensor


Watch = Callable[
    [DecodeStep], Sequence[int]
]  # called after each step, gives back the rows that shall end here


class Penalties:
    """A row whose tokens are biased, and less likely for what was said before; see `Sampling`."""

    def __init__(self, request: Sampling, prompt: Sequence[int], then: Bend | None = None) -> None:
        self._request, self._prompt, self._then = request, prompt, then
        self._counts: torch.Tensor | None = None

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """See `Bend`."""
        request = self._request
        if self._counts is None:
            self._counts = torch.zeros_like(logits)
            self._seen = torch.zeros_like(logits, dtype=torch.bool)
            self._seen[torch.tensor(self._prompt, device=logits.device)] = True
            self._bias = torch.zeros_like(logits)
            for token, bias in request.logit_bias.items():
                self._bias[token] += bias
        bent = logits + self._bias
        if request.penalised:
            times = request.repetition_penalty
            repeated = torch.where(bent > 0, bent / times, bent * times)
            bent = torch.where(self._seen, repeated, bent)
            bent -= request.frequency_penalty * self._counts
            bent -= request.presence_penalty * (self._counts > 0)
        return bent if self._then is None else self._then(bent)

    def take(self, token: int) -> int:
        """See `Bend`."""
        assert self._counts is not None
        if self._then is not None:
            token = self._then.take(token)
        self._counts[token] += 1
        self._seen[token] = True
        return token


class Bend(Protocol):
    """Changes what one row may draw next."""

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """What to draw by, `[vocabulary]`, from the logits of the row."""
        ...

    def take(self, token: int) -> int:
        """The token that the row goes on with, where this one was drawn."""
        ...


def decode(
    network: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    plan: Plan,
    settings: DecodeSettings,
    watch: Watch | None = None,
    steers: Sequence[Steer | None] | None = None,
    bends: Sequence[Bend | None] | None = None,
) -> list[DecodedRow]:
    """The rows of the plan, in its order. Each prompt goes through the network once, however many
    rows continue it.

    `watch` sees the tokens as they come and may end rows: those keep what they have, and are not
    `stopped`. `steers` has for each prompt what leads its rows; `bends` has for each row of the
    plan what bends its draws, while log-probabilities stay the model's own.
    """
    return _Decoding(network, prompts, plan, settings, steers or (), bends or ()).run(watch)


class _Decoding:
    """The state of one batch. What has an entry for each `live` row shrinks together; `tokens` and
    `logprobs` keep every row.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        plan: Plan,
        settings: DecodeSettings,
        steers: Sequence[Steer | None],
        bends: Sequence[Bend | None],
    ) -> None:
        self.bends = {row: bend for row, bend in enumerate(bends) if bend is not None}
        self.network, self.prompts, self.plan, self.settings = network, prompts, plan, settings
        self.device = network.device
        self.watched = Watched(network, steers)
        self.prompt = torch.arange(len(prompts), device=self.device)
        lengths = np.array([len(prompt) for prompt in prompts])[plan.prompt]
        room = settings.max_new_tokens if settings.context is None else settings.context - lengths
        most = (
            settings.max_new_tokens
            if plan.limit is None
            else np.minimum(plan.limit, settings.max_new_tokens)
        )
        self.row_limits = np.minimum(np.broadcast_to(room, lengths.shape), most)
        self.steps = int(self.row_limits.max())
        self.limits = self._tensor(self.row_limits)
        self.sampled = bool((plan.temperature > 0).any())
        self.temperature = self._tensor(plan.temperature.astype(np.float32))
        self.stops = torch.tensor(settings.stops, dtype=torch.int64, device=self.device)
        rows = len(plan.prompt)
        self.live = torch.arange(rows, device=self.device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self.tokens = torch.zeros((rows, self.steps), dtype=torch.int32, device=self.device)
        self.logprobs = torch.zeros((rows, self.steps), dtype=torch.float32, device=self.device)
        self.top_ids = torch.zeros(
            (rows, self.steps, settings.top), dtype=torch.int32, device=self.device
        )
        self.top_logprobs = torch.zeros(
            (rows, self.steps, settings.top), dtype=torch.float32, device=self.device
        )
        self.look_every = (
            1 if self.device.type == "cpu" else 8
        )  # looking at `done` makes the host wait for the device

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    @torch.inference_mode()
    def run(self, watch: Watch | None = None) -> list[DecodedRow]:
        """Generate until every row has ended or the steps are used up."""
        logits = self._prefill()
        for step in range(self.steps):
            recorded = self._record(step, logits)
            token = recorded.tokens
            if watch is not None:
                # before anything is dropped: `watch` names rows by their number in the plan
                self._end(watch(recorded), step)
            if step + 1 == self.steps:
                break
            if (step + 1) % self.look_every == 0:
                running = int((~self.done).sum())
                if running == 0:
                    break
                if running <= 0.9 * len(self.live):
                    token = self._drop_done(token)
            self.position = (self.position + 1).clamp_(max=(self.settings.context or 1 << 62) - 1)
            logits = self._forward(token[:, None], self.position, self.width + step + 1)
        return self._rows()

    def _prefill(self) -> torch.Tensor:
        # padded in front: the last column holds the last token of every prompt, new ones follow
        self.width = max(map(len, self.prompts))
        starts = [self.width - len(prompt) for prompt in self.prompts]
        ids, mask = padded(self.prompts, starts, self.device)
        self.cache = DynamicCache(config=self.network.config)
        self.mask = mask
        logits = self._forward(ids, (mask.cumsum(dim=-1) - 1).clamp_(min=0), self.width)
        if len(self.plan.prompt) > len(self.prompts):
            self.prompt = prompt = self._tensor(self.plan.prompt)
            self.cache.batch_select_indices(prompt)
            logits, mask = logits[prompt], mask[prompt]
        self.mask = torch.cat([mask, mask.new_ones((len(mask), self.steps))], dim=-1)
        self.position = mask.sum(dim=-1, keepdim=True) - 1
        return logits

    def _forward(self, ids: torch.Tensor, position: torch.Tensor, width: int) -> torch.Tensor:
        logits = self.watched(
            self.prompt,
            input_ids=ids,
            attention_mask=self.mask[:, :width],
            position_ids=position,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return logits[:, -1].float()

    def _record(self, step: int, logits: torch.Tensor) -> DecodeStep:
        bent, bending = self._bent(logits)
        if self.sampled:
            if step % _BLOCK == 0:
                self.uniforms = self._tensor(uniforms(self.plan.key, step, _BLOCK))
            token = choose(
                bent, self.temperature, self.settings.cut, self.uniforms[step % _BLOCK, self.live]
            )
        else:
            token = choose(bent, None, self.settings.cut, None)
        for place, bend in bending:
            drawn = int(token[place])
            if (taken := bend.take(drawn)) != drawn:
                token[place] = taken
        logprob = logits.gather(1, token[:, None])[:, 0] - logits.logsumexp(dim=-1)
        self.tokens[self.live, step] = token.int()
        self.logprobs[self.live, step] = logprob
        top = logits[:, :0]
        recorded = DecodeStep(self.live, token, logprob, top, top)
        if self.settings.top:
            top, ids = logits.topk(self.settings.top, dim=-1)
            recorded = DecodeStep(
                self.live, token, logprob, ids, top - logits.logsumexp(dim=-1, keepdim=True)
            )
            self.top_ids[self.live, step], self.top_logprobs[self.live, step] = (
                ids.int(),
                recorded.top_logprobs,
            )
        self.done |= torch.isin(token, self.stops) | (self.limits <= step + 1)
        return recorded

    def _bent(self, logits: torch.Tensor) -> tuple[torch.Tensor, list[tuple[int, Bend]]]:
        """What to draw by, and which rows still going are bent, by their places."""
        if not self.bends:
            return logits, []
        going = zip(self.live.tolist(), self.done.tolist(), strict=True)
        bending = [
            (place, self.bends[row])
            for place, (row, done) in enumerate(going)
            if not done and row in self.bends
        ]
        bent = logits.clone()
        for place, bend in bending:
            bent[place] = bend(logits[place])
        return bent, bending

    def _end(self, rows: Sequence[int], step: int) -> None:
        """End rows by their number in the plan; what they have after `step` is left out."""
        if len(rows):
            chosen = np.asarray(rows)
            self.row_limits[chosen] = np.minimum(self.row_limits[chosen], step + 1)
            self.done |= torch.isin(self.live, self._tensor(chosen.astype(np.int64)))

    def _drop_done(self, token: torch.Tensor) -> torch.Tensor:
        keep = (~self.done).nonzero()[:, 0]
        self.cache.batch_select_indices(keep)
        self.live, self.done, self.limits = self.live[keep], self.done[keep], self.limits[keep]
        self.mask, self.position, self.temperature, self.prompt = (
            self.mask[keep],
            self.position[keep],
            self.temperature[keep],
            self.prompt[keep],
        )
        return token[keep]

    def _rows(self) -> list[DecodedRow]:
        tokens, logprobs, *tops = (
            kept.cpu().numpy()
            for kept in (self.tokens, self.logprobs, self.top_ids, self.top_logprobs)
        )
        # Rows go on after their end until they are dropped: what came after it is left out here.
        ends = np.isin(tokens, self.settings.stops)
        rows = []
        for row, limit in enumerate(self.row_limits):
            stop = int(ends[row, :limit].argmax()) if ends[row, :limit].any() else None
            length = limit if stop is None else stop
            top_ids, top_logprobs = (top[row, :length].copy() for top in tops)
            rows.append(
                DecodedRow(
                    tokens[row, :length].copy(),
                    logprobs[row, :length].copy(),
                    stop is not None,
                    top_ids,
                    top_logprobs,
                )
            )
        return rows


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class Truncation:
    """What sampling leaves out: see `kept`."""

    top_p: float = 1.0
    min_p: float = 0.0
    top_k: int = 0


def cut_of(sampling: Sampling) -> Truncation:
    """What sampling leaves out; rows of a batch share it."""
    return Truncation(sampling.top_p, sampling.min_p, sampling.top_k)


def row_keys(seed: int, prompt: str, n: int) -> np.ndarray:
    """One uint64 `[n]` for each sample of a prompt, from seed, prompt text and sample index
    alone.
    """
    prompt_hash = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()
    base = hashlib.sha256(f"{seed}:".encode() + prompt_hash).digest()
    return _splitmix(
        np.frombuffer(base[:8], dtype="<u8") ^ _splitmix(np.arange(n, dtype=np.uint64))
    )


def uniforms(keys: np.ndarray, first_step: int, steps: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float64 `[steps, rows]`, multiples of 2⁻³²: the generator of each
    row is splitmix64 started at its key.

    Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", section 4.
    """
    count = np.arange(first_step, first_step + steps, dtype=np.uint64)[:, None]
    return (_splitmix(keys[None, :] + count * _GOLDEN) >> np.uint64(32)).astype(
        np.float64
    ) * 2.0**-32


def _splitmix(state: np.ndarray) -> np.ndarray:
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * _MIX[0]
    state = (state ^ (state >> np.uint64(27))) * _MIX[1]
    return state ^ (state >> np.uint64(31))


def kept(scaled: torch.Tensor, cut: Truncation) -> torch.Tensor:
    """Probabilities `[rows, vocabulary]` with what is left out at 0, not renormalised, from logits
    already divided by the temperature.

    First top-k keeps so many of the likeliest tokens and those that tie with the last of them, then
    top-p the smallest set of likeliest tokens that holds `top_p` (Holtzman et al. 2020,
    section 3.1), then min-p what has at least `min_p` times the probability of the likeliest
    (Nguyen et al. 2024, section 3); both as transformers defines and orders them.
    """
    if 0 < cut.top_k < scaled.shape[-1]:
        least = scaled.topk(cut.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    probabilities = torch.softmax(scaled, dim=-1)
    if cut.top_p < 1.0:
        ordered, index = torch.sort(scaled, dim=-1)
        left_out = torch.softmax(ordered, dim=-1).cumsum(dim=-1) <= 1 - cut.top_p
        left_out[:, -1] = False
        probabilities = probabilities.masked_fill(left_out.scatter(1, index, left_out), 0.0)
    if cut.min_p > 0.0:
        least = cut.min_p * probabilities.amax(dim=-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    return probabilities


def draw(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Inverse of the cumulative distribution: token ids int64 `[rows]` from weights
    `[rows, vocabulary]` and uniforms float64 `[rows]`.
    """
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]


def choose(
    logits: torch.Tensor,
    temperature: torch.Tensor | None,
    cut: Truncation,
    uniform: torch.Tensor | None,
) -> torch.Tensor:
    """The next token int64 `[rows]`.

    logits: float32 `[rows, vocabulary]`. temperature: `[rows]`, 0 for the likeliest token; None
        when every row is greedy.
    """
    if temperature is None or uniform is None:
        return logits.argmax(dim=-1)
    greedy = temperature == 0
    scaled = logits / torch.where(greedy, 1.0, temperature)[:, None]
    return torch.where(greedy, logits.argmax(dim=-1), draw(kept(scaled, cut), uniform))
