"""Damaged input for every reader: is it read or refused by name, at once, and without growing?

    python scripts/fuzz.py [--seconds 60] [--seed 0] [--keep FOLDER] [--results FILE] [READER …]

Each reader gets valid input with random changes: bytes, and values of JSON. Only a PomonaError may
come of it. Printed for each are executions, how many were refused, the slowest input and the growth
of memory after the first tenth; what raised anything else, or took longer than a second, is kept in
FOLDER, and the exit code is 1. Seconds are those of the processor, so that other work beside it
takes nothing away. With FILE, what came of each reader is added to it as a line of JSON, and
readers that had as many seconds with this seed are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import bz2
import copy
import gzip
import io
import json
import lzma
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pomona.arena import judge, prioritize
from pomona.errors import GateFailed, PomonaError
from pomona.synth import annotate, plan_targets

# Where a library in Rust gives up, the names of its own calls are looked up once: 50 MB.
os.environ["RUST_BACKTRACE"] = "0"
SLOW, HANG = 1.0, 20  # seconds of a processor; of a clock, after which an input is given up
Files = dict[str, bytes]
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 16, 2**31, 2**63, 2**64, 10**30, 0.0, 8.0, -0.5, 1e308),
    *(float("nan"), float("inf"), "", "16", "x", "\0", "..", "/", "a/b", "\u2028", "F32", "union"),
    *([], {}, [[]], [{}], {"": {}}, [0, 8], [8, 0], [1, -1], ["x"], {"x": 5}, [None], "9" * 5000),
)
PIECES = (
    *(b"\xff", b"\0", b"{", b"[", b"]", b"}", b'"', b",", b":", b"\n", b"- ", b"? ", b"&a ", b"*a"),
    *(b"!!int ", b"!!set ", b"<<: ", b"|", b"---\n", b"\\ud800", b"NaN", b"1e999", b"9" * 5000),
    *(b"[" * 3000, b"{a: " * 500, b"- " * 3000, b"2024-01-01", b"\xef\xbb\xbf", b"\r", b"\t"),
)


@dataclass
class Reader:
    """`files` are a valid input; `read` reads the folder that holds them."""

    files: Files
    read: Callable[[Path], Any]
    changed: tuple[str, ...] = ()  # names of files that are changed; all when left out


def safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A file of tensors."""
    kinds = {"f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i1": "I8", "u1": "U8"}
    header, offset = {}, 0
    for name, values in tensors.items():
        places = [offset, offset + values.nbytes]
        kind = kinds[values.dtype.str[1:]]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": places}
        offset += values.nbytes
    return framed(json.dumps(header).encode()) + b"".join(map(np.ndarray.tobytes, tensors.values()))


