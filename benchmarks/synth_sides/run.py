"""`pomona synth run`: python run.py PORT ROWS OUT."""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

from pomona.synth.pipeline import synthesize

port, count, out = sys.argv[1:]
rows = [json.dumps({"text": f"text {at}"}) for at in range(int(count))]
Path("rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
Path("recipe.yaml").write_text(
    f"""
data: {{rows: rows.jsonl, text: text, lang: af, source_lang: en}}
teachers:
  dummy:
    model: "http://127.0.0.1:{port}/v1#dummy"
    prompt: "{{text}}"
    max_tokens: 64
    licence: MIT
    price: [1, 1]
    concurrency: 8
""",
    encoding="utf-8",
)
synthesize("recipe.yaml", "made")
made = pq.read_table("made/rows.parquet", columns=["text", "answer"]).to_pydict()
told = dict(zip(made["text"], made["answer"], strict=True))
Path(out).write_text(json.dumps(told), encoding="utf-8")
