"""Near-duplicates against plain Python: what goes is above the threshold, what should be found is
found, and groups are right.
"""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from pomona import files
from pomona.data.duplicates import dedup, minhash, pairs as pairing
from pomona.data.duplicates._loops.joining import edit_close
from pomona.shingles import bands_for, composed, s_curve

SURE = {"n_bands": 24, "rows_per_band": 1}


def shingles(text: str, size: int = 5) -> set[tuple[str, ...]]:
    words = unicodedata.normalize("NFC", text).lower().split()
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)} or {
        ("short", *words)
    }


def jaccard(one: str, two: str, size: int = 5) -> float:
    a, b = shingles(one, size), shingles(two, size)
    return len(a & b) / len(a | b)


def planted(pairs: int, words: int, seed: int) -> list[str]:
    """Documents 2i and 2i + 1 share their first words, from none to all of them."""
    draw = np.random.default_rng(seed)
    first = draw.integers(0, 1 << 20, (pairs, words))
    second = draw.integers(0, 1 << 20, (pairs, words))
    shared = np.arange(words) < draw.integers(5, words + 1, (pairs, 1))
    second[shared] = first[shared]
    return [
        " ".join(map(str, row))
        for two in zip(first.tolist(), second.tolist(), strict=True)
        for row in two
    ]


def run(texts: list[str], folder: Path, **options: object) -> tuple[list[int], pa.Table, object]:
    """Rows that stay, the evidence, and the card."""
    out = folder / "out.parquet"
    table = pa.table(
        {"row": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.string())}
    )
    card = dedup(table, out, **options)
    return pq.read_table(out)["row"].to_pylist(), pq.read_table(f"{out}.pairs.parquet"), card


def groups(texts: list[str], threshold: float, size: int = 5) -> list[int]:
    """The first row of every component of the graph of all pairs at or above the threshold."""
    parent = list(range(len(texts)))

    def root(item: int) -> int:
        return item if parent[item] == item else root(parent[item])

    for two in range(len(texts)):
        for one in range(two):
            if jaccard(texts[one], texts[two], size) >= threshold:
                a, b = sorted((root(one), root(two)))
                parent[b] = a
    return [row for row in range(len(texts)) if parent[row] == row]


def test_s_curve_has_the_values_of_the_paper() -> None:
    assert s_curve(450, 20, 0.7) == pytest.approx(0.302, abs=5e-4)
    assert s_curve(450, 20, 0.8) == pytest.approx(0.9946, abs=5e-5)


def test_bands_follow_the_threshold() -> None:
    assert bands_for(0.8) == (16, 8)
    assert bands_for(0.7) == (25, 5)
    for threshold in (0.05, 0.3, 0.5, 0.9, 1.0):
        bands, rows = bands_for(threshold)
        assert bands * rows <= 128
        assert s_curve(bands, rows, threshold) >= 0.94 or rows == 1


def test_no_removed_pair_is_below_the_threshold(tmp_path: Path) -> None:
    texts = planted(4000, 45, seed=1)
    stays, pairs, card = run(texts, tmp_path)
    for row in pairs.to_pylist():
        truth = jaccard(texts[row["row_a"]], texts[row["row_b"]])
        assert truth >= 0.8
        assert row["jaccard"] == pytest.approx(truth, abs=1e-12)
        assert row["removed"] == row["row_a"] and row["kept"] in stays
    truths = np.array([jaccard(texts[at], texts[at + 1]) for at in range(0, len(texts), 2)])
    expected = s_curve(16, 8, truths[truths >= 0.8]).sum()
    assert abs(len(pairs) - expected) < 0.03 * expected
    assert card.rows_out == len(stays) == len(texts) - len(pairs)
    assert card.removed["near"] + card.removed["exact"] == len(pairs)