def framed(header: bytes) -> bytes:
    """A header with its length."""
    return len(header).to_bytes(8, "little") + header


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 4,
    "vocab_size": 4,
    "rope_scaling": {"type": "linear", "factor": 2.0},
    "layer_types": ["full", "sliding"],
    "attention_types": [[["global", "local"], 1]],
    "moe_layers_enum": "0,1",
    "hybrid_override_pattern": "M*",
    "decoder_sparse_step": 1,
    "mlp_only_layers": [1],
    "first_k_dense_replace": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [{"id": 3, "content": "</s>", "special": True, **FLAGS}],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
}
SETTINGS = {
    "eos_token": "</s>",
    "added_tokens_decoder": {"3": {"content": "</s>", "special": True}},
    "chat_template": [{"name": "default", "template": "{{ 1 }}"}],
}
MIXTURE = {
    "model_type": "deepseek_v3", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
    "moe_intermediate_size": 8, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 8,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "kv_lora_rank": 8,
    "first_k_dense_replace": 1, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4,
    "q_lora_rank": 8, "layer_types": ["full_attention"] * 3, "max_position_embeddings": 64,
    "tie_word_embeddings": True, "architectures": ["DeepseekV3ForCausalLM"],
}  # fmt: skip
LAYERS = {f"model.layers.{n}.q.weight": np.ones((4, 4), np.float32) for n in range(2)}
OUTER = {"model.embed_tokens.weight": np.ones((4, 4), np.float32)}
ADAPTER = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "alpha_pattern": {"q": 2},
    "rank_pattern": {},
    "trainable_token_indices": [1],
    "init_lora_weights": "pissa",
    "target_parameters": ["experts.up"],
}
STATE = b'{"quant_type": "nf4", "blocksize": 8, "shape": [4, 8], "nested_blocksize": 2, "nested_offset": 0.5}'
QUANTISED: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    (
        {"quant_method": "gptq", "bits": 4, "group_size": 8, "checkpoint_format": "gptq"},
        {
            "q.qweight": np.ones((2, 8), np.int32),
            "q.qzeros": np.ones((2, 1), np.int32),
            "q.scales": np.ones((2, 8), np.float16),
            "q.g_idx": np.arange(16, dtype=np.int32) // 8,
        },
    ),
    (
        {"quant_method": "awq", "bits": 4, "group_size": 8, "version": "gemm"},
        {"q.qweight": np.ones((16, 1), np.int32), "q.scales": np.ones((2, 8), np.float16)},
    ),
    (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 8}}},
        },
        {
            "q.weight_packed": np.ones((8, 2), np.int32),
            "q.weight_scale": np.ones((8, 2), np.float32),
            "q.weight_shape": np.array([8, 16]),
            "q.weight_zero_point": np.ones((1, 2), np.int32),
            "k.weight": np.ones((4, 8), np.int8),
            "k.weight_scale": np.ones((4, 1), np.float32),
        },
    ),
    (
        {"quant_method": "fp8", "weight_block_size": [2, 4]},
        {"q.weight": np.ones((4, 8), np.int8), "q.weight_scale_inv": np.ones((2, 2), np.float32)},
    ),
    (
        {"quant_method": "mxfp4"},
        {
            "q.w_blocks": np.ones((2, 4, 2, 16), np.uint8),
            "q.w_scales": np.ones((2, 4, 2), np.uint8),
        },
    ),
    (
        {"quant_method": "compressed-tensors"},
        {
            "q.weight_packed": np.ones((4, 16), np.uint8),
            "q.weight_scale": np.full((4, 1), 120, np.uint8),
        },
    ),
    (
        {
            "quant_method": "aqlm",
            "num_codebooks": 2,
            "nbits_per_codebook": 8,
            "out_group_size": 2,
            "in_group_size": 4,
        },
        {
            "q.codes": np.ones((4, 2, 2), np.int8),
            "q.codebooks": np.ones((2, 256, 2, 4), np.float16),
            "q.scales": np.ones((4, 1, 1, 1), np.float16),
        },
    ),
    (
        {"quant_method": "hqq"},
        {
            "q.W_q": np.ones((2, 8), np.int32),
            "q.scale": np.ones((16, 1), np.float16),
            "q.zero": np.ones((16, 1), np.float16),
            "q.shape": np.array([16, 8]),
            "q.axis": np.array(1, np.int32),
            "q.packing": np.frombuffer(b"3bit_32", np.uint8),
            "q.quant_zero": np.array(0, np.uint8),
        },
    ),
    (
        {"quant_method": "bitsandbytes"},
        {
            "q.weight": np.ones((16, 1), np.uint8),
            "q.weight.absmax": np.ones(4, np.uint8),
            "q.weight.quant_map": np.ones(16, np.float32),
            "q.weight.nested_absmax": np.ones(2, np.float32),
            "q.weight.nested_quant_map": np.ones(256, np.float32),
            "q.weight.quant_state.bitsandbytes__nf4": np.frombuffer(STATE, np.uint8),
        },
    ),
)
MERGEKIT = """merge_method: ties
base_model: a
models:
- {model: a, parameters: {weight: [{filter: mlp, value: 0.5}, {value: 1}], density: 0.5}}
- &b {model: b+c, parameters: {weight: 1}}
- {<<: *b, model: d}
tokenizer: {source: union, tokens: {x: {source: {kind: zero}, force: true}}}
key_map: auto
seed: 5
"""
SLICED = """merge_method: passthrough
slices:
- sources: [{model: a, layer_range: [0, 2]}]
- sources: [{model: a, layer_range: [1, 2], parameters: {scale: 0.5}}]
"""


