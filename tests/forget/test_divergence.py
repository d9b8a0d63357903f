from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy.stats import t, ttest_rel

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.files import beside
from pomona.forget import Divergence, check, compare_models
from pomona.forget.divergence import cache, comparing, sides
from pomona.forget.divergence.measures import Known, measured, top_of
from pomona.forget.divergence.texts import halves, windows
from pomona.models import LlamaLogits, ModelError, llama_logits, load
from pomona.models.http.model import prompt_logprobs_of

from .tiny_gguf import write_gguf

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden_divergence.json").read_text())
ROWS = [
    {"text": "Save the file", "group": "en", "cluster": "1"},
    {"text": "Delete all pages", "group": "en", "cluster": "2"},
    {"text": "", "group": "en", "cluster": "2"},
    {"text": "Datei speichern", "group": "de", "cluster": "1"},
    {"text": "Alle Seiten löschen", "group": "de", "cluster": "2"},
    {"text": "Enregistrer le fichier", "group": "fr", "cluster": "1"},
]
TABLE = pa.Table.from_pylist(ROWS)


class Bigrams:
    """A side whose logits depend on the token before alone; tokens are bytes, or pairs of them."""

    context = None
    identity = runs = "bigrams"
    prefix, adds_prefix = 1, False

    def __init__(self, name: str) -> None:
        seed, *more = name.split(":")
        self.name, self._wide = name, "pairs" in more
        self.vocabulary = 260 if "wide" in more else 256
        self.table = np.random.default_rng(int(seed)).normal(0, 3, (256, self.vocabulary))
        for row in ROWS:  # it knows half of what follows what
            self.table[list(row["text"].encode()[:-1]), list(row["text"].encode()[1:])] += 8

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        step = 2 if self._wide else 1
        return [list(text.encode()[::step]) for text in texts]

    def spelled(self, token: int) -> bytes:
        return bytes([token])

    def logprobs(self, ids: Sequence[int]) -> NDArray[np.float64]:
        logits = self.table[np.asarray(ids)]
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def blocks(self, units: Sequence[Any], rows: int) -> Iterator[torch.Tensor]:
        for unit in units:
            before = unit.ids[unit.first - 1 : -1]
            for start in range(0, len(before), rows):
                yield torch.from_numpy(self.table[before[start : start + rows]]).float()

    def close(self) -> None: ...


@pytest.fixture
def bigrams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "open_side", lambda uri, **_: Bigrams(uri))


def compared(a: str = "1", b: str = "2", text: Any = TABLE, **options: Any) -> Divergence:
    return compare_models(a, b, text=text, resamples=1000, **options)


def expected(a: Bigrams, b: Bigrams, texts: Sequence[str]) -> dict[str, Any]:
    """All in float64 over whole distributions."""
    kl, delta, right, loss = [], [], [], [0.0, 0.0]
    for text in filter(None, texts):
        ids = [1, *text.encode()]
        p, q = (side.logprobs(ids[:-1]) for side in (a, b))
        kl += list((np.exp(p) * (p - q)).sum(1))
        own = [each[np.arange(len(ids) - 1), ids[1:]] for each in (p, q)]
        delta += list(np.exp(own[1]) - np.exp(own[0]))
        loss = [total - each.sum() for total, each in zip(loss, own, strict=True)]
        tops = [each.argmax(1) for each in (p, q)]
        hits = zip(*(top == ids[1:] for top in tops), tops[0] == tops[1], strict=True)
        right += list(hits)
    size, hit = sum(len(text.encode()) for text in texts), np.array(right)
    return {
        "n": len(kl),
        "bytes": size,
        "accuracy_a": hit[:, 0].mean(),
        "accuracy_b": hit[:, 1].mean(),
        "lost": (hit[:, 0] & ~hit[:, 1]).sum(),
        "gained": (hit[:, 1] & ~hit[:, 0]).sum(),
        "metric_a": loss[0] / math.log(2) / size,
        "metric_b": loss[1] / math.log(2) / size,
        "kl": np.mean(kl),
        "kl_99": np.quantile(kl, 0.99),
        "kl_maximum": np.max(kl),
        "delta_p": np.mean(delta),
        "delta_p_rms": np.sqrt(np.mean(np.square(delta))),
        "delta_p_5": np.quantile(delta, 0.05),
        "same_top": hit[:, 2].mean(),
    }


