"""What mergekit-moe's YAML says: a base, experts with the prompts that shall go to them, how gates
are set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from pomona.documents import StrictModel, problems, read_model
from pomona.errors import nearest
from pomona.merge.reading.reader import DTYPES
from pomona.merge.reading.recipe import ModelRef, parse_model

RANDOM = ("random", "uniform_random")
KINDS = ("mixtral", "qwen2_moe", "qwen3_moe", "deepseek")


def _reference(value: Any) -> Any:
    try:
        parse_model(value)
    except ValueError as error:
        raise problems([((), str(error))]) from None
    return value


def _dtype(value: str) -> str:
    if value.removeprefix("torch.") not in DTYPES:
        raise problems([((), f'unknown dtype "{value}": {nearest(value, DTYPES)}')])
    return value


Reference = Annotated[str | dict[str, Any], AfterValidator(_reference)]


class ExpertSection(StrictModel):
    """A dense model whose MLPs are one expert in every layer."""

    source_model: Reference
    positive_prompts: list[str] | None = None
    """Texts that shall go to it."""
    negative_prompts: list[str] | None = None
    """Texts that shall not."""
    noise_scale: float | None = None
    """Standard deviation of noise that is added to its weights."""
    residual_scale: float | None = None
    """What its down projections are multiplied by."""

    @property
    def model(self) -> ModelRef:
        """The model it comes from."""
        return parse_model(self.source_model)


class MoeConfiguration(StrictModel):
    """The configuration of a mixture, as mergekit-moe reads it."""

    base_model: Reference
    experts: Annotated[list[ExpertSection], Field(min_length=1)]
    gate_mode: Literal[
        "hidden", "hidden_avg", "hidden_last", "cheap_embed", "random", "uniform_random"
    ] = "hidden"
    dtype: Annotated[str, AfterValidator(_dtype)] | None = None
    experts_per_token: Annotated[int, Field(ge=1)] = 2
    shared_experts: list[ExpertSection] | None = None
    architecture: str | None = None
    """mixtral, qwen, qwen3 or deepseek; by the models where it is left out."""

    @model_validator(mode="after")
    def _fits(self) -> MoeConfiguration:
        wrong: list[tuple[tuple[str | int, ...], str]] = []
        count = len(self.experts)
        if count < self.experts_per_token:
            text = f'"experts_per_token" is {self.experts_per_token}, and there are {count} experts'
            wrong.append((("experts_per_token",), text))
        if len(self.shared_experts or []) > 1:
            text = "give one shared expert: no network here has more"
            wrong.append((("shared_experts",), text))
        sections = [("experts", at, one) for at, one in enumerate(self.experts)]
        sections += [
            ("shared_experts", at, one) for at, one in enumerate(self.shared_experts or [])
        ]
        # A shared expert without prompts is one without a gate, which DeepSeek's is.
        free = not self.architecture or self.architecture.lower().startswith("deepseek")
        for section, at, one in sections if self.gate_mode not in RANDOM else ():
            gateless = section == "shared_experts" and free and not one.negative_prompts
            if not one.positive_prompts and not gateless:
                text = f'"positive_prompts" is missing: gate_mode {self.gate_mode} needs them'
                wrong.append(((section, at), text))
        prompts = {
            (*(e.positive_prompts or ()), None, *(e.negative_prompts or ())) for e in self.experts
        }
        if not wrong and self.gate_mode not in RANDOM and count > 1 and len(prompts) == 1:
            text = "all experts have the same prompts, so that all gates would be the same"
            wrong.append((("experts",), text))
        if wrong:
            raise problems(wrong)
        return self

    @property
    def base(self) -> ModelRef:
        """The model that gives all but the experts."""
        return parse_model(self.base_model)

    @property
    def members(self) -> list[ExpertSection]:
        """The experts, then the shared one."""
        return [*self.experts, *(self.shared_experts or [])]


def read_configuration(path: Path) -> MoeConfiguration:
    """Read a configuration. Raises PomonaError with all mistakes and their lines."""
    kind = "configuration of a mixture"
    return read_model(path, MoeConfiguration, kind=kind, example="docs/merging.md")