def llama(model: Files) -> Files:
    """A model that transformers loads."""
    config = {**CONFIG, "intermediate_size": 4, "num_key_value_heads": 2, "hidden_act": "silu"}
    for key in ("rope_scaling", "layer_types"):
        del config[key]
    tensors: dict[str, Any] = {"model.norm.weight": np.ones(4, np.float32)}
    for name in ("model.embed_tokens", "lm_head"):
        tensors[f"{name}.weight"] = np.ones((4, 4), np.float32)
    square = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
    for layer in range(2):
        for part in (*square, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
            tensors[f"model.layers.{layer}.{part}.weight"] = np.ones((4, 4), np.float32)
        for part in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{part}.weight"] = np.ones(4, np.float32)
    return {**model, "config.json": dump(config), "model.safetensors": safetensors(tensors)}


def dump(value: Any) -> bytes:
    """A value as JSON."""
    return json.dumps(value).encode()


def asked(folder: Path) -> None:
    """Ask an upstream that says what the files of the folder hold, for everything there is."""
    import httpx

    from pomona.models import Request, RetryPolicy
    from pomona.models.http import HttpModel

    chat = Request(messages=({"role": "user", "content": "hi"},), max_tokens=4, logprobs=1)
    plain = Request(prompt="hi", max_tokens=4, options=("yes", "no"))

    def said(request: httpx.Request) -> httpx.Response:
        body, name = json.loads(request.content), request.url.path.rpartition("/")[2]
        file = "stream" if body.get("stream") else "text" if "prompt" in body else name
        return httpx.Response(200, content=(folder / file).read_bytes())

    async def ask() -> None:
        once = RetryPolicy(attempts=1)
        model = HttpModel("http://127.0.0.1:1/v1#m", policy=once)
        held = model.client
        held._client = httpx.AsyncClient(base_url=held.base, transport=httpx.MockTransport(said))

        async def streamed() -> None:
            async for _ in model.stream(chat, [(0, 0.0), (1, 0.0)]):
                pass

        works = (
            lambda: model.reply(chat, [(0, 0.0), (1, 0.0)]),
            lambda: model.reply(plain, [(0, 0.0)]),
            streamed,
            lambda: model.vectors(["a", "b"]),
        )
        refused = None
        for work in works:
            try:
                await work()
            except PomonaError as error:
                refused = error
        await model.close()
        if refused is not None:
            raise refused

    asyncio.run(ask())


def upstream() -> Files:
    """What an upstream says well."""
    token = {"token": "a", "logprob": -0.5, "bytes": [97]}
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    said = {"role": "assistant", "content": "a", "reasoning_content": "b", "tool_calls": [call]}
    choices = [
        {
            "index": index,
            "message": said,
            "finish_reason": "stop",
            "logprobs": {"content": [{**token, "top_logprobs": [token]}]},
        }
        for index in range(2)
    ]
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    text = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5}]}
    pieces = [{**one, "delta": one["message"]} for one in choices]
    events = [{"choices": [piece], "usage": usage} for piece in pieces]
    return {
        "completions": dump({"choices": choices, "usage": usage}),
        "text": dump({"choices": [{"text": "yes", "finish_reason": "stop", "logprobs": text}]}),
        "stream": b"".join(b"data: " + dump(one) + b"\n\n" for one in events) + b"data: [DONE]\n\n",
        "embeddings": dump(
            {"data": [{"index": at, "embedding": [3, 4.0]} for at in (0, 1)], "usage": usage}
        ),
    }


def tables() -> Files:
    """The same rows in every format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": str(n), "text": "a b", "n": n, "x": [n, None], "s": {"k": 1}} for n in range(9)]
    table, made = pa.Table.from_pylist(rows), {}
    lines = b"\n".join(map(dump, rows))
    for name, kind in (("r.arrow", pa.ipc.new_file), ("s.arrow", pa.ipc.new_stream)):
        held = io.BytesIO()
        with kind(held, table.schema) as writer:
            writer.write_table(table)
        made[name] = held.getvalue()
    held = io.BytesIO()
    pq.write_table(table, held, row_group_size=4)
    return {
        **made,
        "r.parquet": held.getvalue(),
        "r.jsonl": lines,
        "r.csv": b'id,text\n1,a\n2,"b"\n',
        "r.jsonl.gz": gzip.compress(lines),
        "r.csv.gz": gzip.compress(b"id,text\n1,a\n"),
        "r.jsonl.zst": pa.compress(lines, "zstd", asbytes=True),
        "r.json": dump(rows),
        "r.tsv": b'id\ttext\n1\ta"\n2\t"b"\n',
        "r.txt": b"one\r\n\ntwo\n",
        "r.jsonl.xz": lzma.compress(lines),
        "r.jsonl.bz2": bz2.compress(lines),
    }


def saved() -> Files:
    """A data set as the library `datasets` saves it, of two splits."""
    made = tables()
    state = {"_data_files": [{"filename": "data.arrow"}], "_split": "train", "_fingerprint": "x"}
    files = {"dataset_dict.json": dump({"splits": ["train", "test"]})}
    for split in ("train", "test"):
        files[f"{split}/data.arrow"] = made["s.arrow"]
        files[f"{split}/state.json"] = dump({**state, "_split": split})
        files[f"{split}/dataset_info.json"] = dump({"features": {}, "splits": {}})
    return files


def kept_files(make: Callable[[Path], Any]) -> Files:
    """The files that `make` leaves in a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "x"
        make(folder)
        found = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def made() -> dict[str, Reader]:
    """Readers of what data commands leave: tables, saved data sets, an index, an audit."""
    import pyarrow as pa

    from pomona.data import dedup
    from pomona.data.audit import sample_audit
    from pomona.data.audit.labels import read_labels
    from pomona.data.duplicates.signed import open_index, options_of
    from pomona.records import read, with_text

    words = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ]
    texts = pa.table({"text": [" ".join(words[n:] + words[:n]) for n in range(6)]})
    labelled = texts.append_column("lang", pa.array(["en"] * 6))

    options = options_of("minhash", "text", 0.8, None, None, "word", 5, None, "first", None, 0)

    def index(folder: Path) -> Any:
        return dedup(texts, folder.parent / "o.parquet", shingle="word", index=folder)

    def table(folder: Path) -> None:
        (file,) = folder.iterdir()
        read(file).to_table()

    said = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    call = {"id": "1", "function": {"name": "f", "arguments": {"x": 1}}}
    said += [{"role": "assistant", "content": None, "tool_calls": [call]}]

    def chats(folder: Path) -> None:
        for text in ("m", "m.user", "{m.role} {n}"):
            records, name = with_text(read(folder / "c.jsonl"), text)
            records.select(name).to_table()

    def audit(folder: Path) -> Any:
        return sample_audit(labelled, folder, by="lang", n=4)

    splits = saved()
    heads = tuple(name for name in splits if name.endswith(".json"))
    return {
        **{name: Reader({name: data}, table) for name, data in tables().items()},
        "chats": Reader(
            {"c.jsonl": dump({"m": said, "n": 1}) + b"\n" + dump({"m": said, "n": 2})}, chats
        ),
        "saved": Reader(splits, lambda f: read(f).to_table(), heads),
        "signed index": Reader(kept_files(index), lambda f: open_index(f, options)),
        "audit": Reader(kept_files(audit), read_labels),
    }