def told(change: Any) -> dict[str, Any]:
    names = "n bytes accuracy_a accuracy_b lost gained metric_a metric_b"
    values = {name: getattr(change, name) for name in names.split()}
    for name in ("kl", "kl_maximum", "delta_p", "delta_p_rms", "same_top"):
        values[name] = getattr(change, name).value
    values["kl_99"] = change.kl_quantiles["99"].value
    return values | {"delta_p_5": change.delta_p_quantiles["5"].value}


@pytest.mark.usefixtures("bigrams")
def test_figures_are_those_of_whole_distributions() -> None:
    result = compared()
    a, b = Bigrams("1"), Bigrams("2")
    texts = [row["text"] for row in ROWS]
    assert told(result.overall) == pytest.approx(expected(a, b, texts), abs=1e-5)
    for group in ("en", "de", "fr"):
        own = [row["text"] for row in ROWS if row["group"] == group]
        assert told(result.groups[group]) == pytest.approx(expected(a, b, own), abs=1e-5)
    kl = result.overall.kl
    assert kl is not None
    assert kl.ci_low is not None
    assert kl.ci_high is not None
    assert kl.value is not None
    assert kl.ci_low < kl.value < kl.ci_high
    alone = result.groups["fr"]
    assert alone.note == "one cluster: nothing is known of the error"
    assert alone.ci_low is alone.metric_low is alone.kl.ci_low is None  # type: ignore
    assert result.notes[0] == "1 document has no token to score and counts nowhere."
    assert result.documents is not None
    assert result.documents["row"].to_pylist() == [1, 2, 4, 5, 6]
    again = json.dumps(compared().to_json(), allow_nan=False)
    assert json.loads(again) == json.loads(json.dumps(result.to_json()))


@pytest.mark.usefixtures("bigrams")
def test_intervals_of_quantiles_are_those_of_woodruff() -> None:
    a, b, kl, item = Bigrams("1"), Bigrams("2"), [], []
    for at, text in enumerate(filter(None, (row["text"] for row in ROWS))):
        p, q = (side.logprobs([1, *text.encode()][:-1]) for side in (a, b))
        kl += list((np.exp(p) * (p - q)).sum(1))
        item += [at] * len(p)
    values, documents = np.array(kl), np.array(item)
    told = compared(text=TABLE.drop_columns("cluster")).overall.kl_quantiles
    assert told is not None
    for name, level in (("median", 0.5), ("90", 0.9)):
        below = values <= np.quantile(values, level)
        residual = [(below - below.mean())[documents == at].sum() for at in range(5)]
        half = t.ppf(0.975, 4) * np.sqrt(5 / 4 * np.square(residual).sum()) / len(values)
        assert half > 0.02
        low = np.quantile(values, level - half)
        assert told[name].ci_low == pytest.approx(low, abs=1e-4)


@pytest.mark.usefixtures("bigrams")
def test_what_nothing_predicts_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bigrams, "prefix", None)
    texts = pa.table({"prompt": ["", "x", ""], "completion": ["abc", "äb", "d"]})
    told = compared(text=texts).overall
    assert (told.n, told.bytes, told.documents) == (5, 5, 2)


@pytest.mark.usefixtures("bigrams")
def test_windows_change_nothing_for_a_model_that_sees_one_token() -> None:
    whole = compared().overall
    for stride in (1, 3, 4):
        assert told(compared(context=4, stride=stride).overall) == pytest.approx(told(whole))
    assert told(compared("1", "1").overall)["kl"] == 0


