"""distilabel's `TextGeneration` over `OpenAILLM`: python distilabel.py PORT ROWS OUT."""

import json
import logging
import sys
from pathlib import Path

sys.path.pop(0)  # this file has the name of the package

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    port, count, out = sys.argv[1:]
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with Pipeline("benchmark", cache_dir="cache") as pipeline:
        data = [{"instruction": f"text {at}"} for at in range(int(count))]
        rows = LoadDataFromDicts(data=data, batch_size=50)
        llm = OpenAILLM(
            model="dummy",
            base_url=f"http://127.0.0.1:{port}/v1",
            api_key="none",
            generation_kwargs={"max_new_tokens": 64, "temperature": 0.0},
        )
        rows >> TextGeneration(llm=llm, input_batch_size=50)
    made = pipeline.run(use_cache=False)["default"]["train"]
    told = {row["instruction"]: row["generation"] for row in made}
    Path(out).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