def gguf_file() -> bytes:
    """A GGUF file with the sizes of a small mixture."""

    def text(value: str) -> bytes:
        return len(value).to_bytes(8, "little") + value.encode()

    sizes = {"block_count": 2, "embedding_length": 8, "attention.head_count": 2}
    sizes |= {"expert_count": 4, "expert_used_count": 1, "context_length": 32}
    said = text("general.architecture") + (8).to_bytes(4, "little") + text("a")
    for name, size in sizes.items():
        said += text(f"a.{name}") + (4).to_bytes(4, "little") + size.to_bytes(4, "little")
    tensors = {"token_embd.weight": 80, "blk.0.attn_q.weight": 64, "blk.0.ffn_up_exps.weight": 64}
    for name, size in tensors.items():
        said += text(name) + (1).to_bytes(4, "little") + size.to_bytes(8, "little") + b"\0" * 12
    head = b"GGUF\3\0\0\0" + len(tensors).to_bytes(8, "little")
    return head + (1 + len(sizes)).to_bytes(8, "little") + said


def counting() -> dict[str, Reader]:
    """Readers of what a model costs."""
    from pomona.scale import flops

    trained = {"tokens": 1000, "flops": 1e9}
    mixture = {"config.json": dump(MIXTURE), "training.json": dump(trained)}
    other = {**MIXTURE, "model_type": "qwen2_moe", "shared_expert_intermediate_size": 8}
    other |= {"mlp_only_layers": [0], "decoder_sparse_step": 1, "sliding_window": 8}
    windows = {**MIXTURE, "model_type": "gemma3_text", "sliding_window": 8, "text_config": None}
    return {
        "count": Reader(mixture, lambda f: flops(f).to_json()),
        "other count": Reader({"config.json": dump(other)}, lambda f: flops(f).to_json()),
        "window count": Reader({"config.json": dump(windows)}, lambda f: flops(f).to_json()),
        "gguf count": Reader(
            {"m.gguf": gguf_file()}, lambda f: flops(f"gguf:{f / 'm.gguf'}").to_json()
        ),
    }


def published(folder: Path) -> None:
    """All that is asked of a table of published models."""
    from pomona.scale import frontier, growth, returns

    for ask in (frontier, growth, returns):
        json.dumps(ask(folder / "t.csv").to_json(), allow_nan=False)


def audited(folder: Path) -> None:
    """An audit of votes with all columns, and a table of models."""
    from pomona.arena import audit

    json.dumps(audit(folder / "v.csv", models=folder / "m.csv").to_json(), allow_nan=False)


def prioritized(folder: Path) -> None:
    """A queue after votes that a queue chose."""
    found = prioritize(folder / "p.csv", folder / "v.csv", overlap=9, budget=2)
    json.dumps(found.to_json(), allow_nan=False)


