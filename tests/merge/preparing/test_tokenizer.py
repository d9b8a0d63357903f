from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from pomona.errors import PomonaError
from pomona.merge.preparing.tokenizer import (
    Tokenizer,
    extended,
    files_of,
    read_tokenizer,
    union,
    without_tail,
)
from pomona.models.tensors import write_made

ENGLISH = [
    "the reader reads the other weather report where there is a river",
    "where is the nearest harbour and the weather",
]
GERMAN = [
    "der Leser liest den Wetterbericht und weder noch wieder die Weide",
    "wo ist der nächste Hafen und das Wetter",
]


@cache
def byte_level(texts: tuple[str, ...], special: tuple[str, ...]) -> str:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts * 3, trainer)
    tokenizer.add_special_tokens(list(special))
    return tokenizer.to_str()


@cache
def unigram(texts: tuple[str, ...], special: tuple[str, ...]) -> str:
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=50, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts * 10, trainer)
    tokenizer.add_special_tokens(list(special))
    return tokenizer.to_str()


def saved(folder: Path, data: str, **config: Any) -> Tokenizer:
    folder.mkdir()
    (folder / "tokenizer.json").write_text(data)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", **config})
    )
    tokenizer_read = read_tokenizer(folder)
    assert tokenizer_read is not None
    return tokenizer_read


def english(tmp_path: Path) -> Tokenizer:
    return saved(tmp_path / "en", byte_level(tuple(ENGLISH), ("<|im_start|>", "<|both|>")))


def german(tmp_path: Path) -> Tokenizer:
    return saved(tmp_path / "de", byte_level(tuple(GERMAN), ("<|both|>", "<|de|>")))


def reread(tokenizer: Tokenizer, folder: Path) -> tokenizers.Tokenizer:
    write_made(folder, {}, files_of(tokenizer))
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_the_union_keeps_the_bases_ids_and_appends_the_others_in_order(tmp_path: Path) -> None:
    en, de = english(tmp_path), german(tmp_path)
    both = union(en, [de])
    assert {text: both.vocab[text] for text in en.vocab} == dict(en.vocab)
    new = sorted(de.vocab.keys() - en.vocab.keys(), key=lambda text: de.vocab[text])
    assert [both.vocab[text] for text in new] == list(
        range(len(en.vocab), len(en.vocab) + len(new))
    )
    assert reread(both, tmp_path / "union").get_vocab() == dict(both.vocab)
    assert [both.added[text]["special"] for text in ("<|im_start|>", "<|both|>", "<|de|>")] == [
        True
    ] * 3


def test_text_of_both_is_cut_as_before_and_comes_back_whole(tmp_path: Path) -> None:
    en, de = english(tmp_path), german(tmp_path)
    both = reread(union(en, [de]), tmp_path / "union")
    old = tokenizers.Tokenizer.from_str(byte_level(tuple(ENGLISH), ("<|im_start|>", "<|both|>")))
    for text in ENGLISH:
        assert both.encode(text).ids == old.encode(text).ids
    for text in (*ENGLISH, *GERMAN, "wieder <|de|> 日本 <|im_start|>"):
        assert both.decode(both.encode(text).ids, skip_special_tokens=False) == text
    assert len(both.encode(GERMAN[0]).ids) < len(old.encode(GERMAN[0]).ids)


def test_pieces_do_not_become_added_tokens_that_cut_words(tmp_path: Path) -> None:
    en, de = english(tmp_path), german(tmp_path)
    both = union(en, [de])
    assert set(both.added) == {*en.added, *de.added}


def test_transformers_loads_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    en, de = english(tmp_path), german(tmp_path)
    both = union(en, [de])
    backend = reread(both, tmp_path / "union")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "union")
    assert loaded.get_vocab() == dict(both.vocab)
    assert loaded(GERMAN[0])["input_ids"] == backend.encode(GERMAN[0]).ids
    assert loaded.eos_token == "</s>"


def test_a_union_of_three_does_not_depend_on_anything_but_the_order(tmp_path: Path) -> None:
    en, de = english(tmp_path), german(tmp_path)
    third = saved(tmp_path / "x", byte_level(("aa ab ba",), ("<|de|>", "<|x|>")))
    once, again = (files_of(union(en, [de, third]))["tokenizer.json"] for _ in range(2))
    assert once == again
    assert union(en, [third, de]).vocab.keys() == union(en, [de, third]).vocab.keys()


