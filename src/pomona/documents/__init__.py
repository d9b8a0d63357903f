"""JSON and YAML that a user or another program wrote: read within limits, and every mistake told
with its file and line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.documents.json_file import (
        open_file as open_file,
        parse_json as parse_json,
        read_json as read_json,
    )
    from pomona.documents.strict_model import (
        StrictModel as StrictModel,
        model_of as model_of,
        problems as problems,
        read_model as read_model,
    )
    from pomona.documents.yaml_file import (
        Document as Document,
        compose as compose,
        compose_all as compose_all,
        read_text as read_text,
        read_yaml as read_yaml,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "json_file": "open_file parse_json read_json",
        "strict_model": "StrictModel model_of problems read_model",
        "yaml_file": "Document compose compose_all read_text read_yaml",
    },
)
