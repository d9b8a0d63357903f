"""What options of other programs are called here, for those who come with their command lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_NEEDLESS = "leave it out:"
# mergekit 0.1.5: mergekit-yaml CONFIG OUT [OPTIONS]
_MERGEKIT = {
    "allow-crimes": "give --allow-mixed",
    "out-shard-size": "give --shard-size, such as --shard-size 5GB",
    "random-seed": "give --seed",
    "num-threads": "give --threads",
    "low-cpu-memory": "give --memory, such as --memory 512MB",
    "copy-tokenizer": f"{_NEEDLESS} the tokenizer always goes along",
    "lazy-unpickle": f"{_NEEDLESS} safetensors are read a part at a time, and pickles never",
    "unsafe-truncate-embeddings": "write tokenizer_source: union or base into the recipe",
    "trust-remote-code": f"{_NEEDLESS} no code of a model is run, it only goes along",
    "safe-serialization": f"{_NEEDLESS} safetensors are all that is written",
    "write-model-card": f"{_NEEDLESS} a card is always written",
    "transformers-cache": "set HF_HOME, where models of Hugging Face are kept",
    "lora-merge-cache": f"{_NEEDLESS} adapters are laid on their models beside OUT",
    "lora-merge-dtype": f"{_NEEDLESS} adapters are added in float32, and rounded once",
    "async-write": f"{_NEEDLESS} tensors are written while others are read",
    "write-threads": "give --threads",
    "clone-tensors": f"{_NEEDLESS} tensors that are shared are written once",
    **dict.fromkeys(
        ("cuda", "device", "read-to-gpu", "multi-gpu", "gpu-rich"),
        f"{_NEEDLESS} merging runs on the processor, as fast as files are read",
    ),
    **dict.fromkeys(
        ("verbose", "verbosity", "quiet"), f"{_NEEDLESS} progress is shown on a terminal"
    ),
}


def hints(chain: Sequence[str], tokens: Sequence[str]) -> list[str]:
    """A line for each option of another program among the arguments of a command; none where there
    is none.
    """
    return list(_mergekit(tokens)) if tuple(chain) == ("merge",) else []


def _mergekit(tokens: Sequence[str]) -> Iterator[str]:
    for token in dict.fromkeys(token.partition("=")[0] for token in tokens):
        name = token.removeprefix("--").removeprefix("no-").replace("_", "-")
        if token.startswith("--") and name in _MERGEKIT:
            yield f"{token} is an option of mergekit — {_MERGEKIT[name]}"