AUDITED = b"""model_a,model_b,winner,item,voter,time,completion_a,completion_b
x,y,model_a,1,u,2024-01-01,one,two three
y,x,model_a,1,w,2024-01-02,one,
x,z,tie,2,u,2024-01-03,a,bb
z,x,tie (bothbad),2,w,2024-01-04,a,bb
z,y,model_b,3,u,2024-01-05,,a
y,z,model_b,3,w,2024-01-06,"a
b",c
"""
KNOWN = b"""model,organization,family,checkpoint,submitted,retired
x,o,f,c,3,no
y,o,f,c,,2024-01-02
z,p,,,1,
"""


# Of one family, so that nothing is resampled: what is tried is the reading.
VERDICTS = b"""item,prompt,model_a,model_b,winner,completion_a,completion_b,order,verdict,error
1,p,x,y,model_a,is,was,ab,model_a,
1,p,y,x,model_a,was,is,ba,,says nothing
2,p,x,z,tie,[[A]],is,ab,tie,
3,q,z,y,model_b,a,b,ab,model_b,
"""


def judged(folder: Path) -> None:
    """An audit of recorded verdicts beside votes."""
    judge(folder / "v.csv", verdicts=folder / "s.csv")


CATEGORIES = b"""name: kind
several: false
otherwise: other
categories:
  question: {definition: asks, examples: ["Is it?"], rules: [{regex: '\\?\\s*$'}]}
  order: {rules: [{keywords: [go, "log out"], words: [1, 4], between: {n: [0, null]}}]}
  kept: {rules: [{characters: [null, 5], where: {id: [a, 1]}}]}
"""
SAID = b"""id,text,n,said
a,Is it?,1,question
1,go now,2.5,order
b,"x
y",,other
"""


def labelled(folder: Path) -> None:
    """Rows in categories, beside what people said."""
    annotate(folder / "t.csv", folder / "o.csv", folder / "d.yml", human="said")


SECOND = b"""merge_method: slerp
base_model: first
models: [{model: first}, {model: c}]
parameters: {t: 0.5}
key_map: {c: {"*.gamma": "*.weight", "re:^h[.]([0-9]+)": "layers.1", a.: b.}}
"""
EXPERTS = b"""base_model: {model: {path: a}, lora: b}
gate_mode: hidden
experts_per_token: 1
dtype: bfloat16
experts:
- {source_model: a+b, positive_prompts: [one, two], negative_prompts: ["no"], residual_scale: 0.5}
- {source_model: c, positive_prompts: [three], noise_scale: 1.0e-3}
shared_experts: [{source_model: d, positive_prompts: [four]}]
"""
TARGETS = b"""training: {rows: t.csv, where: {said: [question, order, other]}}
by: [said, length, distance]
lengths: [5, 9]
only: {said: [question, order]}
demand: {rows: t.csv}
target: {temperature: 3}
rows: 7
pool: {rows: t.csv, id: id, cross: true}
test: [{rows: t.csv}]
answers: {rows: t.csv, answer: text, reference: said}
"""


def targeted(folder: Path) -> None:
    """A plan of what is thin in a table that is in order."""
    (folder / "t.csv").write_bytes(SAID)
    text = (folder / "r.yml").read_bytes().replace(b"t.csv", str(folder / "t.csv").encode())
    (folder / "r.yml").write_bytes(text)
    with suppress(GateFailed):  # its pool is its test: all is read, and nothing chosen
        plan_targets(folder / "r.yml", folder / "o")


PUBLISHED = b"""model,params_b,score,date,family,type,merged,flop,Training tokens (B),organization,arena
a/x-7b,6.7,40.5,2020-01-01,x,pretrained,False,"1,000.5",1e3,"Google,MIT",1000
a/x-2x7B-v1_6b,13,60,2021-02,x,merge,True,,unknown,University of X,
b/contaminated-70b,70B,80.5,2022-12-31,x,chat,,1e24,2000,,1200
"""


