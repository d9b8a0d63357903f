"""What the compute of a training would buy otherwise: tokens served, samples of an answer, another
number of parameters, another number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pomona.models import Shape, decode_flops, inference_flops, prefill_flops
from pomona.scale.laws.forms import PUBLISHED, best_params

TOKENS_PER_PARAMETER = 20  # Hoffmann et al. (2022), as their three approaches are remembered


@dataclass(frozen=True)
class Answering:
    """How answers are given: tokens of a prompt and an answer, samples of each, answers in all."""

    prompt: int
    answer: int
    samples: int
    answers: int


@dataclass(frozen=True)
class Equivalents:
    """FLOPs where a name ends so; None where what it follows from is not known.

    served_tokens, served_answers: as many as cost what the training took; the answers with
        `samples` each. answer_flops: one answer of one sample; sampled_flops: of all samples.
    sampled_parameters: of a model whose one answer costs as much as all samples of this one: as
        many times its own as the samples cost more.
    answers_flops: all answers with their samples; moved: training with them by training alone.
    tokens_by_rule, tokens_by_law: of a training that spends its compute best at this size, by 20
        tokens a parameter and by the law of Besiroglu et al.
    """

    answering: Answering
    served_tokens: float | None
    served_answers: float | None
    answer_flops: float
    sampled_flops: float
    sampled_parameters: float
    answers_flops: float
    moved: float | None
    tokens_by_rule: float
    tokens_by_law: float


@dataclass(frozen=True)
class Rival:
    """A larger model: samples of the smaller one that cost no more than one answer of it, and the
    answers from which on the smaller one with all its samples costs more in all; None where a
    training is not known, or never.
    """

    model: str
    answer_flops: float
    samples: int
    dearer_from: float | None


def equivalents(
    shape: Shape, forward: float, training: float | None, answering: Answering
) -> Equivalents:
    """The equivalents of a training, `forward` FLOPs a token of what it serves."""
    one, many = (_answer(shape, answering, n) for n in (1, answering.samples))
    return Equivalents(
        answering,
        served_tokens=None if training is None else training / forward,
        served_answers=None if training is None else training / many,
        answer_flops=one,
        sampled_flops=many,
        sampled_parameters=shape.parameters * many / one,
        answers_flops=answering.answers * many,
        moved=None if not training else 1 + answering.answers * many / training,
        tokens_by_rule=TOKENS_PER_PARAMETER * float(shape.parameters),
        tokens_by_law=best_tokens(shape.parameters),
    )


def rival(
    shape: Shape,
    training: float | None,
    answering: Answering,
    other: tuple[str, Shape, float | None],
) -> Rival:
    """A larger model beside more samples of this one."""
    name, larger, its_training = other
    budget = _answer(larger, answering, 1)
    read = float(prefill_flops(shape, answering.prompt))
    each = float(decode_flops(shape, answering.prompt, answering.answer))
    samples = int((budget - read) / each) if each else 0
    more = _answer(shape, answering, answering.samples) - budget
    dearer = None
    if training is not None and its_training is not None and more > 0:
        dearer = max(its_training - training, 0) / more
    return Rival(name, budget, max(samples, 0), dearer)


def best_tokens(parameters: float) -> float:
    """Tokens at which a training of this size spends its compute best, by the law of Besiroglu et
    al.: the law is the same in both, so that they change places.
    """
    law = PUBLISHED["besiroglu"]
    return float(best_params((law.B, law.A), law.beta, law.alpha, np.array(parameters, np.float64)))


def _answer(shape: Shape, answering: Answering, samples: int) -> float:
    return float(inference_flops(shape, answering.prompt, answering.answer, samples))
