from __future__ import annotations

import json
from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pomona.errors import PomonaError
from pomona.merge.planning.result import TEMPLATES, template_for

TALK = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "ok"},
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "chatml",
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n",
        ),
        ("mistral", "<s> [INST] S\n\nhi [/INST] ok</s>"),
        ("alpaca", "S\n\n### Instruction:\nhi\n\n### Response:\nok\n\n"),
        ("exaone", "[|system|]S[|endofturn|]\n[|user|]hi\n[|assistant|]ok[|endofturn|]\n"),
        (
            "llama3",
            "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nok<|eot_id|>",
        ),
    ],
)
def test_templates_by_name(name: str, expected: str) -> None:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    assert (
        environment.from_string(TEMPLATES[name]).render(
            messages=TALK, bos_token="<s>", eos_token="</s>"
        )
        == expected
    )


def test_auto_takes_what_most_models_have_and_the_first_of_equals(tmp_path: Path) -> None:
    for name, template in (("a", "{{1}}"), ("b", "{{2}}"), ("c", "{{2}} "), ("d", None)):
        (tmp_path / name).mkdir()
        if template:
            (tmp_path / name / "tokenizer_config.json").write_text(
                json.dumps({"chat_template": template})
            )
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "chat_template.jinja").write_text("{{1}}")
    assert template_for("auto", [tmp_path / name for name in "abcd"]) == "{{2}}"
    assert template_for("auto", [tmp_path / name for name in "abcde"]) == "{{1}}"
    assert template_for("auto", [tmp_path / "d"]) is None
    assert template_for("{{ messages }}", []) == "{{ messages }}"


def test_an_unknown_template() -> None:
    with pytest.raises(
        PomonaError,
        match=(
            r'unknown chat template "chatlm" — did you mean "chatml"\?; or write the template '
            r"itself"
        ),
    ):
        template_for("chatlm", [])