VOTES = b"""model_a,model_b,winner,prompt,voter,n
x,y,model_a,p1,u,1
y,z,tie (bothbad),p1,,2
z,x,x,"p,2",w,3
"""
PAIRS = b"""model_a,model_b,win_a,win_b,tie_1,tie_2
x,y,103,94,18,85
x,z,0,2,0,1.0
"""
SHOWN = b"""{"prompt": "?", "model_a": "x", "model_b": "y", "completion_a": "1",
 "completion_b": "2", "lang": "pt_BR", "item": "i", "rank": 1, "propensity": 0.5, "available": 9}
""".replace(b"\n ", b" ")
CHOSEN = b"""prompt,model_a,model_b,completion_a,completion_b,winner,rank,propensity,available
?,x,y,1,2,model_a,1,0.5,3
?,y,x,2,1,tie,,,
?,x,z,1,5,model_b,2,1,2
!,z,x,"3
4",1,model_a,3,0.25,1
!,y,z,1,3,tie (bothbad),4,1,1
"""
FORM = (
    b"csrf=x&key=0123456789abcdef&outcome=tie&edited=b&edit=%C3%A9+2&seconds=1e3&comment=a%0D%0Ab"
)
BATTLES = b"""[{"model_a": "x", "model_b": "y", "winner": "tie", "judge": "u", "anony": true,
 "tstamp": 1.5e9, "conversation_a": [{"role": "user", "content": "Why?"}],
 "conv_metadata": {"sum_assistant_a_tokens": 3, "header_count_a": {"h1": 1}}},
 {"model_a": "y", "model_b": "x", "winner": "model_b", "anony": false}]
"""


def answered(folder: Path) -> Any:
    """What a form says of a pair; refusals of the web are those of its own error."""
    from pomona.arena.annotating.forms import key_of, read_form, read_said
    from pomona.arena.annotating.queue import Task
    from pomona.web import ApiError

    task = Task("t", "pair", None, "?", ("1", "2"), None)
    try:
        form = read_form((folder / "f").read_bytes())
        return key_of(form), read_said(form, task)
    except ApiError as error:
        raise PomonaError(error.message) from error