def test_recall_follows_the_s_curve_at_every_decile(tmp_path: Path) -> None:
    texts = planted(12_000, 45, seed=2)
    truths = np.array([jaccard(texts[at], texts[at + 1]) for at in range(0, len(texts), 2)])
    _, pairs, _ = run(texts, tmp_path, threshold=1e-9, n_bands=16, rows_per_band=8)
    hit = np.zeros(len(truths), bool)
    hit[np.array(pairs["removed"]) // 2] = True
    theory = s_curve(16, 8, truths)
    for decile in range(10):
        here = (truths >= decile / 10) & (truths < (decile + 1) / 10 + (decile == 9))
        noise = 2 * np.sqrt((theory[here] * (1 - theory[here])).sum()) / here.sum()
        assert abs(hit[here].mean() - theory[here].mean()) <= 0.015 + noise, decile


def test_two_groups_that_share_a_band_stay_two(tmp_path: Path) -> None:
    common, one, two = (
        [f"{name}{at}" for at in range(count)] for name, count in (("x", 60), ("a", 60), ("c", 60))
    )
    a, c = " ".join(common + one), " ".join(common + two)
    texts = [a, a + " more", c, c + " words"]
    assert jaccard(texts[1], texts[2]) < 0.8 <= min(jaccard(*texts[:2]), jaccard(*texts[2:]))
    stays, pairs, _ = run(texts, tmp_path, **SURE)
    assert stays == [0, 2]
    assert pairs["kept"].to_pylist() == [0, 2]


def test_a_chain_is_one_group_and_says_by_which_pair(tmp_path: Path) -> None:
    words = [str(at) for at in range(100)]
    texts = [" ".join(words[at : at + 80]) for at in (0, 8, 16)]
    assert jaccard(texts[0], texts[2]) < 0.7
    stays, pairs, _ = run(texts, tmp_path, threshold=0.7, **SURE)
    assert stays == [0]
    assert pairs.select(["removed", "kept", "row_b"]).to_pylist() == [
        {"removed": 1, "kept": 0, "row_b": 0},
        {"removed": 2, "kept": 0, "row_b": 1},
    ]


def test_a_large_group_is_not_compared_pair_by_pair(tmp_path: Path) -> None:
    boilerplate = " ".join(map(str, range(200)))
    same = [f"{boilerplate} a{at}" for at in range(300)]
    texts = [
        text
        for pair in zip(same, (f"{boilerplate} b{at} " * 3 for at in range(300)), strict=True)
        for text in pair
    ]
    stays, _, card = run(texts, tmp_path, **SURE)
    assert stays == [0]
    assert card.details["compared"] < 2 * len(texts)
    assert card.details["cut_short"] == 0


def test_comparisons_cut_short_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "MOST", 2)
    words = " ".join(map(str, range(20)))
    texts = [f"{words} " + " ".join(f"{name}{at}" for at in range(10)) for name in "abcdef"]
    stays, _, card = run(texts, tmp_path, **SURE)
    assert stays == list(range(6))
    assert card.details["cut_short"] > 0


def test_short_and_empty_documents_only_equal_the_same_text(tmp_path: Path) -> None:
    texts = [
        "one two",
        "One  two\n",
        "one two three",
        "",
        " ",
        "two one",
        "one two three four five",
    ]
    stays, _, card = run(texts, tmp_path)
    assert stays == [0, 2, 3, 5, 6]
    assert card.removed == {"exact": 2, "near": 0}
    assert card.details["shorter_than_a_shingle"] == 6


@pytest.mark.parametrize(
    "text",
    [
        "人人生而自由在尊严和权利上一律平等他们赋有理性和良心并应以兄弟关系的精神相对待人人有资格享受本宣言所载的一切权利和自由",
        "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิต่างมีเหตุผลและมโนธรรมและควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ",
        "すべての人間は生まれながらにして自由でありかつ尊厳と権利とについて平等である人間は理性と良心とを授けられており互いに同胞の精神をもって行動しなければならない",
    ],
)
def test_text_without_spaces_is_compared_by_characters(text: str, tmp_path: Path) -> None:
    stays, pairs, card = run([text, text[:-1], text[::-1]], tmp_path)
    assert stays == [0, 2]
    assert card.details["character_shingles"] == 3
    normal = unicodedata.normalize("NFC", text)
    sets = [{whole[at : at + 5] for at in range(len(whole) - 4)} for whole in (normal, normal[:-1])]
    assert pairs["jaccard"].to_pylist() == [len(sets[0] & sets[1]) / len(sets[0] | sets[1])]
    assert run([text, text[:-1]], tmp_path, shingle="word")[0] == [0, 1]


def test_normal_form(tmp_path: Path) -> None:
    text = "Größe und Übermut sind Änderungen des Gemüts à la carte"
    stays, _, card = run(
        [
            text,
            unicodedata.normalize("NFD", text),
            text.upper().replace("SS", "ß"),
            text.replace(" ", "\u00a0 "),
        ],
        tmp_path,
    )
    assert stays == [0]
    assert card.removed["exact"] == 3


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=8))
def test_composed_is_nfc(texts: list[str]) -> None:
    assert composed(pa.array(texts, pa.string())).to_pylist() == [
        unicodedata.normalize("NFC", text) for text in texts
    ]


WORDS = st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), max_size=14)


@settings(max_examples=25)
@given(
    texts=WORDS,
    threshold=st.sampled_from([0.5, 0.7, 1.0]),
    rows=st.sampled_from([1, 3, 100]),
    budget=st.sampled_from([1, 40, 1 << 20]),
)
def test_groups_are_those_of_all_pairs_whatever_the_chunks(
    texts: list[str],
    threshold: float,
    rows: int,
    budget: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minhash, "CHUNK_ROWS", rows)
        patch.setattr(pairing, "BUDGET", budget)
        patch.setattr(files, "sync", lambda _: None)
        folder = tmp_path_factory.mktemp("groups")
        stays, _, _ = run(
            texts, folder, threshold=threshold, shingle="word", shingle_size=2, **SURE
        )
        assert stays == groups(texts, threshold, 2)
        again, _, _ = run(
            [texts[row] for row in stays],
            folder,
            threshold=threshold,
            shingle="word",
            shingle_size=2,
            **SURE,
        )
        assert again == list(range(len(stays)))


