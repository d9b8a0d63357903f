"""The same figures from `llama-perplexity --kl-divergence` and from `pomona forget compare`, on the
same GGUF files and text: some of the strings of examples/languages.jsonl.

    python experiments/forget/llama_perplexity.py llama-perplexity A.gguf B.gguf --out OUT.json

llama-perplexity is that of the llama.cpp that the installed xllamacpp is built from. It was made of
the source distribution of xllamacpp by compiling tools/perplexity/*.cpp of its llama.cpp with
-D_GLIBCXX_USE_CXX11_ABI=0 and linking it with the library of the wheel, libpython preloaded.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

from pomona.files import write_text
from pomona.forget import compare_models
from pomona.records import read

PRINTED = {
    "loss_a": r"Mean PPL\(base\)",
    "loss_b": r"Mean PPL\(Q\)",
    "kl": "Mean    KLD",
    "kl_99": "99.0%   KLD",
    "kl_median": "Median  KLD",
    "kl_maximum": "Maximum KLD",
    "delta_p": "Mean    Δp",
    "delta_p_rms": "RMS Δp",
    "same_top": "Same top p",
}


def theirs(program: str, a: Path, b: Path, text: str, context: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        file, base = Path(folder, "text.txt"), Path(folder, "base")
        file.write_text(text, encoding="utf-8")
        common = [program, "-c", str(context), "-b", str(context), "-t", "1"]
        common += ["--kl-divergence-base", str(base)]
        subprocess.run([*common, "-m", str(a), "-f", str(file)], check=True, capture_output=True)
        command = [*common, "-m", str(b), "--kl-divergence"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {
        name: float(re.search(rf"^\s*{label}\s*:\s*(-?[\d.]+)", said, re.MULTILINE)[1])  # type: ignore
        for name, label in PRINTED.items()
    }
    percent = ("delta_p", "delta_p_rms", "same_top")
    told = {name: value / 100 if name in percent else value for name, value in found.items()}
    return told | {name: math.log(told[name]) for name in ("loss_a", "loss_b")}


def ours(a: Path, b: Path, text: str, context: int) -> dict[str, float | None]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "text.txt")
        file.write_text(text, encoding="utf-8")
        told = compare_models(
            f"gguf:{a}", f"gguf:{b}", text=file, windows="llama.cpp", context=context
        ).overall
    assert told.kl and told.kl_quantiles and told.kl_maximum
    assert told.delta_p and told.delta_p_rms and told.same_top
    return {
        "tokens": told.n,
        "loss_a": told.loss_a,
        "loss_b": told.loss_b,
        "kl": told.kl.value,
        "kl_99": told.kl_quantiles["99"].value,
        "kl_median": told.kl_quantiles["median"].value,
        "kl_maximum": told.kl_maximum.value,
        "delta_p": told.delta_p.value,
        "delta_p_rms": told.delta_p_rms.value,
        "same_top": told.same_top.value,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--every", type=int, default=13, help="of how many strings one is taken")
    given = parser.parse_args()
    strings = read("examples/languages.jsonl").to_table()["text"].to_pylist()
    text = "\n".join(strings[:: given.every]) + "\n"
    result = {
        "a": given.a.name,
        "b": given.b.name,
        "context": given.context,
        "every": given.every,
        "xllamacpp": version("xllamacpp"),
        "llama_perplexity": theirs(given.program, given.a, given.b, text, given.context),
        "pomona": ours(given.a, given.b, text, given.context),
    }
    write_text(given.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