def readers() -> dict[str, Reader]:
    """Every reader by its name."""
    from pomona.arena import read_votes
    from pomona.arena.annotating.items import read_pairs
    from pomona.documents import parse_json
    from pomona.markers import Taxonomy, Trained, read_trained
    from pomona.merge import plan_merge
    from pomona.merge.merging import in_order
    from pomona.merge.moe.configuration import read_configuration
    from pomona.merge.preparing.adapter_files import read_adapter
    from pomona.merge.preparing.adapters import adapted
    from pomona.merge.preparing.tokenizer import extended, read_tokenizer, union
    from pomona.merge.reading.reader import MergekitDocument
    from pomona.merge.reading.sections import read_recipe
    from pomona.models import load, read_config
    from pomona.models.checkpoint import INDEX, check, tensor_places
    from pomona.models.concurrency import retry_after
    from pomona.models.locating import gguf_header
    from pomona.models.tensors import View, dequantised
    from pomona.recipe import load_recipe

    model: Files = {
        "config.json": dump(CONFIG),
        "generation_config.json": dump({"eos_token_id": [2], "temperature": 0.5}),
        "tokenizer.json": dump(TOKENIZER),
        "tokenizer_config.json": dump(SETTINGS),
        "special_tokens_map.json": dump({"eos_token": "</s>"}),
        "model.safetensors": safetensors({**OUTER, **LAYERS}),
    }
    both = {f"{name}/{file}": data for name in "ab" for file, data in model.items()}
    names = tuple(f"b/{file}" for file in model)

    def merging(folder: Path, text: dict[str, Any]) -> None:
        models = {name: folder / name for name in "ab"}
        plan_merge(text, models=models, work=folder / "work", dry_run=True)

    def joined(folder: Path) -> None:
        one, other = read_tokenizer(folder / "a"), read_tokenizer(folder / "b")
        if one and other:
            union(one, [other])
            extended(other, {"new": None})

    def laid(folder: Path) -> None:
        made = adapted(View.of(folder / "a"), read_adapter(folder / "c")).made
        for tensor in made.values():
            for _ in tensor.blocks():
                pass

    def numbers(folder: Path) -> None:
        config = read_config(folder / "q")
        for tensor in dequantised(View.of(folder / "q"), config, "q").made.values():
            for _ in tensor.blocks():
                pass

    linear = {
        "merge_method": "linear",
        "models": [{"model": name, "parameters": {"weight": 1}} for name in "ab"],
        "tokenizer_source": "union",
        "chat_template": "auto",
    }
    sliced = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": "b", "layer_range": [n, 2]}]} for n in (0, 1)],
    }
    shards = {"weight_map": dict.fromkeys(OUTER, "1.safetensors") | dict.fromkeys(LAYERS, "2")}
    lora = {"q.lora_A.weight": np.ones((2, 4)), "q.lora_B.weight": np.ones((4, 2))}
    lora = {
        f"base_model.model.model.layers.0.{name}": lora[name].astype(np.float32) for name in lora
    }
    gguf = b"GGUF\3\0\0\0" + (1).to_bytes(8, "little") * 2 + (3).to_bytes(8, "little") + b"a.b"
    gguf += (4).to_bytes(4, "little") + (7).to_bytes(4, "little") + (1).to_bytes(8, "little") + b"w"
    gguf += (1).to_bytes(4, "little") + (4).to_bytes(8, "little") + b"\0" * 12
    run = Path(__file__).parents[1] / "examples" / "quickstart.yaml"
    quality = {"quality": {"kind": "float"}, "lang": {"kind": "values", "values": ["de", "fr"]}}
    taxonomy = Taxonomy.model_validate({"markers": quality})
    trained = Trained(taxonomy, "compact", {"quality": {"": 0.5, "de": 2.0}}, "lang")
    return {
        "json": Reader({"x": dump([CONFIG, TOKENIZER])}, lambda f: parse_json((f / "x").read_bytes(), "x", top=None)),
        "merge recipe": Reader({"r.yml": MERGEKIT.encode()}, lambda f: read_recipe(f / "r.yml")),
        "merge recipes": Reader(
            {"r.yml": b"name: first\n" + MERGEKIT.encode() + b"---\n" + SECOND},
            lambda f: in_order(MergekitDocument.all_of(f / "r.yml")),
        ),
        "mixture": Reader({"r.yml": EXPERTS}, lambda f: read_configuration(f / "r.yml")),
        "sliced recipe": Reader({"r.yml": SLICED.encode()}, lambda f: read_recipe(f / "r.yml")),
        "run recipe": Reader({"r.yml": run.read_bytes()}, lambda f: load_recipe(f / "r.yml")),
        "header": Reader({"model.safetensors": model["model.safetensors"]}, tensor_places),
        "index": Reader(
            {INDEX: dump(shards), "1.safetensors": safetensors(OUTER), "2": safetensors(LAYERS)},
            tensor_places,
        ),
        "checkpoint": Reader(model, check),
        "tokenizer": Reader(both, joined, tuple(n for n in names if "token" in n)),
        "adapter": Reader(
            {
                **both,
                "c/adapter_config.json": dump(ADAPTER),
                "c/adapter_model.safetensors": safetensors(lora),
            },
            laid,
            ("c/adapter_config.json", "c/adapter_model.safetensors"),
        ),
        **{
            f"weights of {settings['quant_method']}": Reader(
                {
                    "q/config.json": dump({"quantization_config": settings}),
                    "q/model.safetensors": safetensors(tensors),
                },
                numbers,
            )
            for settings, tensors in QUANTISED
        },
        "merge": Reader(both, lambda f: merging(f, linear), names),
        "sliced merge": Reader(both, lambda f: merging(f, sliced), names),
        "load": Reader(llama(model), lambda f: load(str(f), device="cpu")),
        "gguf": Reader({"m.gguf": gguf}, lambda f: gguf_header(f / "m.gguf")),
        "upstream": Reader(upstream(), asked),
        "retry": Reader({"x": b"120"}, lambda f: retry_after((f / "x").read_text("latin-1"))),
        "published": Reader({"t.csv": PUBLISHED}, published),
        "votes": Reader({"v.csv": VOTES}, lambda f: read_votes(f / "v.csv").digest),
        "counted votes": Reader({"v.csv": PAIRS}, lambda f: read_votes(f / "v.csv").digest),
        "battles": Reader({"v.json": BATTLES}, lambda f: read_votes(f / "v.json").digest),
        "pairs": Reader({"p.jsonl": SHOWN}, lambda f: len(read_pairs(str(f / "p.jsonl")))),
        "prioritized": Reader({"p.csv": CHOSEN, "v.csv": CHOSEN}, prioritized),
        "form": Reader({"f": FORM}, answered),
        "verdicts": Reader({"v.csv": VERDICTS, "s.csv": VERDICTS}, judged),
        "trained": Reader({"markers.json": dump(trained.document())}, read_trained),
        "categories": Reader({"d.yml": CATEGORIES, "t.csv": SAID}, labelled),
        "targets": Reader({"r.yml": TARGETS}, targeted),
        "audited votes": Reader({"v.csv": AUDITED, "m.csv": KNOWN}, audited),
        **counting(),
        **made(),
    }  # fmt: skip