def test_unigram_pieces_keep_their_scores(tmp_path: Path) -> None:
    en = saved(tmp_path / "en", unigram(tuple(ENGLISH), ("<x>",)))
    de = saved(tmp_path / "de", unigram(tuple(GERMAN), ("<y>", "<x>")))
    both = union(en, [de])
    assert {text: both.vocab[text] for text in en.vocab} == dict(en.vocab)
    scores, theirs = dict(both.data["model"]["vocab"]), dict(de.data["model"]["vocab"])
    assert all(scores[text] == theirs[text] for text in theirs if text not in en.vocab)
    loaded = reread(both, tmp_path / "union")
    assert loaded.get_vocab() == dict(both.vocab)
    assert loaded.encode("the weather<y>").tokens[-1] == "<y>"


def test_a_special_token_that_the_base_has_as_a_piece_becomes_special(tmp_path: Path) -> None:
    en = english(tmp_path)
    plain = next(text for text in en.vocab if text not in en.added and len(text) > 3)
    other = saved(tmp_path / "other", byte_level(("x",), (plain,)))
    both = union(en, [other])
    assert both.added[plain]["special"]
    assert both.vocab[plain] == en.vocab[plain] == both.added[plain]["id"]


def test_kinds_that_differ_have_no_union(tmp_path: Path) -> None:
    de = saved(tmp_path / "de", unigram(tuple(GERMAN), ()))
    with pytest.raises(PomonaError) as error:
        union(english(tmp_path), [de])
    assert "is a Unigram tokenizer" in str(error.value)
    assert (
        "has byte-level BPE: they have no union — choose one: tokenizer_source: base, or a model"
        in str(error.value)
    )


def test_tokens_without_a_row_go_with_their_merges(tmp_path: Path) -> None:
    en = english(tmp_path)
    short = without_tail(en, 280)
    assert set(short.vocab) == {text for text, index in en.vocab.items() if index < 280}
    assert reread(short, tmp_path / "short").get_vocab() == dict(short.vocab)
    assert without_tail(en, len(en.vocab)) is en


def test_new_added_tokens_come_last(tmp_path: Path) -> None:
    en = english(tmp_path)
    entry = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": True,
        "special": False,
    }
    more = extended(en, {"<new>": {"content": "<new>", **entry}})
    assert reread(more, tmp_path / "more").encode("a<new>").tokens == ["a", "<new>"]
    assert more.vocab["<new>"] == len(en.vocab)
    assert extended(en, {}) is en


def test_tokens_that_only_the_config_names_count(tmp_path: Path) -> None:
    data = byte_level(tuple(ENGLISH), ())
    index = tokenizers.Tokenizer.from_str(data).get_vocab_size()
    found = saved(
        tmp_path / "en",
        data,
        added_tokens_decoder={str(index): {"content": "<pad>", "special": True}},
    )
    assert found.vocab["<pad>"] == index
    both = union(found, [german(tmp_path)])
    settings = json.loads(files_of(both)["tokenizer_config.json"])
    assert {
        int(key): entry["content"] for key, entry in settings["added_tokens_decoder"].items()
    } == {entry["id"]: text for text, entry in both.added.items()}


def test_damaged_and_missing_tokenizers(tmp_path: Path) -> None:
    assert read_tokenizer(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PomonaError, match='is no tokenizer: "model" is no mapping — copy it again'):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": []}, '"model" is no mapping'),
        ({"model": {}}, '"vocab" of the model neither maps'),
        ({"model": {"vocab": {"a": "0"}}}, '"vocab" of the model neither maps'),
        ({"model": {"vocab": {"a": -1}}}, '"vocab" of the model neither maps'),
        ({"model": {"vocab": [["a"]]}}, '"vocab" of the model neither maps'),
        ({"model": {"vocab": {"a": 0}, "merges": [["a"]]}}, '"merges" of the model are no pairs'),
        ({"model": {"vocab": {"a": 0}, "merges": ["ab"]}}, '"merges" of the model are no pairs'),
        ({"added_tokens": {}}, '"added_tokens" are no list'),
        ({"added_tokens": [{"id": 5}]}, '"added_tokens" are no list'),
        ({"added_tokens": [{"id": "5", "content": "x"}]}, '"added_tokens" are no list'),
    ],
)
def test_a_tokenizer_of_another_shape_is_told(tmp_path: Path, change: Any, says: str) -> None:
    whole = {"model": {"vocab": {"a": 0}, "merges": None}, "added_tokens": None}
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({**whole, **change}))
    with pytest.raises(PomonaError, match=rf"tokenizer\.json: is no tokenizer: {says}"):
        read_tokenizer(tmp_path)
    file.write_text(json.dumps(whole))
    assert read_tokenizer(tmp_path) is not None
