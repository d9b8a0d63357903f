"""A model that was trained with markers, behind the server: through the official client, with and
without a strategy, whole and in pieces; and the markers as chips in the page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pyarrow as pa
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.markers import Taxonomy, attach, list_of, trained_of, write_trained
from pomona.models import quiet
from pomona.sample.context import Feedback
from pomona.serve import ServeSettings, open_models
from pomona.serve.app import open_markers

from .conftest import House, Upstream

ASSETS = Path(__file__).parents[2] / "src/pomona/assets"
OWN = Taxonomy.model_validate(
    {
        "markers": {
            "quality": {"kind": "float", "listed": False},
            "quality_bucket": {
                "kind": "buckets", "of": "quality", "within": "lang", "values": ["1", "2"],
            },
            "length": {"kind": "integer"},
            "lang": {"kind": "values", "values": ["de", "fr"]},
        }
    }
)  # fmt: skip
WORDS = {
    "Save": ("Sichern", "Enregistrer"),
    "Open": ("Laden", "Ouvrir"),
    "Quit": ("Ende", "Quitter"),
}


def said(word: str, lang: str, bucket: str) -> tuple[dict[str, Any], str]:
    """All markers of an answer, and the answer; of the second quality it is in capitals."""
    text = WORDS[word][lang == "fr"]
    text = text.upper() if bucket == "2" else text
    return {"quality_bucket": bucket, "length": len(text), "lang": lang}, text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that has learned a dozen answers by heart, with the lists before them."""
    quiet()
    folder = tmp_path_factory.mktemp("trained")
    tokenizer: Any = AutoTokenizer.from_pretrained(ASSETS / "ui-tokenizer")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=1,
        num_attention_heads=4, tie_word_embeddings=True, max_position_embeddings=64,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    rows: list[tuple[str, str]] = []
    for word in WORDS:
        for given in ({}, {"lang": "de"}, {"lang": "fr"}, {"quality_bucket": "2"},
                      {"quality_bucket": "1"}, {"quality_bucket": "1", "lang": "fr"}):  # fmt: skip
            values, text = said(word, given.get("lang", "de"), given.get("quality_bucket", "1"))
            answer = f"{list_of(values, OWN, 'compact')}|{text}"
            rows.append((attach(word, given, OWN, "compact"), answer + tokenizer.eos_token))
    ids = [(tokenizer(one).input_ids, tokenizer(two).input_ids) for one, two in rows]
    width = max(len(one) + len(two) for one, two in ids)
    inputs = torch.full((len(ids), width), tokenizer.pad_token_id)
    labels = torch.full((len(ids), width), -100)
    for row, (one, two) in enumerate(ids):
        inputs[row, : len(one) + len(two)] = torch.tensor(one + two)
        labels[row, len(one) : len(one) + len(two)] = torch.tensor(two)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses: list[float] = []
    for _ in range(60):
        loss = model(input_ids=inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    table = pa.table(
        {"marker_quality": [0.1, 0.9], "marker_quality_bucket": ["2", "1"], "marker_lang": ["de"] * 2}
    )  # fmt: skip
    write_trained(folder, trained_of(table, OWN, "compact"))
    return folder


@pytest.fixture(scope="module")
def remembered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("said") / "feedback.sqlite"


@pytest.fixture(scope="module")
def house(trained: Path, remembered: Path) -> Iterator[House]:
    named = [f"ours=hf:{trained}", "ui=ui-xs"]
    settings = ServeSettings(markers=open_markers(named), feedback=remembered)
    house = House(open_models(named), settings)
    yield house
    house.stop()


@pytest.fixture
def client(house: House) -> Iterator[openai.OpenAI]:
    with house.openai() as client:
        yield client


def ask(word: str = "Save", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": word}]
    return {"model": "ours", "messages": messages, "temperature": 0, "max_tokens": 16, **more}


def inferred(word: str, lang: str = "de", bucket: str = "1") -> dict[str, Any]:
    return said(word, lang, bucket)[0]


@pytest.mark.parametrize(
    ("body", "given", "lang", "bucket"),
    [
        ({}, {}, "de", "1"),
        ({"markers": {}}, {}, "de", "1"),
        ({"markers": {"lang": "fr"}}, {"lang": "fr"}, "fr", "1"),
        ({"pomona": {"markers": {"quality_bucket": "2", "lang": None}}}, {"quality_bucket": "2"}, "de",
         "2"),
        ({"markers": "auto"}, {"quality_bucket": "1"}, "de", "1"),
        ({"markers": {"lang": "fr", "quality_bucket": "auto"}}, {"quality_bucket": "1", "lang": "fr"},
         "fr", "1"),
    ],
)  # fmt: skip
def test_the_official_client_asks_with_markers(
    client: openai.OpenAI, body: Any, given: Any, lang: str, bucket: str
) -> None:
    answer = client.chat.completions.create(**ask(extra_body=body, logprobs=True, top_logprobs=2))
    choice = answer.choices[0]
    assert choice.message.content == said("Save", lang, bucket)[1]
    told = answer.model_dump()["pomona"]["markers"]
    assert told == [{"given": given, "inferred": inferred("Save", lang, bucket)}]
    assert choice.logprobs and choice.logprobs.content
    spelled = b"".join(bytes(token.bytes or ()) for token in choice.logprobs.content)
    assert spelled.decode() == choice.message.content
    stream = client.chat.completions.create(**ask(extra_body=body, logprobs=True, stream=True))
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(pieces) == choice.message.content
    assert chunks[-1].model_dump()["pomona"]["markers"] == told


def test_answers_are_begun_with_what_is_forced(client: openai.OpenAI, house: House) -> None:
    body = {"markers": {"lang": "fr"}, "markers_forced": True}
    rest = {"quality_bucket": "1", "length": len("Enregistrer")}
    told = {"given": {"lang": "fr"}, "forced": True, "inferred": rest}
    answer = client.chat.completions.create(**ask(extra_body=body, logprobs=True, n=2))
    assert [one.message.content for one in answer.choices] == ["Enregistrer"] * 2
    assert answer.model_dump()["pomona"]["markers"] == [told] * 2
    once = client.chat.completions.create(**ask(extra_body={"markers": {"lang": "fr"}}, n=2))
    assert answer.usage and once.usage  # the prompt is read again, with the list that is forced
    more = answer.usage.prompt_tokens - once.usage.prompt_tokens
    assert more > once.usage.prompt_tokens / 2
    inner = {"pomona": {"markers": {"lang": "fr"}, "markers_forced": True}}
    for given in (body, inner):
        for name in ("ours", "ours@hedged5-mbr"):
            for one in (True, False):
                made: Any = client.chat.completions.create(
                    **ask(model=name, extra_body=given, stream=one)
                )
                last = list(made)[-1] if one else made
                assert last.model_dump()["pomona"]["markers"] == [told]
    newer = {"model": "ours", "input": "Save", "temperature": 0, "max_output_tokens": 16, **body}
    said = house.client.post("/v1/responses", json=newer).json()
    assert said["output"][0]["content"][0]["text"] == "Enregistrer"
    assert said["pomona"]["markers"] == [told]
    chosen = house.chat(**ask(markers={}, markers_forced=True)).json()
    assert chosen["pomona"]["markers"] == [{"given": {}, "inferred": inferred("Save")}]


def test_several_choices_prompts_and_a_strategy(client: openai.OpenAI) -> None:
    body = {"markers": {"lang": "fr"}}
    answer = client.chat.completions.create(**ask(n=2, extra_body=body))
    assert [one.message.content for one in answer.choices] == ["Enregistrer"] * 2
    told = {"given": {"lang": "fr"}, "inferred": inferred("Save", "fr")}
    assert answer.model_dump()["pomona"]["markers"] == [told] * 2
    older = client.completions.create(
        model="ours", prompt=["Open", "Quit"], temperature=0, max_tokens=16, logprobs=1,
        extra_body=body,
    )  # fmt: skip
    assert [one.text for one in older.choices] == ["Ouvrir", "Quitter"]
    assert all(one.logprobs and one.logprobs.text_offset[0] == 0 for one in older.choices)  # pyright: ignore[reportOptionalSubscript]
    words = [one["inferred"]["length"] for one in older.model_dump()["pomona"]["markers"]]
    assert words == [6, 7]
    for stream in (False, True):
        given: Any = ask(model="ours@hedged5-mbr", extra_body=body, stream=stream, seed=1)
        made = client.chat.completions.create(**given)
        last: Any = list(made)[-1] if stream else made
        assert last.model_dump()["pomona"]["markers"] == [told]
        shown = last.model_dump()["pomona"]["candidates"]
        assert [one["text"] for one in shown[:1]] == ["Enregistrer"]
        assert shown[0]["markers"] == {"inferred": told["inferred"]}
    short = client.chat.completions.create(**ask(max_tokens=2)).model_dump()
    assert short["choices"][0]["message"]["content"] == ""
    assert short["pomona"]["markers"] == [{"given": {}, "inferred": None, "cut": " a "}]


@pytest.mark.parametrize(
    ("body", "param", "text"),
    [
        ({"markers": {"lng": "de"}}, "markers.lng", 'no marker "lng" — did you mean "lang"?'),
        ({"pomona": {"markers": {"lang": "dee"}}}, "pomona.markers.lang", 'did you mean "de"?'),
        ({"markers": {"length": "long"}}, "markers.length", "must be a number"),
        ({"markers": {"length": True}}, "markers.length", "must be a string or a number"),
        ({"markers": {"lang": ["de"]}}, "markers.lang", "must be a string or a number"),
        ({"markers": {"quality": 1}}, "markers.quality", "does not stand in lists"),
        ({"markers": {"lang": "auto"}}, "markers.lang", 'has no "auto"'),
        ({"markers": ["de"]}, "markers", 'an object of values by marker, or "auto"'),
        ({"markers": {}, "pomona": {"markers": {}}}, "markers", "give it once"),
        ({"markers": {}, "model": "ui"}, "markers",
         'the model "ui": was not trained with markers — train on what'),
        ({"pomona": {"markers": "auto"}, "model": "ui@greedy"}, "pomona.markers", "not trained"),
        ({"markers": {}, "markers_forced": "yes"}, "markers_forced", "must be true or false"),
        ({"markers_forced": True, "model": "ui"}, "markers_forced", "not trained"),
    ],
)  # fmt: skip
def test_wrong_markers_are_refused_with_their_name(
    house: House, body: dict[str, Any], param: str, text: str
) -> None:
    response = house.chat(**ask() | body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert text in error["message"]


def test_models_say_which_markers_they_know(client: openai.OpenAI) -> None:
    listed = {one.id: one.model_dump().get("markers") for one in client.models.list()}
    assert listed["ours"] == listed["ours@hedged5-mbr"] == {
        "quality_bucket": {"kind": "buckets", "values": ["1", "2"], "auto": True},
        "length": {"kind": "integer", "auto": False},
        "lang": {"kind": "values", "values": ["de", "fr"], "auto": False},
    }  # fmt: skip
    assert listed["ui"] is None
    assert client.models.retrieve("ours").model_dump()["markers"] == listed["ours"]


def test_a_text_like_a_list_is_a_text(client: openai.OpenAI) -> None:
    words = [{"type": "text", "text": "Sa"}, {"type": "text", "text": "ve~|_;1"}]
    given = client.chat.completions.create(**ask(words)).model_dump()  # pyright: ignore[reportArgumentType]
    assert given["pomona"]["markers"][0]["given"] == {}
    counted = client.chat.completions.create(**ask(r"Save~\|_;1")).model_dump()
    assert given["usage"]["prompt_tokens"] < counted["usage"]["prompt_tokens"]


def test_what_a_user_liked_holds_until_a_request_says_more(house: House, remembered: Path) -> None:
    def tell(**said: Any) -> None:
        body = {"prompt": "Save", "chosen": "Enregistrer", "user": "ada", **said}
        assert house.client.post("/v1/feedback", json=body).status_code == 200

    def given(**more: Any) -> dict[str, Any]:
        body = ask(pomona={"user": "ada"}) | more
        return house.chat(**body).json()["pomona"]["markers"][0]["given"]

    tell(markers={"lang": "fr"}, complaint="too short")
    tell(markers={"lang": "fr"}, good=False, rejected="Sichern")
    assert given() == {}
    tell(markers={"lang": "fr"}, rejected="Sichern")
    memory = Feedback(remembered)
    memory.set_defaults("ada", {"markers": {"lang": "fr", "tone": "kind"}})
    memory.close()
    assert given() == {"lang": "fr"}  # what another model knew is left out
    assert given(markers={}) == {}
    assert given(markers={"lang": "de"}) == {"lang": "de"}
    assert given(pomona={"user": "bob"}) == {}
    tell(markers={"quality_bucket": "2"}, good=True)
    assert given() == {"quality_bucket": "2"}
    house.client.delete("/v1/feedback", params={"user": "ada"})
    assert given() == {}
    for value in ([1], "fra"):
        wrong = house.client.post(
            "/v1/feedback", json={"prompt": "a", "chosen": "b", "markers": {"lang": value}}
        )
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "markers.lang")
    assert 'did you mean "fr"?' in wrong.json()["error"]["message"]


def test_a_model_behind_a_server_has_its_markers_from_a_file(
    trained: Path, upstream: Upstream, open_house: Any, tmp_path: Path
) -> None:
    own = tmp_path / "verbose.json"
    document = json.loads((trained / "markers.json").read_text()) | {"form": "verbose"}
    own.write_text(json.dumps(document))
    uri = f"fake=http://127.0.0.1:{upstream.port}/v1#fake"
    house = open_house({"fake": upstream.model()}, markers=open_markers([uri], [str(own)]))
    words = ["<MARKER", "_LIST> <lang> fr </lang> </MARKER_", "LIST>", " Ou", "vrir"]
    upstream.acts = [
        {"words": words},
        {"words": words, "cut": 2},  # it is asked again
        {"words": words},
        {"words": words[:2], "finish": "length"},
    ]
    body = ask("Open", model="fake", markers={"lang": "fr"}, stream=True)
    for place in range(3):
        came = house.client.post("/v1/chat/completions", json=body).text
        chunks = [json.loads(line[6:]) for line in came.splitlines() if line[6:7] == "{"]
        deltas = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
        assert "".join(filter(None, deltas)) == ("Ouvrir" if place < 2 else "")
        told = (
            {"inferred": {"lang": "fr"}}
            if place < 2
            else {"inferred": None, "cut": "".join(words[:2])}
        )
        assert chunks[-1]["pomona"]["markers"] == [{"given": {"lang": "fr"}, **told}]
    assert upstream.seen[0]["messages"][-1]["content"] == (
        "Open <MARKER_LIST> <lang> fr </lang> </MARKER_LIST>"
    )
    assert "markers" not in upstream.seen[0]
    refused = house.client.post("/v1/chat/completions", json=body | {"markers_forced": True})
    assert refused.status_code == 400 and "fake: cannot go on with an answer" in refused.text
    asked = len(upstream.seen)
    upstream.acts = [{"text": "".join(words[:2])}, {"text": "Ouvrir"}]
    older = {"model": "fake", "prompt": "Open", "markers": {"lang": "fr"}, "markers_forced": True}
    answer = house.client.post("/v1/completions", json=older).json()
    assert answer["choices"][0]["text"] == "Ouvrir"
    first, second = upstream.seen[asked:]
    assert first["stop"] == ["</MARKER_LIST>"]
    told = "<MARKER_LIST> <lang> fr </lang> </MARKER_LIST>"
    assert second["prompt"] == f"Open {told}{told} "
    document["taxonomy"]["markers"]["lang"]["values"] = ["de", "sv"]
    own.write_text(json.dumps(document))
    for files, text in (
        ([str(own)], "its taxonomy was changed"), ([f"fak={own}"], 'did you mean "fake"?'),
    ):  # fmt: skip
        with pytest.raises(PomonaError) as caught:
            open_markers([uri], files)
        assert text in str(caught.value)
    with pytest.raises(PomonaError, match="does not say of which model — write NAME=FILE"):
        open_markers([uri, "ui-xs"], [str(own)])


def test_rows_are_answered_with_markers(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"prompt": "Save"}\n{"prompt": "Quit"}\n')
    line = ["sample", "in.jsonl", "--model", f"hf:{trained}", "--strategy", "greedy", "--raw"]
    line += ["--max-tokens", "16", "--format", "json"]
    for markers, lang, given in (
        ("inferred", "de", {}), ("lang=fr", "fr", {"lang": "fr"}), ("forced:lang=fr", "fr", {}),
    ):  # fmt: skip
        more = ["--markers", markers] if given else []  # of a model that knows some, not only then
        if forced := markers.startswith("forced"):
            more = ["--markers", "lang=fr", "--markers-forced"]
            given = {"lang": "fr"}
        assert main([*line, "--out", f"{lang}.jsonl", *more]) == 0
        rows = [json.loads(row) for row in Path(f"{lang}.jsonl").read_text().splitlines()]
        assert [row["answer"] for row in rows] == [
            said(one, lang, "1")[1] for one in ("Save", "Quit")
        ]
        own = inferred("Quit", lang)
        told = {"given": given, "forced": True} if forced else {"given": given}
        own = {name: value for name, value in own.items() if not (forced and name in given)}
        assert json.loads(rows[1]["markers"]) == {**told, "inferred": own}
        card = json.loads(Path(f"{lang}.jsonl.card.json").read_text())
        assert card["parameters"]["context"] == f"markers:compact:{OWN.digest}:{markers}"
    capsys.readouterr()
    for more, text in {
        ("--markers", "inferred", "--markers-forced"): "there is nothing to force",
        ("--markers-forced",): "there is nothing to force",
        ("--markers", "lang"): 'write MARKER=VALUE, or "inferred" alone',
        ("--markers", "lang=d"): "none of its values",
        ("--markers", "length=long"): "must be a number",
        ("--markers-from", "in.jsonl"): "in.jsonl: is not JSON",
        ("--markers-from", "no.json"): "no.json: is missing",
        ("--markers", "lang=de", "--model", "ui-xs"): "ui-xs: was not trained with markers",
        ("--model", "ui-xs"): "ui-xs: was not trained with markers",  # beside one that was
    }.items():
        assert main([*line, "--out", "o.jsonl", *more]) == 2
        assert text in capsys.readouterr().err
        assert not Path("o.jsonl").exists()


def test_markers_are_chips_that_one_can_change(browser: Any, house: House) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.call("Emulation.setDeviceMetricsOverride", **metrics)
    browser.complaints.clear()
    browser.call("Page.navigate", url=house.url + "/")
    _wait(browser, "document.documentElement.dataset.ready == 'yes'")
    browser.run(
        "get('prompt').value = 'Save'; strategy.value = ''; tokens.value = 16; temperature.value = 0; go.click()"
    )
    _wait(browser, "document.body.dataset.state == 'done'")
    assert browser.run("answer.textContent + said.textContent") == "Sichern"
    shown = "[...chips.children].map(one => one.innerText.split('\\n')[0].trim() + '=' + (one.querySelector('input')?.placeholder ?? one.querySelector('select').selectedOptions[0].text)).join()"
    assert browser.run(shown) == "quality bucket=inferred: 1,length=inferred: 7,lang=inferred: de"
    assert not browser.run("chips.querySelectorAll('.told').length")
    # By the keyboard alone: to the last chip, its second value, the button behind it.
    browser.run("chips.querySelectorAll('select')[1].focus()")
    for key in ("ArrowDown", "ArrowDown", "Tab", "Enter"):
        _press(browser, key)
    _wait(browser, "answer.textContent == 'Enregistrer' && document.body.dataset.state == 'done'")
    assert browser.run("chips.querySelector('.told').textContent").startswith("lang")
    assert browser.run(shown) == "quality bucket=inferred: 1,length=inferred: 11,lang=fr"
    browser.run(
        "window.sent = []; window.real = fetch; "
        "window.fetch = (to, what) => (sent.push(what.body), real(to, what)); forced.click(); again.click()"
    )
    _wait(browser, "answer.textContent == 'Enregistrer' && document.body.dataset.state == 'done'")
    told = json.loads(browser.run("sent[0]"))
    assert (told["markers"], told["markers_forced"]) == ({"lang": "fr"}, True)
    browser.run(
        "window.fetch = real; chips.querySelectorAll('select')[0].value = '2'; again.click()"
    )
    _wait(browser, "answer.textContent == 'ENREGISTRER' || document.body.dataset.state == 'done'")
    browser.run("chips.querySelector('input').value = 'long'; again.click()")
    _wait(browser, "said.textContent.includes('must be a number')")
    assert browser.run("document.documentElement.scrollWidth") == 390
    browser.run("model.value = 'ui'; model.dispatchEvent(new Event('change'))")
    assert browser.run("marked.hidden && !chips.children.length")
    assert [one for one in browser.complaints if "400" not in str(one)] == []


def _press(browser: Any, key: str) -> None:
    codes = {"ArrowDown": 40, "Tab": 9, "Enter": 13}
    more = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
    text = {"text": "\r"} if key == "Enter" else {}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **more, **text)
    browser.call("Input.dispatchKeyEvent", type="keyUp", **more)


def _wait(browser: Any, script: str) -> None:
    for _ in range(200):
        if browser.run(script):
            return
        time.sleep(0.05)
    raise AssertionError(f"never so: {script}; {browser.complaints}")