def changed(data: bytes, draw: random.Random) -> bytes:
    """Input with one to a few changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        head = data[:8]
        length = int.from_bytes(head, "little")
        if 8 <= length <= len(data) - 8 and draw.random() < 0.8:  # safetensors
            header = changed(data[8 : 8 + length], draw)
            data = framed(header) + data[8 + length :]
        elif draw.random() < 0.7 and (value := parsed(data)) is not None:
            data = json.dumps(with_odd(value, draw)).encode()
        else:
            data = with_piece(data, draw)
    return data


def parsed(data: bytes) -> Any:
    """The JSON that data is; None when it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def with_odd(value: Any, draw: random.Random) -> Any:
    """A value of JSON, some part of it replaced, taken away, or put elsewhere."""
    value = copy.deepcopy(value)
    holders = list(parts(value)) if isinstance(value, dict | list) else []
    if not holders:
        return draw.choice(ODD)
    holder, key = draw.choice(holders)
    kind = draw.randrange(4)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, place = draw.choice(holders)
        holder[key] = copy.deepcopy(other[place])
    elif kind == 2 and isinstance(holder, dict):
        holder[draw.choice(("x", "", "model.layers.5.w", "model.layers.99999.w", "a" * 999))] = (
            holder.pop(key)
        )
    else:
        holder[key] = copy.deepcopy(draw.choice(ODD))
    return value


def parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every part of a value: what holds it, and its key."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from parts(value[key])


def with_piece(data: bytes, draw: random.Random) -> bytes:
    """Bytes, some of them lost, doubled or replaced."""
    first = draw.randrange(len(data) + 1)
    end = min(len(data), first + draw.choice((0, 1, 2, 8, 64)))
    kind = draw.randrange(4)
    middle = {0: b"", 1: draw.choice(PIECES), 2: data[first:end] * 3, 3: draw.randbytes(4)}[kind]
    return data[:first] + middle + data[end:]


class Hang(BaseException):
    """An input took too long."""


@contextmanager
def guarded() -> Iterator[None]:
    """Raises Hang after a while."""

    def stop(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def resident() -> float:
    """MB of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def fuzz(
    name: str, reader: Reader, seconds: float, seed: int, keep: Path, most: float = float("inf")
) -> dict[str, Any]:
    """Fuzz one reader, print what came of it, and return it."""
    draw = random.Random(f"{seed} {name}")
    count = refused = findings = 0
    place = Path(tempfile.mkdtemp())
    write(place, reader.files)
    reader.read(place)  # is right, and imports what is needed
    slowest, before, started = 0.0, resident(), time.process_time()
    while (passed := time.process_time() - started) < seconds and count < most:
        files = dict(reader.files)
        for file in draw.sample(reader.changed or tuple(files), 1):
            files[file] = changed(files[file], draw)
        write(place, files)
        if passed < seconds / 10:
            before = resident()
        clock = time.process_time()
        try:
            with guarded():
                reader.read(place)
            said = None
        except PomonaError:
            refused, said = refused + 1, None
        except KeyboardInterrupt:
            raise
        except BaseException:
            said = traceback.format_exc()
        spent = time.process_time() - clock
        slowest, count = max(slowest, spent), count + 1
        if said or spent > SLOW:
            findings += 1
            kept = keep / f"{name.replace(' ', '-')}-{findings}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(place, kept)
            last = (said or f"took {spent:.1f} s").strip().splitlines()[-1]
            print(f"  {kept}: {last}", flush=True)
            (kept / "said.txt").write_text(said or last)
    shutil.rmtree(place)
    grown = resident() - before
    print(
        f"{name:14} {count:>8,} executions, {refused:>8,} refused, slowest {slowest:.3f} s, "
        f"memory {grown:+.1f} MB, {findings} findings",
        flush=True,
    )
    return {
        "reader": name,
        "seconds": seconds,
        "seed": seed,
        "executions": count,
        "refused": refused,
        "slowest_seconds": round(slowest, 3),
        "grown_mb": round(grown, 1),
        "findings": findings,
    }


def write(place: Path, files: Files) -> None:
    """Write files into a folder, and nothing else."""
    shutil.rmtree(place, ignore_errors=True)
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)


def main() -> int:
    """Fuzz the readers that were named, or all."""
    known = readers()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(known))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--results", type=Path, default=Path(os.devnull))
    given = parser.parse_args()
    if wrong := set(given.readers) - set(known):
        parser.error(f"no reader {min(wrong)!r}; known: {', '.join(known)}")
    results = given.results.read_text().splitlines() if given.results.exists() else []
    had = [json.loads(line) for line in results]
    import_module("pomona.models.torch.network")  # seconds, once, where names of layers differ
    findings = 0
    for name in given.readers or known:
        asked = {"reader": name, "seconds": given.seconds, "seed": given.seed}
        done = next((line for line in had if asked.items() <= line.items()), None)
        if done is None:
            done = fuzz(name, known[name], given.seconds, given.seed, given.keep)
            with given.results.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(done) + "\n")
        findings += done["findings"]
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