@given(st.integers(0, 60), st.integers(1, 5), st.integers(1, 20), st.data())
def test_windows_score_each_token_once(n: int, first: int, context: int, data: Any) -> None:
    stride = data.draw(st.integers(1, context))
    ids = list(range(n))
    scored = []
    for unit in windows(ids, first, context, stride):
        assert 1 <= unit.first < len(unit.ids) <= context + 1
        scored += unit.ids[unit.first :].tolist()
    assert scored == ids[first:]


def test_halves_are_those_of_llama_cpp() -> None:
    units = halves(range(20), 8, prefix=99)
    assert [unit.ids.tolist() for unit in units] == [[99, *range(1, 8)], [99, *range(9, 16)]]
    assert [unit.ids[unit.first :].tolist() for unit in units] == [[5, 6, 7], [13, 14, 15]]


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(0.1, 6))
def test_bounds_hold_for_all_that_agrees_with_what_is_known(
    seed: int, k: int, other: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.normal(0, scale, (3, 12))) for _ in range(2))
    targets = rng.integers(0, 12, 3)
    exact = measured(a, b, targets)
    known, also = top_of(a, targets, k), top_of(b, targets, other)
    for first, second in ((known, b), (a, also), (known, also)):
        bounded = measured(first, second, targets)
        assert (bounded.kl_low <= exact.kl_low + 1e-6).all()
        assert (bounded.kl_high >= exact.kl_high - 1e-6).all()
        np.testing.assert_allclose(bounded.logprob_a, exact.logprob_a, atol=1e-6)
        np.testing.assert_array_equal(bounded.same_top, exact.same_top)
    # The worst that agrees is met: the tail's mass on the tokens that B finds least likely
    least, mass = known.logprobs[:, -1].exp().numpy(), known.tail.numpy().copy()
    p = np.zeros((3, 12))
    np.put_along_axis(p, known.ids.numpy(), known.logprobs.exp().numpy(), 1)
    q = b.log_softmax(1).numpy()
    for row in range(3):
        for token in sorted(set(range(12)) - set(known.ids[row].tolist()), key=lambda t: q[row, t]):
            p[row, token] = min(least[row], mass[row])
            mass[row] -= p[row, token]
    worst = np.where(p > 0, p * (np.log(np.maximum(p, 1e-300)) - q), 0).sum(1)
    np.testing.assert_allclose(measured(known, b, targets).kl_high, worst, atol=1e-6)


@pytest.mark.usefixtures("bigrams")
@pytest.mark.parametrize(
    ("b", "reason"),
    [
        ("2:wide", "1 tells of 256 tokens and 2:wide of 260"),
        ("2:pairs", "their tokenizers differ: row 1 has 13 tokens for 1 and 7 for 2:pairs"),
    ],
)
def test_of_other_tokenizers_only_bits_per_byte_are_told(b: str, reason: str) -> None:
    result = compared("1", b)
    assert result.reason == reason
    assert result.notes[0] == f"Only bits per byte can be compared: {reason}."
    overall = result.overall
    assert overall.kl is overall.n is overall.p_mcnemar is overall.delta_p is None
    assert overall.metric_a == pytest.approx(compared().overall.metric_a)
    side, total = Bigrams(b), 0.0
    for text in (row["text"] for row in ROWS if row["text"]):
        ids = [1, *side.encode([text])[0]]
        total -= side.logprobs(ids[:-1])[np.arange(len(ids) - 1), ids[1:]].sum()
    assert overall.metric_b == pytest.approx(total / math.log(2) / overall.bytes, abs=1e-5)
    assert None not in (overall.metric_low, overall.p_metric, result.groups["de"].p_metric_holm)
    with pytest.raises(
        PomonaError, match=r"chunks of tokens differ: .* — use windows of documents"
    ):
        compared("1", b, windows="llama.cpp", context=16)


