"""What two distributions over the next token have to do with each other, position by position:
known whole as logits, or by their likeliest tokens and the mass of all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

_AT_ONCE = 8  # positions: what is computed of them stays in a processor's cache


@dataclass(frozen=True)
class Known:
    """What is known of n distributions of which not all is: `ids` int64 and `logprobs` float64
    `[n, k]` of the likeliest tokens, best first; the mass `tail` of all others and the
    log-probability `target` of the true token, float64 `[n]`.
    """

    ids: torch.Tensor
    logprobs: torch.Tensor
    tail: torch.Tensor
    target: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice) -> Known:
        return Known(*(getattr(self, field.name)[rows] for field in fields(self)))


Block = torch.Tensor | Known  # logits `[n, vocabulary]`, or what is known


@dataclass(frozen=True)
class Tokens:
    """Of n true tokens, each array `[n]`: KL(A‖B) in nats, at least and at most (equal where both
    distributions are known whole); the log-probability under both; whether each has the true token
    on top; whether both have the same token there.
    """

    kl_low: NDArray[np.float64]
    kl_high: NDArray[np.float64]
    logprob_a: NDArray[np.float64]
    logprob_b: NDArray[np.float64]
    right_a: NDArray[np.bool_]
    right_b: NDArray[np.bool_]
    same_top: NDArray[np.bool_]

    @staticmethod
    def joined(parts: list[Tokens]) -> Tokens:
        """All of them in order."""
        names = [field.name for field in fields(Tokens)]
        return Tokens(*(np.concatenate([getattr(part, n) for part in parts]) for n in names))


@torch.inference_mode()
def measured(a: Block, b: Block, targets: NDArray[np.integer]) -> Tokens:
    """The true tokens `[n]` under both distributions of each position."""
    whole = [side for side in (b, a) if isinstance(side, torch.Tensor)]
    device = whole[0].device if whole else None
    wanted = torch.as_tensor(np.asarray(targets, np.int64), device=device)
    parts = []
    for rows in _slices(len(wanted)):
        first, second = (_logprobs(side[rows], device) for side in (a, b))
        low, high = bounds(first, second)
        tops = [_top(side) for side in (first, second)]
        own = [logprob_of(side, wanted[rows]) for side in (first, second)]
        right = [top == wanted[rows] for top in tops]
        parts.append(
            Tokens(*(t.cpu().numpy() for t in (low, high, *own, *right, tops[0] == tops[1])))
        )
    return Tokens.joined(parts)


@torch.inference_mode()
def losses(block: Block, targets: NDArray[np.integer]) -> NDArray[np.float64]:
    """-ln p of each true token, `[n]`."""
    device = block.device if isinstance(block, torch.Tensor) else None
    wanted = torch.as_tensor(np.asarray(targets, np.int64), device=device)
    parts = [
        -logprob_of(_logprobs(block[rows], device), wanted[rows]) for rows in _slices(len(wanted))
    ]
    return torch.cat(parts).cpu().numpy()


@torch.inference_mode()
def top_of(logits: torch.Tensor, targets: NDArray[np.integer], k: int) -> Known:
    """What is kept of whole distributions: their `k` likeliest tokens, and the mass of the rest
    summed over the rest, since one minus the others would be rounding where that is small.
    """
    wanted, parts = torch.as_tensor(np.asarray(targets, np.int64)), []
    for rows in _slices(len(wanted)):
        part = logits[rows].cpu()
        logprobs = part.to(torch.promote_types(part.dtype, torch.float32)).log_softmax(1)
        best = logprobs.topk(min(k, logprobs.shape[1]), dim=1)
        rest = logprobs.scatter(1, best.indices, -torch.inf).double().exp().sum(1)
        parts.append((best.indices, best.values.double(), rest, logprob_of(logprobs, wanted[rows])))
    return Known(*(torch.cat(column) for column in zip(*parts, strict=True)))


def bounds(a: Block, b: Block) -> tuple[torch.Tensor, torch.Tensor]:
    """The least and the most that KL(A‖B) can be in nats, float64 `[n]`, of log-probabilities
    `[n, vocabulary]` or what is known of them.

    Least: all tokens that are not known of both count as one, and merging outcomes never adds
    divergence (the log-sum inequality; Cover & Thomas 2006, §2.7). Most, where B is known whole:
    the tail of A is convex in its probabilities, of which none exceeds the least of the kept ones,
    so that it is largest with as many at that as its mass allows, on the tokens that B finds least
    likely. Where B is not known whole, its tail may come as close to zero as it likes: infinite.
    """
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        exact = _divergence(a, b)
        return exact, exact
    if isinstance(a, Known) and isinstance(b, torch.Tensor):
        own, others = a.logprobs, b.gather(1, a.ids).double()
        masked = b.scatter(1, a.ids, -torch.inf).double()
        head = _terms(own, others).sum(1)
        low = head + _term(a.tail, masked.logsumexp(1))
        return low.clamp_min(0), head + _most(a.tail, own[:, -1].exp(), masked, a.ids)
    if isinstance(a, torch.Tensor) and isinstance(b, Known):
        own, rest = a.gather(1, b.ids).double(), a.scatter(1, b.ids, -torch.inf).double()
        low = _terms(own, b.logprobs).sum(1) + _term(rest.exp().sum(1), b.tail.log())
    else:
        low = _least_of_known(a, b)  # pyright: ignore[reportArgumentType]
    return low.clamp_min(0), torch.full_like(low, torch.inf)


def _divergence(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    probabilities = a.exp()
    terms = probabilities * (a - b)
    total = terms.sum(1, dtype=torch.float64)
    if not bool(torch.isfinite(total).all()):  # a token that A excludes adds nothing
        total = torch.where(probabilities > 0, terms, 0).sum(1, dtype=torch.float64)
    return total.clamp_min(0)  # it is never below, and rounding may be


def _least_of_known(a: Known, b: Known) -> torch.Tensor:
    same = a.ids[:, :, None] == b.ids[:, None, :]
    both, found = same.any(2), same.to(torch.int8).argmax(2)
    others = b.logprobs.gather(1, found)
    head = torch.where(both, _terms(a.logprobs, others), 0).sum(1)
    rest_a = a.tail + torch.where(both, 0, a.logprobs.exp()).sum(1)
    rest_b = b.tail + torch.where(same.any(1), 0, b.logprobs.exp()).sum(1)
    return head + _term(rest_a, rest_b.log())


def _most(
    tail: torch.Tensor, least: torch.Tensor, masked: torch.Tensor, kept: torch.Tensor
) -> torch.Tensor:
    """The most that a tail of A can add, of which no token has more than `least`."""
    costs = (-masked).scatter(1, kept, -torch.inf)
    room = costs.shape[1] - kept.shape[1]
    if not room:
        return torch.zeros_like(tail)
    least = least.clamp_min(torch.finfo(torch.float64).tiny)
    whole = (tail / least).floor().clamp(0, room - 1).long()
    dearest = costs.topk(int(whole.max()) + 1, dim=1).values
    sums = torch.nn.functional.pad(dearest.cumsum(1), (1, 0)).gather(1, whole[:, None])[:, 0]
    left = (tail - whole * least).clamp_min(0)
    more = torch.where(left > 0, left * dearest.gather(1, whole[:, None])[:, 0], 0)
    filled = torch.where(whole > 0, least * sums, 0)
    return (
        whole * torch.special.xlogy(least, least) + filled + torch.special.xlogy(left, left) + more
    )


def _terms(own: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """p ln(p / q) of log-probabilities, 0 where p is."""
    own = own.double()
    return torch.where(own > -torch.inf, own.exp() * (own - others), 0)


def _term(mass: torch.Tensor, log_other: torch.Tensor) -> torch.Tensor:
    """P ln(P / Q) of the mass P and ln Q, 0 where P is."""
    return torch.special.xlogy(mass, mass) - torch.where(mass > 0, mass * log_other, 0)


def logprob_of(block: Block, targets: torch.Tensor) -> torch.Tensor:
    """The log-probability of each true token, float64 `[n]`."""
    if isinstance(block, Known):
        return block.target
    return block.gather(1, targets[:, None])[:, 0].double()


def _top(block: Block) -> torch.Tensor:
    return block.ids[:, 0] if isinstance(block, Known) else block.argmax(1)


def _logprobs(block: Block, device: torch.device | None) -> Block:
    if isinstance(block, Known):
        return block if device is None else Known(*(_moved(block, device)))
    block = block.to(device).to(torch.promote_types(block.dtype, torch.float32))
    return block.log_softmax(1)


def _moved(block: Known, device: torch.device) -> Iterator[torch.Tensor]:
    return (getattr(block, field.name).to(device) for field in fields(block))


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, start + _AT_ONCE) for start in range(0, n, _AT_ONCE))