def edits(one: list[int], two: list[int]) -> int:
    row = list(range(len(two) + 1))
    for at, item in enumerate(one, 1):
        corner, row[0] = row[0], at
        for there, other in enumerate(two, 1):
            corner, row[there] = (
                row[there],
                min(row[there] + 1, row[there - 1] + 1, corner + (item != other)),
            )
    return row[-1]


@numba.njit
def close(one: np.ndarray, two: np.ndarray, least: float, costs: np.ndarray) -> bool:
    return edit_close(one, two, least, costs)


@given(
    st.lists(st.integers(0, 3), max_size=12),
    st.lists(st.integers(0, 3), max_size=12),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_edit_similarity_is_levenshtein(one: list[int], two: list[int], least: float) -> None:
    longer = max(len(one), len(two))
    expected = longer == 0 or 1 - edits(one, two) / longer >= least - 1e-12
    assert (
        close(
            np.array(one, np.uint64),
            np.array(two, np.uint64),
            least,
            np.empty(len(two) + 1, np.int64),
        )
        == expected
    )


def test_edit_similarity_is_asked_for_on_top(tmp_path: Path) -> None:
    draw = random.Random(0)
    halves = [" ".join(str(draw.random()) for _ in range(100)) for _ in range(2)]
    texts = [" ".join(halves), " ".join(halves[::-1]), " ".join(halves) + " end"]
    assert run(texts, tmp_path)[0] == [0]
    assert run(texts, tmp_path, edit_similarity=0.8)[0] == [0, 1]


def test_keep_longest_best_and_target_size(tmp_path: Path) -> None:
    words = [str(at) for at in range(60)]
    texts = [" ".join(words), " ".join([*words, "more"]), " ".join(words[::-1])]
    table = pa.table({"text": texts, "score": [0.5, 0.1, 0.3]})
    out = tmp_path / "out.parquet"

    def kept(**options: object) -> list[float]:
        dedup(table, out, **options)
        return pq.read_table(out)["score"].to_pylist()

    assert kept() == [0.5, 0.3]
    assert kept(keep="longest") == [0.1, 0.3]
    assert kept(keep="best:score") == [0.5, 0.3]
    assert kept(keep="best:score", target_size=1) == [0.5]
    assert dedup(table, out, target_size=1).removed == {"exact": 0, "near": 1, "target size": 1}


def test_against_removes_only_what_is_there_itself(tmp_path: Path) -> None:
    words = [str(at) for at in range(100)]
    chain = [" ".join(words[at : at + 80]) for at in (0, 8, 16)]
    train = pa.table(
        {
            "id": ["far", "copy", "near", "again", "other"],
            "text": [chain[0], chain[1], chain[1] + " x", chain[1], "x y z"],
        }
    )
    out = tmp_path / "train.parquet"
    card = dedup(train, out, against=pa.table({"text": [chain[2]]}), threshold=0.7, **SURE)
    assert pq.read_table(out)["id"].to_pylist() == ["far", "other"]
    assert card.removed == {"exact": 0, "near": 0, "against": 3}
    evidence = pq.read_table(f"{out}.pairs.parquet")
    assert evidence["removed_id"].to_pylist() == ["copy", "near", "again"]
    assert set(evidence["kept_in"].to_pylist()) == {"against"}
    assert evidence["jaccard"][0].as_py() == pytest.approx(jaccard(chain[1], chain[2]))


@pytest.mark.parametrize("method", ["exact", "minhash"])
def test_keep_none_removes_all_that_have_a_duplicate(tmp_path: Path, method: str) -> None:
    texts = [
        *planted(20, 60, 4),
        "one alone here of its own",
        *planted(20, 60, 4)[:6:2],
        "held elsewhere",
    ]
    options = {} if method == "exact" else {"threshold": 0.6, **SURE}
    first, _, _ = run(texts, tmp_path, method=method, **options)
    rows, pairs, card = run(texts, tmp_path, method=method, keep="none", **options)
    close = [
        {
            b
            for b, two in enumerate(texts)
            if a != b and (one == two if method == "exact" else jaccard(one, two) >= 0.6)
        }
        for a, one in enumerate(texts)
    ]
    assert rows == [row for row, others in enumerate(close) if not others]
    assert set(rows) < set(first) and len(pairs) == len(texts) - len(rows) == sum(
        card.removed.values()
    )
    assert pairs["kept"].null_count == pairs["kept_in"].null_count == len(pairs)
    for row in pairs.to_pylist():
        assert row["row_b"] in close[row["removed"]] and row["jaccard"] >= 0.6
        assert (row["reason"] == "exact") == (row["jaccard"] == 1)
    other = pa.table({"text": ["held elsewhere"]})
    rows, pairs, card = run(texts, tmp_path, method=method, keep="none", against=other, **options)
    assert len(texts) - 1 not in rows and card.removed["against"] == 1
    assert pairs["kept_in"].to_pylist()[-1] == "against"