@pytest.mark.usefixtures("bigrams")
def test_texts_that_cannot_be_compared(tmp_path: Path) -> None:
    def refused(text: Any, message: str, **options: Any) -> None:
        with pytest.raises(PomonaError, match=message):
            compared(text=text, **options)

    refused(TABLE, 'there is no column "grup" — did you mean "group"', group="grup")
    refused(pa.table({"words": ["a"]}), 'there is no column "text"')
    refused(pa.table({"text": ["", ""]}), "there is nothing to score — give more text")
    refused(pa.table({"text": ["a", None]}), 'row 2: "text" has no value — fill it')
    refused(TABLE, "context: is 3 — give at least 4", context=3)
    refused(TABLE, "stride: is 9, and a window has 8 tokens", context=8, stride=9)
    refused(TABLE, "stride: is 0 — give at least 1", stride=0)
    refused(TABLE, "no text has 512 tokens", windows="llama.cpp")
    refused(TABLE, '"half" is unknown', windows="half")
    plain = tmp_path / "a.txt"
    plain.write_bytes(b"one\n\ntwo\n\n\n")
    assert compared(text=plain).overall.documents == 2
    refused(plain, 'a plain text has no column "lang"', group="lang")
    plain.write_bytes(b"\xff")
    refused(plain, r"a\.txt: is not UTF-8: byte 0")


@pytest.mark.usefixtures("bigrams")
def test_clusters_are_resampled_whole_and_the_gate_reads_it(tmp_path: Path) -> None:
    few = compared().overall
    many = compared(text=TABLE.drop_columns("cluster")).overall
    same = pa.Table.from_pylist([{"text": w} for w in ("abcd", "efgh", "aceg", "bdfh", "xyzz")])
    even = compared(text=same)  # of texts of one length it is the paired test
    assert even.documents is not None
    bits = [even.documents[f"bits_per_byte_{side}"].to_numpy() for side in "ab"]
    assert even.overall.p_metric == pytest.approx(ttest_rel(*bits).pvalue)
    assert few.metric_difference == many.metric_difference
    assert (few.metric_low, few.metric_high) != (many.metric_low, many.metric_high)
    prompted = pa.table({"prompt": ["Save: ", ""], "completion": ["Speichern", "Löschen"]})
    told = compared(text=prompted).overall
    assert told.n == told.bytes == len("SpeichernLöschen".encode())
    kept = tmp_path / "c.json"
    kept.write_text(json.dumps(compared().to_json()))
    assert not check(kept, max_flips=0).passed
    still = compared("1", "1")
    assert still.overall.unseen == pytest.approx(1 - 0.05**0.5)  # of two clusters
    assert "no token flipped" in str(still.overall.note)
    kept.write_text(json.dumps(still.to_json()))
    assert not check(kept, max_flips=70, by="possible").passed


@pytest.mark.usefixtures("bigrams")
def test_the_command_and_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, page = tmp_path / "text.jsonl", tmp_path / "page"
    rows = [{**row, "group": f"<{row['group']}>"} for row in ROWS]
    text.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ["forget", "compare", "1", "2", "--text", str(text)]
    assert main([*line, "--page", str(page)]) == 0
    said = capsys.readouterr().out
    assert "B − A, bits per byte" in said
    assert said.splitlines()[-1] == str(page / "index.html")
    assert main([*line[:5], str(text), "--metric", "chrf"]) == 2
    assert "--metric: means nothing with --text — leave it out" in capsys.readouterr().err
    assert main([*line[:4], "--context", "8"]) == 2
    assert "--context: means nothing without --text — leave it out" in capsys.readouterr().err
    (page / "index.html").write_text("mine")
    assert main([*line, "--page", str(page)]) == 2
    assert (page / "index.html").read_text() == "mine"
    assert main([*line, "--cache", str(text)]) == 2
    assert "holds nothing that was kept of a model" in capsys.readouterr().err


