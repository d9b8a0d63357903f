"""Quantised weights as numbers again: written here by the documented layouts, element by element,
and read in float64. The same layouts were read equal to the bit by bitsandbytes 0.50,
AutoAWQ 0.2.9, AutoGPTQ 0.7, compressed-tensors 0.20, hqq 0.2.8, aqlm 1.1.7, ModelOpt 0.47 (but for the sign of
zeros) and, of MXFP4, transformers 5.24.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pomona.errors import PomonaError
from pomona.models import read_config
from pomona.models.tensors import View, dequantised, keep, stored_array

Arrays = dict[str, np.ndarray]
OUT, IN, GROUP = 16, 24, 8


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def checkpoint(
    folder: Path, tensors: Arrays, settings: dict[str, Any] | None, **types: str
) -> Path:
    """`types`: what safetensors calls arrays that NumPy has no type for."""
    folder.mkdir(exist_ok=True)
    save_file({key: np.ascontiguousarray(one) for key, one in tensors.items()}, folder / "m")
    data = (folder / "m").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for name, dtype in types.items():
        header[f"m.{name}"]["dtype"] = dtype
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + data[8 + length :]
    )
    (folder / "m").unlink()
    config = {"model_type": "llama", "dtype": "float32", "quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config if settings else {"dtype": "float32"}))
    return folder


def read(folder: Path) -> Arrays:
    found = dequantised(View.of(folder), read_config(folder), "m")
    kept = keep(folder / "made", found.made, dry_run=False)
    return {name: stored_array(stored) for name, stored in kept.items()}


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Rows of whole numbers as one long run of bits, the lowest first, in words of 32."""
    words = -(-values.shape[1] * bits // 32)
    out = np.zeros((len(values), words), np.uint32)
    for row, numbers in enumerate(values):
        run = sum(int(number) << (bits * place) for place, number in enumerate(numbers))
        for word in range(words):
            out[row, word] = run >> (32 * word) & 0xFFFFFFFF
    return out.view(np.int32)


def e4m3(code: int) -> float:
    size, exponent = code & 7, code >> 3 & 15
    value = (1 + size / 8) * 2.0 ** (exponent - 7) if exponent else size / 8 * 2.0**-6
    return -value if code > 127 else value


@pytest.mark.parametrize(
    ("shape", "scales", "block"),
    [
        ((5, 6), (1,), None),
        ((5, 6), (5, 1), None),
        ((200, 150), (2, 2), [128, 128]),
        ((200, 150), (2, 2), None),
        ((7, 6), (3, 2), [3, 4]),
        ((3, 130, 6), (3, 2, 1), [128, 128]),
        ((3, 5, 6), (3, 1, 1), None),
    ],
)
@pytest.mark.parametrize("name", ["weight_scale_inv", "weight_scale"])
def test_floats_of_eight_bits(
    tmp_path: Path, shape: tuple[int, ...], scales: tuple[int, ...], block: Any, name: str
) -> None:
    codes = draw(0).integers(0, 127, shape) + 128 * draw(1).integers(0, 2, shape)
    scale = draw(2).random(scales).astype(np.float32)
    tensors = {"m.weight": codes.astype(np.uint8), f"m.{name}": scale, "m.input_scale": scale[:1]}
    settings = {"quant_method": "fp8", "weight_block_size": block}
    folder = checkpoint(tmp_path / "m", tensors, settings, weight="F8_E4M3")
    high, wide = block or ((128, 128) if shape[0] == 200 else shape[-2:])
    if scales == (5, 1):
        high = 1
    wanted = np.empty(shape)
    grid = scale.reshape((-1, *scale.shape[-2:]) if scale.ndim > 1 else (1, 1, -1))
    for place in np.ndindex(shape):
        expert = place[0] if len(shape) == 3 else 0
        row, column = place[-2] // high % grid.shape[1], place[-1] // wide % grid.shape[2]
        wanted[place] = e4m3(int(codes[place])) * float(grid[expert, row, column])
    out = read(folder)
    assert list(out) == ["m.weight"]
    np.testing.assert_allclose(out["m.weight"], wanted, rtol=1e-6)


def test_types_of_eight_bits(tmp_path: Path) -> None:
    codes = np.array([[0x3C, 0xBC, 0x7B, 0x01]], np.uint8)
    tensors = {"m.weight": codes, "m.weight_scale_inv": np.array([129], np.uint8)}
    types = {"weight": "F8_E5M2", "weight_scale_inv": "F8_E8M0"}
    folder = checkpoint(tmp_path / "m", tensors, {"quant_method": "fp8"}, **types)
    assert read(folder)["m.weight"].tolist() == [[4.0, -4.0, 4 * 57344.0, 4 * 2.0**-16]]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("ordered", [True, False])
def test_gptq(tmp_path: Path, bits: int, form: str, ordered: bool) -> None:
    inputs = 32 if bits == 3 else IN + 8
    codes = draw(0).integers(0, 2**bits, (32, inputs))
    zeros = draw(1).integers(form == "gptq", 2**bits, (inputs // GROUP, 32))
    scales = (draw(2).random(zeros.shape) + 0.1).astype(np.float16)
    group = np.arange(inputs) // GROUP
    group = group if ordered else draw(3).permutation(group)
    tensors = {
        "m.qweight": packed(codes, bits).T,
        "m.qzeros": packed(zeros - (form == "gptq"), bits),
        "m.scales": scales,
        "m.bias": np.ones(32, np.float16),
    }
    if not ordered:
        tensors["m.g_idx"] = group.astype(np.int32)
    settings = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": GROUP,
        "checkpoint_format": form,
    }
    out = read(checkpoint(tmp_path / "m", tensors, settings))
    wanted = (codes - zeros[group].T) * scales[group].T.astype(np.float64)
    assert list(out) == ["m.weight"]
    np.testing.assert_allclose(out["m.weight"], wanted, rtol=1e-6)


@pytest.mark.parametrize("zeroed", [True, False])
def test_awq(tmp_path: Path, zeroed: bool) -> None:
    codes, zeros = draw(0).integers(0, 16, (IN, OUT)), draw(1).integers(0, 16, (IN // GROUP, OUT))
    scales = draw(2).random(zeros.shape).astype(np.float16)
    order = [block * 8 + place for block in range(OUT // 8) for place in (0, 2, 4, 6, 1, 3, 5, 7)]
    tensors = {"m.qweight": packed(codes[:, order], 4), "m.scales": scales}
    if zeroed:
        tensors["m.qzeros"] = packed(zeros[:, order], 4)
    settings = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "GEMM"}
    out = read(checkpoint(tmp_path / "m", tensors, settings))["m.weight"]
    group = np.arange(IN) // GROUP
    wanted = (codes - (zeros[group] if zeroed else 8)) * scales[group].astype(np.float64)
    np.testing.assert_allclose(out, wanted.T, rtol=1e-6)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("shape", [(6, 32), (5, 7)])
def test_bitsandbytes_of_four_bits(tmp_path: Path, nested: bool, shape: tuple[int, int]) -> None:
    count, block, outer = shape[0] * shape[1], 16, 2
    codes = draw(0).integers(0, 16, count + count % 2)
    table = np.sort(draw(1).normal(size=16)).astype(np.float32)
    blocks = -(-count // block)
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": block, "shape": list(shape)}
    tensors = {
        "m.weight": (codes[::2] << 4 | codes[1::2]).astype(np.uint8)[:, None],
        "m.weight.quant_map": table,
    }
    largest = draw(2).random(blocks).astype(np.float32)
    tensors["m.weight.absmax"] = largest
    if nested:
        held, inner = draw(3).integers(0, 256, blocks), draw(4).random(256).astype(np.float32)
        over = draw(5).random(-(-blocks // outer)).astype(np.float32)
        largest = inner[held].astype(np.float64) * over[np.arange(blocks) // outer] + 0.25
        tensors["m.weight.absmax"] = held.astype(np.uint8)
        tensors["m.weight.nested_absmax"], tensors["m.weight.nested_quant_map"] = over, inner
        state |= {"nested_blocksize": outer, "nested_offset": 0.25}
    said = np.frombuffer(json.dumps(state).encode(), np.uint8)
    tensors["m.weight.quant_state.bitsandbytes__nf4"] = said
    out = read(checkpoint(tmp_path / "m", tensors, {"quant_method": "bitsandbytes"}))["m.weight"]
    wanted = table[codes[:count]].astype(np.float64) * largest[np.arange(count) // block]
    np.testing.assert_allclose(out, wanted.reshape(shape), rtol=1e-6)


def test_bitsandbytes_of_eight_bits(tmp_path: Path) -> None:
    codes, largest = draw(0).integers(-127, 128, (OUT, IN)), draw(1).random(OUT).astype(np.float32)
    tensors = {
        "m.weight": codes.astype(np.int8),
        "m.SCB": largest,
        "m.weight_format": np.array(0, np.uint8),
    }
    out = read(checkpoint(tmp_path / "m", tensors, {"quant_method": "bitsandbytes"}))
    np.testing.assert_allclose(out["m.weight"], codes * largest[:, None] / 127, rtol=1e-6)


@pytest.mark.parametrize(("bits", "ordered"), [(4, True), (4, False), (3, True), (8, True)])
@pytest.mark.parametrize("zeroed", [True, False])
def test_compressed_tensors(tmp_path: Path, bits: int, ordered: bool, zeroed: bool) -> None:
    half = 2 ** (bits - 1)
    codes = draw(0).integers(-half, half, (OUT, IN))
    zeros = draw(1).integers(-half, half, (OUT, IN // GROUP))
    scales = (draw(2).random(zeros.shape) + 0.1).astype(np.float32)
    group = np.arange(IN) // GROUP
    tensors = {
        "m.weight_packed": packed(codes + half, bits),
        "m.weight_scale": scales,
        "m.weight_shape": np.array([OUT, IN]),
    }
    if zeroed:
        tensors["m.weight_zero_point"] = packed((zeros + half).T, bits).T
    if not ordered:
        group = draw(3).permutation(group)
        tensors["m.weight_g_idx"] = group.astype(np.int32)
    rule = {"weights": {"num_bits": bits, "type": "int", "strategy": "group", "group_size": GROUP}}
    settings = {"quant_method": "compressed-tensors", "config_groups": {"group_0": rule}}
    out = read(checkpoint(tmp_path / "m", tensors, settings))["m.weight"]
    wanted = codes - (zeros[:, group] if zeroed else 0)
    np.testing.assert_allclose(out, wanted * scales[:, group].astype(np.float64), rtol=1e-6)


def test_whole_numbers_of_eight_bits_with_a_zero(tmp_path: Path) -> None:
    codes = draw(0).integers(-128, 128, (OUT, IN))
    zeros, scales = draw(1).integers(-9, 9, (OUT, 1)), draw(2).random((OUT, 1)).astype(np.float32)
    tensors = {
        "m.weight": codes.astype(np.int8),
        "m.weight_scale": scales,
        "m.weight_zero_point": zeros.astype(np.int8),
    }
    out = read(checkpoint(tmp_path / "m", tensors, {"quant_method": "compressed-tensors"}))
    np.testing.assert_allclose(out["m.weight"], (codes - zeros) * scales.astype("f8"), rtol=1e-6)


def test_mxfp4(tmp_path: Path) -> None:
    experts, outputs, groups = 2, 3, 2
    codes = draw(0).integers(0, 256, (experts, outputs, groups, 16))
    powers = draw(1).integers(120, 134, (experts, outputs, groups))
    tensors = {"m.up_blocks": codes.astype(np.uint8), "m.up_scales": powers.astype(np.uint8)}
    out = read(checkpoint(tmp_path / "m", tensors, {"quant_method": "mxfp4"}))["m.up"]
    sizes = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    for expert, output, column in np.ndindex(experts, outputs, groups * 32):
        group, place = divmod(column, 32)
        code = codes[expert, output, group, place // 2] >> (4 * (place % 2)) & 15
        value = (-1) ** (code >> 3) * sizes[code & 7] * 2.0 ** (powers[expert, output, group] - 127)
        assert out[expert, column, output] == value


def test_floats_of_eight_bits_under_powers_of_two(tmp_path: Path) -> None:
    codes, powers = draw(0).integers(0, 127, (3, 64)), draw(1).integers(100, 140, (3, 2))
    tensors = {"m.weight": codes.astype(np.uint8), "m.weight_scale": powers.astype(np.uint8)}
    settings = {"quant_method": "compressed-tensors", "format": "mxfp8-quantized"}
    out = read(checkpoint(tmp_path / "m", tensors, settings, weight="F8_E4M3"))["m.weight"]
    for row, column in np.ndindex(3, 64):
        power = 2.0 ** (powers[row, column // 32] - 127)
        assert out[row, column] == e4m3(int(codes[row, column])) * power


FOUR = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]


@pytest.mark.parametrize("kind", ["nvfp4", "mxfp4", "modelopt", "modelopt alone"])
def test_floats_of_four_bits(tmp_path: Path, kind: str) -> None:
    codes = draw(0).integers(0, 256, (OUT, 48))
    scales = draw(1).integers(90, 120, (OUT, 3 if kind == "mxfp4" else 6))
    above = np.array([37.25], np.float32)
    name = "m.weight" if "modelopt" in kind else "m.weight_packed"
    tensors = {name: codes.astype(np.uint8), "m.weight_scale": scales.astype(np.uint8)}
    tensors |= {"m.input_global_scale": above, "m.input_scale": above}
    settings: dict[str, Any] | None = {"quant_method": "compressed-tensors"}
    types = {} if kind == "mxfp4" else {"weight_scale": "F8_E4M3"}
    if kind == "nvfp4":
        tensors["m.weight_global_scale"] = above
    elif "modelopt" in kind:
        tensors["m.weight_scale_2"] = above[0]
        settings = None if kind == "modelopt alone" else {"quant_method": "modelopt"}
    out = read(checkpoint(tmp_path / "m", tensors, settings, **types))
    assert list(out) == ["m.weight"]
    group = 96 // scales.shape[1]
    for row, column in np.ndindex(OUT, 96):
        value = FOUR[codes[row, column // 2] >> (4 * (column % 2)) & 15]
        code = int(scales[row, column // group])
        scale = np.float32(2.0 ** (code - 127) if kind == "mxfp4" else e4m3(code))
        scale = scale / above[0] if kind == "nvfp4" else scale
        scale = scale * above[0] if "modelopt" in kind else scale
        assert out["m.weight"][row, column] == np.float32(value) * scale


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bits", [8, 4, 3, 2, 1])
def test_hqq(tmp_path: Path, bits: int, axis: int) -> None:
    count, word = {8: (1, "u1"), 4: (2, "u1"), 3: (10, "i4"), 2: (4, "u1"), 1: (8, "u1")}[bits]
    groups = OUT * IN // GROUP
    matrix = (GROUP, groups) if axis == 0 else (groups, GROUP)
    codes = draw(0).integers(0, 2**bits, matrix)
    scales, zeros = (draw(seed).random((groups,)).astype(np.float32) + 1 for seed in (1, 2))
    high = -(-matrix[0] // count)
    words = np.zeros((high, matrix[1]), np.int64)
    for row, column in np.ndindex(matrix):
        shift = bits * (count - 1 - row // high)
        words[row % high, column] |= int(codes[row, column]) << shift
    along = (1, groups) if axis == 0 else (groups, 1)
    packing = f"{bits}bit_{'32' if bits == 3 else 'u8'}"
    tensors = {
        "m.W_q": words.astype(word),
        "m.scale": scales.reshape(along),
        "m.zero": zeros.reshape(along),
        "m.shape": np.array([OUT, IN]),
        "m.axis": np.array(axis, np.int32),
        "m.packing": np.frombuffer(packing.encode(), np.uint8),
        "m.quant_zero": np.array(0, np.uint8),
        "m.nbits": np.array(bits, np.int32),
    }
    out = read(checkpoint(tmp_path / "m", tensors, {"quant_method": "hqq"}))["m.weight"]
    wanted = (codes.astype(np.float32) - zeros.reshape(along)) * scales.reshape(along)
    np.testing.assert_array_equal(out, wanted.reshape(OUT, IN))


def test_hqq_in_halves_is_rounded_as_hqq_does(tmp_path: Path) -> None:
    """hqq 0.2.8, 8 bits, axis 1: it subtracts and multiplies in the type of its scales."""
    tensors = {
        "m.W_q": np.array([[255, 3], [7, 100]], np.uint8),
        "m.scale": np.array([[0.0123], [0.0456]], np.float16),
        "m.zero": np.array([[120.3], [33.37]], np.float16),
        "m.shape": np.array([2, 2]),
        "m.axis": np.array(1, np.int32),
        "m.packing": np.frombuffer(b"8bit_u8", np.uint8),
    }
    codes = tensors["m.W_q"].astype(np.float16)
    wanted = (codes - tensors["m.zero"]) * tensors["m.scale"]
    folder = checkpoint(tmp_path / "m", tensors, {"quant_method": "hqq"})
    assert np.array_equal(read(folder)["m.weight"].astype(np.float16), wanted)


def aqlm(books: int, high: int, wide: int) -> dict[str, Any]:
    sizes = {"out_group_size": high, "in_group_size": wide, "nbits_per_codebook": 8}
    return {"quant_method": "aqlm", "num_codebooks": books, **sizes}


@pytest.mark.parametrize(("high", "wide", "books"), [(1, 8, 1), (1, 4, 2), (4, 3, 3)])
def test_aqlm(tmp_path: Path, high: int, wide: int, books: int) -> None:
    codes = draw(0).integers(-128, 128, (OUT // high, IN // wide, books))
    vectors = draw(1).standard_normal((books, 256, high, wide)).astype(np.float32)
    scales = draw(2).random((OUT // high, 1, 1, 1)).astype(np.float32)
    tensors = {"m.codes": codes.astype(np.int8), "m.codebooks": vectors, "m.scales": scales}
    out = read(checkpoint(tmp_path / "m", tensors, aqlm(books, high, wide)))["m.weight"]
    for row, column in np.ndindex(OUT, IN):
        group, place = (row // high, column // wide), (row % high, column % wide)
        total = sum(vectors[book, codes[*group, book] % 256][place] for book in range(books))
        assert out[row, column] == pytest.approx(total * scales[group[0], 0, 0, 0], rel=1e-5)


def test_rows_come_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pomona.models.tensors.files.BLOCK", 50)
    for number, check in enumerate(
        [
            lambda folder: test_gptq(folder, 4, "gptq", False),
            lambda folder: test_awq(folder, True),
            test_mxfp4,
            lambda folder: test_floats_of_four_bits(folder, "nvfp4"),
            lambda folder: test_hqq(folder, 3, 0),
            lambda folder: test_aqlm(folder, 4, 3, 3),
            lambda folder: test_hqq(folder, 4, 1),
            lambda folder: test_bitsandbytes_of_four_bits(folder, True, (5, 7)),
            lambda folder: test_compressed_tensors(folder, 3, True, True),
            lambda folder: test_floats_of_eight_bits(
                folder, (3, 130, 6), (3, 2, 1), [128, 128], "weight_scale"
            ),
        ]
    ):
        (tmp_path / f"{number}").mkdir()
        check(tmp_path / f"{number}")


W = np.zeros((8, 8), np.uint8)
HQQ: Arrays = {
    "m.W_q": W,
    "m.scale": np.ones((16, 1), np.float16),
    "m.zero": np.ones((16, 1), np.float16),
    "m.shape": np.array([16, 8]),
    "m.axis": np.array(1, np.int32),
    "m.packing": np.frombuffer(b"4bit_u8", np.uint8),
}
GPTQ: Arrays = {
    "m.qweight": np.zeros((4, 8), np.int32),
    "m.qzeros": np.zeros((4, 1), np.int32),
    "m.scales": np.ones((4, 8), np.float16),
}
ALONE = {"m.weight": W, "m.weight_scale": np.ones(1, np.float32)}


@pytest.mark.parametrize(
    ("tensors", "settings", "says"),
    [
        (
            ALONE,
            {"quant_method": "quip"},
            '/m: "m" is quantised by quip, whose weights are not read — save it in bfloat16 first; '
            "known are aqlm, awq, bitsandbytes, compressed-tensors, fbgemm-fp8, fp8, gptq, hqq, "
            "modelopt, modelopt-fp4, mxfp4",
        ),
        ({"m.weight": W}, None, "quantised by a method that its config.json does not name"),
        ({"m.weight": W}, {"quant_method": "fp8"}, 'there is no "m.weight_scale_inv" — copy it'),
        (
            {"m.weight": W, "m.weight_scale": np.ones((3, 5), np.float32)},
            {"quant_method": "fp8"},
            'tensor "m.weight" of "m" and what belongs to it do not fit: m.weight [8, 8], m.weight_',
        ),
        (
            {"m.weight": W, "m.weight_scale": np.ones((8, 1), np.uint8)},
            {"quant_method": "fp8"},
            'tensor "m.weight_scale" of "m" is U8, no scale that is known',
        ),
        (
            {**ALONE, "m.codebook": W},
            {"quant_method": "fp8"},
            'tensor "m.codebook" of "m" is U8 and no part of a weight of fp8',
        ),
        (
            ALONE,
            {"quant_method": "fp8", "weight_block_size": [0, 1]},
            "blocks of weights are [0, 1]",
        ),
        (GPTQ, {"quant_method": "gptq", "bits": 5}, '"bits": 5 — known are 2, 3, 4, 8'),
        (GPTQ, {"quant_method": "gptq", "bits": "4"}, "\"bits\": '4' — known are"),
        (GPTQ, {"quant_method": "gptq", "checkpoint_format": "marlin"}, "in the format marlin"),
        (GPTQ, {"quant_method": "gptq", "group_size": 4}, 'tensor "m.qweight" of "m" and what'),
        (
            GPTQ,
            {"quant_method": "awq", "version": "gemv"},
            "in the version gemv, which is not read",
        ),
        (GPTQ, {"quant_method": "awq", "group_size": 2}, 'tensor "m.qweight" of "m" and what'),
        (
            {"m.weight_packed": W},
            {"quant_method": "compressed-tensors"},
            'there is no "m.weight_scale"',
        ),
        (
            {"m.weight_packed": W, "m.weight_scale": np.ones((8, 3), np.uint8)},
            {"quant_method": "compressed-tensors"},
            'tensor "m.weight_packed" of "m" and what belongs to it do not fit',
        ),
        (
            {"m.weight_packed": W, "m.weight_scale": np.ones((8, 3), np.uint8)},
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": {"weights": {"num_bits": 6}}},
            },
            'tensor "m.weight_packed" of "m" is U8 of [6] bits, which is not read',
        ),
        (
            {"m.weight_packed": W, "m.weight_scale": np.ones((8, 1), np.float32)},
            {"quant_method": "compressed-tensors"},
            'tensor "m.weight_scale" of "m" is F32, no scale of floats of four bits',
        ),
        (
            {"m.W_q": W, "m.scale": W},
            {"quant_method": "hqq"},
            'tensor "m.W_q" of "m" is quantised, and there is no "m.shape" — copy it again',
        ),
        (
            {**HQQ, "m.quant_scale": np.array(1, np.uint8)},
            {"quant_method": "hqq"},
            'tensor "m.W_q" of "m" has scales or zero points that are quantised too',
        ),
        (
            {**HQQ, "m.packing": np.frombuffer(b"7bit", np.uint8)},
            {"quant_method": "hqq"},
            "is packed as '7bit', which is not read",
        ),
        (
            {
                "m.codes": np.ones((8, 2, 2), np.int8),
                "m.codebooks": np.ones((1, 256, 1, 4), np.float16),
                "m.scales": np.ones((8, 1, 1, 1), np.float16),
            },
            aqlm(1, 1, 4),
            'tensor "m.codes" of "m" and what belongs to it do not fit: m.codes [8, 2, 2] where '
            "[8, 2, 1] is wanted, m.codebooks [1, 256, 1, 4], m.scales [8, 1, 1, 1] — copy it",
        ),
        (
            {"m.codebooks": np.ones((1, 256, 1, 4), np.float16), "m.scales": np.ones(8)},
            {"quant_method": "aqlm"},
            'tensor "m.codebooks" of "m" is quantised, and there is no "m.codes" — copy it again',
        ),
        (
            {"m.up_blocks": np.ones((1, 2, 2, 8), np.uint8), "m.up_scales": W[None, :2, :2]},
            {"quant_method": "mxfp4"},
            'tensor "m.up_blocks" of "m" and what belongs to it do not fit',
        ),
        ({**HQQ, "m.axis": np.array(2)}, {"quant_method": "hqq"}, 'tensor "m.W_q" of "m" and what'),
        (
            {**HQQ, "m.shape": np.array([-8, -16])},
            {"quant_method": "hqq"},
            'tensor "m.W_q" of "m" and what',
        ),
        (
            {**HQQ, "m.shape": np.array([8, 8])},
            {"quant_method": "hqq"},
            'tensor "m.W_q" of "m" and what',
        ),
        (
            {"m.weight": W, "m.weight.quant_state.bitsandbytes__nf4": W[0]},
            {"quant_method": "bitsandbytes"},
            "m.weight.quant_state.bitsandbytes__nf4: is not JSON",
        ),
    ],
)
def test_what_is_not_known_is_refused_by_name(
    tmp_path: Path, tensors: Arrays, settings: dict[str, Any] | None, says: str
) -> None:
    types = {"weight": "F8_E4M3"} if "m.weight" in tensors and settings != {} else {}
    if settings and settings["quant_method"] == "bitsandbytes":
        types = {}
    with pytest.raises(PomonaError) as error:
        read(checkpoint(tmp_path / "m", tensors, settings, **types))
    assert says in str(error.value)


AQLM: Arrays = {
    "m.codes": np.zeros((8, 2, 2), np.int8),
    "m.codebooks": np.ones((2, 256, 1, 4), np.float16),
    "m.scales": np.ones((8, 1, 1, 1), np.float16),
}
BLOCKS: Arrays = {"m.weight": W, "m.weight_scale_inv": np.ones((2, 2), np.float32)}
INT4: Arrays = {
    "m.weight_packed": np.zeros((8, 2), np.int32),
    "m.weight_scale": np.ones((8, 2), np.float32),
    "m.weight_shape": np.array([8, 16]),
}
WORDS = {"weights": {"num_bits": 4, "group_size": 8}}
PAIRED = {"quant_method": "compressed-tensors", "config_groups": {"a": WORDS}}
SCALED: Arrays = {"m.weight": W.astype(np.int8), "m.SCB": np.ones(8, np.float32)}


@pytest.mark.parametrize(
    ("tensors", "settings", "cut", "axis", "says"),
    [
        (AQLM, aqlm(2, 1, 4), "m.codebooks", 1, "m.codebooks [2, 128, 1, 4] where [2, 256, 1, 4]"),
        (AQLM, aqlm(2, 1, 4), "m.codebooks", 3, "m.codebooks [2, 256, 1, 2] where [2, 256, 1, 4]"),
        (AQLM, aqlm(2, 1, 4), "m.codes", 2, "m.codes [8, 2, 1] where [8, 2, 2] is wanted"),
        (AQLM, aqlm(2, 1, 4), "m.scales", 0, "m.scales [4, 1, 1, 1] where [8, 1, 1, 1] is wanted"),
        (BLOCKS, {"quant_method": "fp8", "weight_block_size": [4, 4]}, "m.weight_scale_inv", 1,
         "m.weight [8, 8], m.weight_scale_inv [2, 1] where [2, 2] is wanted"),
        (INT4, PAIRED, "m.weight_scale", 1, "m.weight_scale [8, 1] where [8, 2] is wanted"),
        (INT4, PAIRED, "m.weight_packed", 0, "m.weight_packed [4, 2] where [8, 2] is wanted"),
        (GPTQ, {"quant_method": "gptq", "group_size": 8}, "m.scales", 1, "[4, 4] where [4, 8]"),
        (GPTQ, {"quant_method": "awq", "group_size": 1}, "m.scales", 1, "[4, 4] where [4, 64]"),
        (SCALED, {"quant_method": "bitsandbytes"}, "m.SCB", 0, "m.SCB [4] where [8] is wanted"),
        (HQQ, {"quant_method": "hqq"}, "m.W_q", 0, "do not fit: m.W_q [4, 8], m.scale [16, 1]"),
    ],
)  # fmt: skip
def test_half_a_tensor_is_refused_by_its_shape(
    tmp_path: Path, tensors: Arrays, settings: dict[str, Any], cut: str, axis: int, says: str
) -> None:
    half = np.split(tensors[cut], 2, axis)[0]
    types = {"weight": "F8_E4M3"} if settings["quant_method"] == "fp8" else {}
    folder = checkpoint(tmp_path / "m", {**tensors, cut: half}, settings, **types)
    with pytest.raises(PomonaError) as error:
        read(folder)
    assert says in str(error.value)


def test_groups_of_layers_may_have_blocks_or_none(tmp_path: Path) -> None:
    scales = {"a": np.ones((2, 2), np.float32), "b": np.ones((8, 1), np.float32)}
    tensors = {f"m.{key}.weight_scale": scale for key, scale in scales.items()}
    tensors |= {f"m.{key}.weight": W for key in scales}
    groups = {"a": {"weights": {"block_structure": [4, 4]}}, "b": {"weights": {"num_bits": 8}}}
    settings = {"quant_method": "compressed-tensors", "config_groups": groups}
    types = {f"{key}.weight": "F8_E4M3" for key in scales}
    assert len(read(checkpoint(tmp_path / "m", tensors, settings, **types))) == 2
    settings["config_groups"] = {"a": groups["a"]}
    with pytest.raises(PomonaError, match=r"m.b.weight_scale \[8, 1\] where \[2, 2\] is wanted"):
        read(checkpoint(tmp_path / "m", tensors, settings, **types))


def test_half_a_weight_is_refused_where_the_configuration_tells_its_shape(tmp_path: Path) -> None:
    """Of half of AQLM's codes nothing else tells: the other half would be inputs."""
    name = "model.layers.0.self_attn.q_proj"
    tensors = {key.replace("m.", f"{name}."): value for key, value in AQLM.items()}
    folder = checkpoint(tmp_path / "m", tensors, aqlm(2, 1, 4))
    config = json.loads((folder / "config.json").read_text())
    for wide in (8, 16):
        sizes = {"hidden_size": wide, "num_attention_heads": 1, "head_dim": 8}
        (folder / "config.json").write_text(json.dumps(config | sizes))
        if wide == 8:
            assert read(folder)[f"{name}.weight"].shape == (8, 8)
    with pytest.raises(PomonaError) as error:
        read(folder)
    says = f'tensor "{name}.codes" of "m" stands for [8, 8], where config.json asks for [8, 16]'
    assert says in str(error.value)


@pytest.mark.parametrize("above", [None, np.inf, np.nan])
def test_scales_of_floats_of_four_bits_need_that_above_them(
    tmp_path: Path, above: float | None
) -> None:
    """compressed-tensors writes it for NVFP4 always: without it all weights are a factor off."""
    tensors = {"m.weight_packed": W, "m.weight_scale": W[:, :1]}
    says = 'is quantised, and there is no "m.weight_global_scale" — copy it again'
    if above is not None:
        tensors["m.weight_global_scale"] = np.array([above], np.float32)
        says = f'tensor "m.weight_global_scale" of "m" is {above}, no scale'
    settings = {"quant_method": "compressed-tensors"}
    folder = checkpoint(tmp_path / "m", tensors, settings, weight_scale="F8_E4M3")
    with pytest.raises(PomonaError) as error:
        read(folder)
    assert says in str(error.value)


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    tensors = {"m.weight": np.full((1, 4), 127, np.uint8), "m.weight_scale": np.ones(1, np.float32)}
    folder = checkpoint(tmp_path / "m", tensors, {"quant_method": "fp8"}, weight="F8_E4M3")
    with pytest.raises(PomonaError, match=r'tensor "m.weight" would hold NaN, infinity or'):
        read(folder)
