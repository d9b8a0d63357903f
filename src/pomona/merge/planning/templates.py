"""Chat templates by name, as recipes ask for them, in Jinja; and the template of a model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pomona.errors import PomonaError, nearest

_EACH = "{% for message in messages %}"
_PROMPT = "{% endfor %}{% if add_generation_prompt %}"
TEMPLATES = {
    "chatml": _EACH
    + "{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' }}"
    "" + _PROMPT + "{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "llama3": "{{ bos_token }}"
    + _EACH
    + "{{ '<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\\n\\n' }}"
    "{{ message['content'] | trim }}{{ '<|eot_id|>' }}"
    + _PROMPT
    + "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    "mistral": "{% set system = messages[0]['content'] ~ '\\n\\n' if messages[0]['role'] == "
    "'system' else '' %}{{ bos_token }}"
    "{% for message in (messages[1:] if system else messages) %}{% if (message['role'] == 'user') "
    "!= (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('after the system message, user and assistant take turns') }}{% endif "
    "%}{% if message['role'] == 'user' %}"
    "{{ ' [INST] ' ~ (system if loop.first else '') ~ message['content'] ~ ' [/INST]' }}"
    "{% else %}{{ ' ' ~ message['content'] ~ eos_token }}{% endif %}{% endfor %}",
    "alpaca": (
        "{% set heads = {'user': 'Instruction', 'assistant': 'Response', 'user_context': "
        "'Input'} %}"
    )
    + _EACH
    + ""
    "{% if message['role'] == 'system' %}{{ message['content'] | trim ~ '\\n\\n' }}{% else %}"
    "{{ '### ' ~ heads[message['role']] ~ ':\\n' ~ message['content'] | trim ~ '\\n\\n' }}{% "
    "endif %}"
    "" + _PROMPT + "{{ '### Response:\\n' }}{% endif %}",
    "exaone": _EACH
    + "{% if loop.first and message['role'] != 'system' %}{{ '[|system|][|endofturn|]\\n' "
    "}}{% endif %}"
    "{{ '[|' ~ message['role'] ~ '|]' ~ message['content'] }}{{ '\\n' if message['role'] == "
    "'user' else '[|endofturn|]\\n' }}"
    "" + _PROMPT + "{{ '[|assistant|]' }}{% endif %}",
}


def template_for(asked: str, folders: Sequence[Path]) -> str | None:
    """The chat template that a recipe asks for: a name, "auto" for the one most models have (the
    first of equals), or Jinja itself.

    None when no model has one. Raises PomonaError for an unknown name.
    """
    if asked == "auto":
        found = [text for folder in folders if (text := _own(folder))]
        return Counter(found).most_common(1)[0][0] if found else None
    if "{" in asked:
        return asked
    if asked not in TEMPLATES:
        remedy = f"{nearest(asked, [*TEMPLATES, 'auto'])}; or write the template itself, in Jinja"
        raise PomonaError(f'unknown chat template "{asked}"', where="chat_template", remedy=remedy)
    return TEMPLATES[asked]


def _own(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    settings = folder / "tokenizer_config.json"
    template = (
        json.loads(settings.read_bytes()).get("chat_template") if settings.is_file() else None
    )
    if isinstance(template, list):
        template = next(
            (item.get("template") for item in template if item.get("name") == "default"), None
        )
    return template.strip() if isinstance(template, str) and template.strip() else None