def test_torch_models_and_what_is_kept_of_one(tmp_path: Path) -> None:
    text, kept = TABLE.slice(0, 2), tmp_path / "kept.parquet"
    exact = compared("ui-xs", "ui-s", text, cache=kept).overall
    kl, bits = [], 0.0
    models: list[Any] = [load(name, need=["score"]) for name in ("ui-xs", "ui-s")]
    for row in ROWS[:2]:
        ids = models[0].codec.encode([row["text"]], special=False)[0]
        read = torch.tensor([[models[0].codec.tokenizer.eos_token_id, *ids]])
        with torch.inference_mode():
            p, q = (m.network.double()(read).logits[0, :-1].log_softmax(1) for m in models)
        kl += (p.exp() * (p - q)).sum(1).tolist()
        bits -= float(q.gather(1, torch.tensor(ids)[:, None]).sum()) / math.log(2)
    assert exact.kl is not None
    assert exact.kl.value == pytest.approx(np.mean(kl), abs=1e-5)
    assert exact.metric_b == pytest.approx(bits / exact.bytes, abs=1e-5)

    bounded = compared("ui-xs", "ui-s", text, cache=kept)
    bounds = bounded.overall.kl
    assert bounds is not None
    assert bounds.value is None
    assert bounds.at_least is not None
    assert bounds.at_most is not None
    assert exact.kl.value is not None
    assert bounds.at_least <= exact.kl.value <= bounds.at_most
    assert bounded.overall.metric_b == pytest.approx(exact.metric_b)
    assert bounded.overall.lost == exact.lost
    assert any("KL has bounds instead of a value" in note for note in bounded.notes)
    before = kept.read_bytes()
    with pytest.raises(PomonaError, match=r"kept\.parquet: was kept of other texts or windows"):
        compared("ui-xs", "ui-s", TABLE.slice(1, 1), cache=kept)
    with pytest.raises(PomonaError, match="was kept of ui-xs, and ui-m is another model"):
        compared("ui-m", "ui-s", text, cache=kept)
    assert kept.read_bytes() == before
    kept.write_text("{}")
    with pytest.raises(PomonaError, match="holds nothing that was kept of a model"):
        compared("ui-xs", "ui-s", text, cache=kept)


