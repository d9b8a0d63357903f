"""NeMo Data Designer's column of text: python data_designer.py PORT ROWS OUT."""

import json
import sys
from pathlib import Path

sys.path.pop(0)  # this file has the name of the package

import pandas as pd
from data_designer import config
from data_designer.interface import DataDesigner

port, count, out = sys.argv[1:]
provider = config.ModelProvider(
    name="dummy", endpoint=f"http://127.0.0.1:{port}/v1", api_key="none"
)
parameters = config.ChatCompletionInferenceParams(
    max_parallel_requests=8, max_tokens=64, temperature=0.0
)
model = config.ModelConfig(
    alias="m",
    model="dummy",
    provider="dummy",
    inference_parameters=parameters,
    skip_health_check=True,
)
builder = config.DataDesignerConfigBuilder(model_configs=[model])
texts = pd.DataFrame({"text": [f"text {at}" for at in range(int(count))]})
builder.with_seed_dataset(config.DataFrameSeedSource(df=texts))
builder.add_column(config.LLMTextColumnConfig(name="answer", prompt="{{ text }}", model_alias="m"))
designer = DataDesigner(artifact_path=Path("made"), model_providers=[provider])
made = designer.create(builder, num_records=int(count)).load_dataset()
told = dict(zip(made["text"], made["answer"], strict=True))
Path(out).write_text(json.dumps(told), encoding="utf-8")