def test_models_and_what_was_kept_are_inputs(
    tmp_path: Path, bigrams: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_fingerprint", lambda uri: uri)
    model, kept = tmp_path / "model", tmp_path / "pages" / "kept.parquet"
    model.mkdir()
    monkeypatch.setattr(comparing, "open_side", lambda *_, **__: Bigrams("1"))
    with pytest.raises(PomonaError, match="model: is an input, and --page would replace it"):
        compared(str(model), "2", page=model)
    compared(cache=kept)
    with pytest.raises(PomonaError, match=r"kept\.parquet: lies in .*pages, which is --page"):
        compared(cache=kept, page=kept.parent)
    with pytest.raises(PomonaError, match=r"kept\.parquet: is an input, and --page would"):
        compared(cache=kept, page=kept)
    assert sorted(path.name for path in kept.parent.iterdir()) == ["kept.parquet"]


@pytest.mark.usefixtures("bigrams")
def test_a_damaged_cache_is_told_and_never_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_fingerprint", lambda uri: uri)
    kept, left = tmp_path / "kept.parquet", beside(tmp_path / "kept.parquet", pid=4194399)
    left.write_bytes(b"what a killed writer left")
    compared(cache=kept)
    assert not left.exists()
    whole, right = kept.read_bytes(), compared(cache=kept).to_json()

    def refused(says: str) -> None:
        with pytest.raises(PomonaError, match=f"kept.parquet: {says}.* — name another file"):
            compared(cache=kept)

    for at in range(4, len(whole), len(whole) // 40):  # a bit that turned
        kept.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            assert compared(cache=kept).to_json() == right
        except PomonaError as error:
            assert "kept.parquet: " in str(error)
    kept.write_bytes(whole[: len(whole) // 2])
    refused("holds nothing that was kept of a model: ")
    kept.write_bytes(whole)
    table, said = pq.read_table(kept), json.loads(pq.read_schema(kept).metadata[b"pomona_kept"])

    def written(told: Any, changed: pa.Table = table) -> None:
        mark = {b"pomona_kept": json.dumps(told).encode()}
        pq.write_table(changed.replace_schema_metadata(mark), kept)

    written([])
    refused("is not an object of JSON")
    written({**said, "format": 2})
    refused("has format 2; this Pomona reads format 1")
    written({**said, "prefix": "one"})
    refused("holds nothing that was kept of a model")
    written(said, table.drop_columns("tail"))
    refused("holds nothing that was kept of a model: it has other columns")
    for column, value, says in (
        ("top", 256, "holds no distributions"),
        ("top", -1, "holds no distributions"),
        ("tail", float("nan"), "holds no distributions"),
        ("logprobs", 0.5, "holds no distributions"),
        ("target", None, "has numbers of other positions"),
    ):
        lists = [[value] * len(one) for one in table[column].to_pylist()]
        lists = [one[:-1] for one in table[column].to_pylist()] if value is None else lists
        place = table.schema.get_field_index(column)
        field = table.schema.field(column)
        written(said, table.set_column(place, field, pa.array(lists, field.type)))
        refused(f"is damaged: window 1 {says}")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("gguf")
    made = {kind: write_gguf(folder / f"{kind}.gguf", kind, seed=0) for kind in ("F32", "Q8_0")}
    return made | {"ui-xs": write_gguf(folder / "ui-xs.gguf")}


def _as_stored(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities as `llama-perplexity` keeps those of the base: in 16 bits, over at most 16
    below the largest.
    """
    high = logits.max(1, keepdims=True)
    low = np.maximum(logits.min(1, keepdims=True), high - 16)
    step, total = (high - low) / 65535, np.log(np.exp(logits - high).sum(1, keepdims=True))
    return np.maximum(np.round((logits - low) / step), 0) * step + low - high - total


def test_figures_are_those_of_llama_perplexity(files: dict[str, Path]) -> None:
    golden, text = GOLDEN["figures"], HERE / "golden.txt"
    pair = [files["F32"], files["Q8_0"]]
    a, b = (f"gguf:{file}" for file in pair)
    told = compared(a, b, text, windows="llama.cpp", context=GOLDEN["context"]).overall
    assert told.n == GOLDEN["tokens"]
    assert told.loss_b == pytest.approx(math.log(golden["ppl_b"]), abs=1e-4)
    whole, stored = _by_llama(pair, text)
    assert told.kl is not None
    assert told.kl.value == pytest.approx(whole, abs=1e-6)
    assert stored == pytest.approx(golden["kl"], abs=5e-6)
    assert whole == pytest.approx(golden["kl"], abs=1e-4)
    assert told.same_top is not None
    assert told.delta_p is not None
    assert told.delta_p_rms is not None
    assert 100 * told.delta_p.value == pytest.approx(golden["delta_p_percent"], abs=2e-3)  # type: ignore
    assert 100 * told.delta_p_rms.value == pytest.approx(  # type: ignore
        golden["delta_p_rms_percent"], abs=2e-3
    )


def _by_llama(files: Sequence[Path], text: Path) -> tuple[float, float]:
    """Mean KL over all second halves of chunks: of the logits, and as `llama-perplexity` counts."""
    size, models = GOLDEN["context"], [LlamaLogits(file, context=512) for file in files]
    ids, exact, stored = models[0].encode([text.read_text().removesuffix("\n")])[0], [], []
    for start in range(0, len(ids) - size + 1, size):
        chunk = ids[start : start + size]
        rows = [
            np.concatenate([b.copy() for b in m.logits(chunk, size // 2 + 1, 64)]) for m in models
        ]
        a, b = (each.astype(np.float64) for each in rows)
        p, q = (x - x.max(1, keepdims=True) for x in (a, b))
        p, q = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (p, q))
        exact += list((np.exp(p) * (p - q)).sum(1))
        r = _as_stored(a)
        stored += list(np.where(r > -16, np.exp(r) * (r - q), 0).sum(1))
    for model in models:
        model.close()
    return float(np.mean(exact)), float(np.mean(stored))


def test_files_that_llama_cpp_refuses(files: dict[str, Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(files["F32"].read_bytes()[:-1000])
    with pytest.raises(PomonaError, match=r"cut\.gguf: llama\.cpp cannot load it — is the file"):
        compared(f"gguf:{cut}", "ui-xs")
    with pytest.raises(PomonaError, match="reads 512 tokens at once, and the context is 1,024"):
        compared(f"gguf:{files['F32']}", "ui-xs", context=1024)
    wider = write_gguf(tmp_path / "wider.gguf", tokens=8)
    assert "tells of 6,152 tokens" in str(compared(f"gguf:{wider}", "ui-xs").reason)


def test_a_gguf_file_says_what_its_checkpoint_does(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, whole = list(range(200, 230)), LlamaLogits(files["F32"], context=512)
    rows = [block.copy() for block in whole.logits(ids, 3, 10)]
    assert [len(block) for block in rows] == [10, 10, 7]
    longest = sum(len(block) for block in whole.logits([*ids] * 17 + [200] * 3, 1, 128))
    assert longest == 512
    monkeypatch.setattr(llama_logits, "_AT_ONCE", 8)  # a longer text is read in several calls
    parts = [block.copy() for block in whole.logits(ids, 3, 10)]
    np.testing.assert_allclose(np.concatenate(parts), np.concatenate(rows), atol=1e-2)
    assert b"".join(map(whole.spelled, whole.encode(["Öffnen 日"])[0])).decode() == "Öffnen 日"
    whole.close()
    whole.close()
    result = compared("ui-xs", f"gguf:{files['ui-xs']}")
    assert result.reason is None
    assert result.overall.kl is not None
    assert result.overall.kl.value == pytest.approx(0, abs=1e-4)


class _Served:
    """What a server tells of bigrams."""

    identity = "http:served"

    async def prompt_logprobs(self, ids: Sequence[int], top: int) -> list[Any]:
        rows = Bigrams("1").logprobs(ids[:-1])
        best = np.argsort(-rows, axis=1)[:, :top]
        pairs = [[(int(t), row[t]) for t in own] for row, own in zip(rows, best, strict=True)]
        own = rows[np.arange(len(rows)), ids[1:]]
        return [([], 0.0), *zip(pairs, map(float, own), strict=True)]

    async def close(self) -> None: ...


@pytest.mark.usefixtures("bigrams")
def test_a_server_bounds_the_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "load", lambda _: _Served())
    exact, a = compared().overall, compared("http://there/v1#m", "2").overall
    assert exact.kl is not None
    assert exact.kl.value is not None
    assert a.kl is not None
    assert a.kl.at_least is not None
    assert a.kl.at_most is not None
    assert a.kl.at_least < exact.kl.value < a.kl.at_most
    assert (a.lost, a.gained, a.metric_a) == pytest.approx(
        (exact.lost, exact.gained, exact.metric_a)
    )
    b = compared("2", "http://there/v1#m").overall.kl
    assert b is not None
    assert b.at_least is not None
    assert b.at_most is None  # what it does not tell may be as unlikely as it likes
    with pytest.raises(PomonaError, match="two servers have no tokenizer here"):
        compared("http://there/v1#m", "http://there/v1#n")


def test_what_a_server_must_tell() -> None:
    row = {"7": {"logprob": -0.5, "rank": 1}, "9": {"logprob": -3.0, "rank": 30}}
    answer = {"choices": [{"prompt_logprobs": [None, row]}]}
    told = prompt_logprobs_of(answer, [3, 9], 1, "there")
    assert told == [([], 0.0), ([(7, -0.5)], -3.0)]
    with pytest.raises(ModelError, match="tells no log-probabilities of a given text"):
        prompt_logprobs_of({"choices": [{"text": "x"}]}, [3, 9], 1, "there")
    for broken in ([None], [None, {"7": {}}], [None, None], [None, {"9": {"logprob": "x"}}]):
        with pytest.raises(ModelError, match="its prompt_logprobs are not of the 2 tokens"):
            prompt_logprobs_of({"choices": [{"prompt_logprobs": broken}]}, [3, 9], 1, "there")


def test_known_blocks_are_cut_like_others() -> None:
    known = top_of(torch.randn(5, 9), np.zeros(5, np.int64), 3)
    assert isinstance(known[1:3], Known)
    assert len(known[1:3]) == 2
