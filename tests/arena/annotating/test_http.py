"""Annotators and leads over HTTP: what they see, what they must not, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, update

from pomona.arena.annotating import guard
from pomona.arena.annotating.exporting import SCHEMAS
from pomona.arena.annotating.items import add_items, read_answers
from pomona.arena.annotating.schema import answers, people, tasks
from pomona.web import ApiError

from .conftest import MODELS, Running, pairs

Serving = Callable[..., Running]
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # whichever it is


def test_votes_come_through_once_and_can_be_taken_back(arena: Running) -> None:
    arena.add(pairs(2))
    ada = arena.browser("Ada")
    page = ada.get("/").text
    assert "answer 0" in page and "Question 0?" in page
    sent = {"outcome": "a", "comment": "better", "seconds": "3.5", "edited": "b", "edit": "Best"}
    after = ada.submit("/answer", page, **sent)
    assert after.status_code == 200 and "Question 1?" in after.text
    assert ada.submit("/answer", page, outcome="b").status_code == 200  # the same form: no more
    back = ada.submit("/undo", after.text)
    assert "Question 0?" in back.text and "better" in back.text and "Best" in back.text
    assert ada.submit("/undo", back.text).status_code == 409
    assert "Question 1?" in ada.submit("/answer", back.text, outcome="both_bad").text
    again = ada.submit("/answer", ada.get("/").text.replace("x", "x"), outcome="tie")
    assert "Question" not in again.text and again.status_code == 200
    with arena.store.reading() as source:
        rows = source.execute(select(answers).order_by(answers.c.id)).all()
    assert [row.outcome for row in rows][1:] == [3, 2] and rows[0].undone is not None
    assert (rows[0].comment, rows[0].edit, rows[0].seconds) == ("better", "Best", 3.5)
    assert rows[0].edited == "ab"[1 - rows[0].outcome]  # b as it was seen, a was better


def test_nobody_sees_whose_answer_it_is(serving: Serving) -> None:
    arena = serving(needed=3)
    arena.add(pairs(3), overlap=2)
    ada, grace = arena.browser("Ada"), arena.browser("Grace", "lead")
    shown = ""
    for who in (ada, grace):
        places = ["/", "/?kind=pair", "/guidelines", "/settings"]
        places += ["/lead"] if who is grace else ["/board"]
        for place in places:
            answer = who.get(place)
            assert answer.status_code == 200
            shown += answer.text + str(answer.headers)
        done = who.submit("/answer", outcome="a")
        shown += done.text + str(done.headers) + who.submit("/undo", done.text).text
        shown += who.submit("/skip").text
    for name in SCHEMAS:  # nothing is closed for the lead but what they passed over
        shown += grace.get(f"/lead/export?what={name}&format=csv").text
    assert not re.search("|".join(MODELS) + "|item-", shown)
    assert "Question 0?" in shown


def test_an_export_for_a_lead_has_what_is_closed_for_them(arena: Running) -> None:
    arena.add(pairs(3), overlap=1)
    ada, grace = arena.browser("Ada"), arena.browser("Grace", "lead")
    held = grace.get("/").text  # the lead is being asked about the second one
    assert "Question 1?" in held
    for _ in range(2):
        ada.submit("/answer", outcome="a")
    lines = grace.get("/lead/export?what=votes&format=jsonl").text.splitlines()
    assert [json.loads(line)["item"] for line in lines] == ["item-0"]  # Ada may undo the last
    with arena.store.writing() as to:
        to.execute(update(answers).values(time=answers.c.time - 3600))
    table = grace.get("/lead/export?what=votes&format=csv")
    assert table.headers["content-disposition"] == 'attachment; filename="votes.csv"'
    rows = [*csv.DictReader(io.StringIO(table.text))]
    assert {row["item"] for row in rows} == {"item-0", "item-2"}
    assert {row["winner"] for row in rows} == {"model_a"}
    with arena.store.reading() as source:
        states = source.scalars(select(tasks.c.state).order_by(tasks.c.state)).all()
    assert states == ["closed", "closed", "done", "done", "open"]
    assert grace.submit("/answer", held, outcome="b").status_code == 200
    table = grace.get("/lead/export?what=votes&format=parquet")
    assert len(pq.read_table(io.BytesIO(table.content))) == 2
    assert grace.get("/lead/export?what=names&format=csv").status_code == 404


def test_the_three_kinds_of_task(serving: Serving) -> None:
    arena = serving(write=True)
    rows = pa.table({"prompt": ["Why?"], "completion": ["Because"], "lang": ["en"]})
    add_items(arena.store, read_answers(rows), 1)
    arena.add(pairs(1))
    ada = arena.browser("Ada", "annotator", "en", "sw")
    page = ada.get("/?kind=rate").text
    assert "Because" in page
    wrong = ada.submit("/answer", page, rating="6")
    assert wrong.status_code == 400 and "rating is no number from 1 to 5" in wrong.text
    after = ada.submit("/answer", page, rating="2", edit="Because it is.")
    assert "Question 0?" in after.text  # no more to rate
    page = ada.get("/?kind=write").text
    said = {"prompt": "Kwa nini?", "answer": "Kwa sababu", "language": "sw"}
    assert ada.submit("/answer", page, **said | {"language": "de"}).status_code == 400
    assert "prompt is empty" in ada.submit("/answer", page, **said | {"prompt": " "}).text
    assert ada.submit("/answer", page, **said).status_code == 200
    back = ada.submit("/undo").text
    assert "Kwa sababu" in back and 'name="prompt"' in back
    ada.submit("/answer", back, **said)
    with arena.store.reading() as source:
        kept = source.execute(select(answers).where(answers.c.undone.is_(None))).all()
    assert {(row.kind, row.rating, row.edit, row.language) for row in kept} == {
        ("rate", 2, "Because it is.", None),
        ("write", None, None, "sw"),
    }


@ON_SQLITE
def test_forms_that_are_refused(arena: Running) -> None:
    arena.add(pairs(1))
    ada = arena.browser("Ada")
    page = ada.get("/").text
    for fields, message in [
        ({"outcome": "left"}, "outcome is none of a, b, tie, both_bad"),
        ({"outcome": "a", "key": "x"}, "key is not 8 to 64"),
        ({"outcome": "tie", "edit": "New"}, "neither is better"),
        ({"outcome": "a", "comment": "x" * 100_001}, "comment is longer than 100,000 letters"),
        ({"outcome": "a", "comment": "\0"}, "comment has the character NUL"),
    ]:
        refused = ada.submit("/answer", page, **fields)
        assert refused.status_code == 400 and message in refused.text
    assert ada.submit("/answer", page, outcome="a", task="other").status_code == 409
    assert ada.post("/answer", content=b"%ff=1", headers=_FORM).status_code == 400
    assert ada.post("/answer", json={"outcome": "a"}).status_code == 415
    big = ada.post("/answer", content=b"a=" + b"x" * 4_100_000, headers=_FORM)
    assert big.status_code == 413
    with arena.store.reading() as source:
        assert source.execute(select(answers)).all() == []


_FORM = {"content-type": "application/x-www-form-urlencoded"}


@ON_SQLITE
def test_only_our_own_pages_send_forms(arena: Running) -> None:
    arena.add(pairs(1))
    ada, bea = arena.browser("Ada"), arena.browser("Bea", "annotator")
    page = ada.get("/").text
    token = bea.field(bea.get("/").text, "csrf")
    for wrong in ("", "x" * 32, token):
        assert ada.submit("/answer", page, outcome="a", csrf=wrong).status_code == 403
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"origin": arena.url.replace("http:", "https:") + "1"},
    ):
        ada.headers = httpx.Headers(headers)
        refused = ada.submit("/answer", page, outcome="a")
        assert refused.status_code == 403 and "another page sent this form" in refused.text
    ada.headers = httpx.Headers({"origin": arena.url, "sec-fetch-site": "same-origin"})
    assert ada.submit("/answer", page, outcome="a").status_code == 200


@ON_SQLITE
def test_what_pages_say_of_themselves(arena: Running) -> None:
    with httpx.Client(base_url=arena.url) as nobody:
        page = nobody.get("/")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "style=" not in page.text and "<style" not in page.text
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "same-origin"
        style = nobody.get("/style.css")
        assert style.headers["content-type"] == "text/css; charset=utf-8"
        same = {"if-none-match": style.headers["etag"]}
        assert nobody.get("/style.css", headers=same).status_code == 304
        assert "javascript" in nobody.get("/script.js").headers["content-type"]
        assert nobody.get("/nothing").status_code == 404
        assert nobody.get("/answer").status_code == 405
        assert nobody.get("/board").status_code == 401
        assert nobody.post("/answer", data={"outcome": "a"}).status_code == 401


@ON_SQLITE
def test_a_link_opens_by_a_button_once_and_the_cookie_is_for_the_server(serving: Serving) -> None:
    arena = serving(url="https://arena.example.org")
    link = arena.link("Ada")
    with httpx.Client() as client:
        assert client.get(link).status_code == client.get(link).status_code == 200
        entered = client.post(link)
        assert entered.status_code == 303
        cookie = entered.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=lax", "Secure", "Path=/"} <= {*cookie.split("; ")}
    for call in (httpx.get, httpx.post):
        used = call(link)
        assert used.status_code == 403 and "this link is used up" in used.text


@ON_SQLITE
def test_whoever_tries_links_has_to_wait(arena: Running) -> None:
    with httpx.Client(base_url=arena.url) as client:
        codes = [client.get(f"/login/wrong-{n}").status_code for n in range(22)]
        assert codes[:20] == [403] * 20 and codes[-1] == 429
        assert int(client.get("/login/wrong").headers["retry-after"]) >= 1


def test_rates_are_held() -> None:
    now = [0.0]
    rate = guard.Rate(3, 0.5, clock=lambda: now[0])
    for _ in range(3):
        rate.check("Ada")
    with pytest.raises(ApiError, match="try again in 3 s"):
        rate.check("Ada")
    rate.check("Bea")
    now[0] = 2.0
    rate.check("Ada")
    with pytest.raises(ApiError):
        rate.check("Ada")


def test_leads_invite_and_remove(arena: Running) -> None:
    ada, grace = arena.browser("Ada"), arena.browser("Grace", "lead")
    for path in ("/lead", "/lead/export?what=votes&format=csv"):
        assert ada.get(path).status_code == 403
    assert ada.submit("/lead/people", ada.get("/settings").text, name="Eve").status_code == 403
    page = grace.get("/lead").text
    new = grace.submit("/lead/people", page, name="Bea", role="annotator", languages="sw, en")
    link = re.search(r'value="(http://[^"]+/login/[^"]+)"', new.text)
    assert link is not None and "/login/" not in grace.get("/lead").text  # shown this once
    assert httpx.post(link[1]).status_code == 303
    twice = grace.submit("/lead/people", page, name="Bea", role="annotator")
    assert twice.status_code == 400 and "is here already" in twice.text
    with arena.store.reading() as source:
        ids = dict(source.execute(select(people.c.name, people.c.id)).all())
    assert grace.submit(f"/lead/people/{ids['Ada']}/remove", page).status_code == 200
    assert ada.get("/board").status_code == 401
    assert grace.submit(f"/lead/people/{ids['Grace']}/remove", page).status_code == 409
    assert grace.submit("/lead/people/nobody/link", page).status_code == 400
    assert "/login/" in grace.submit(f"/lead/people/{ids['Ada']}/link", page).text


def test_people_say_which_languages_they_judge(arena: Running) -> None:
    arena.add(pairs(2, lang=["sw", "de"]))
    ada = arena.browser("Ada", "annotator", "de")
    assert "Question 1?" in ada.get("/").text
    page = ada.get("/settings").text
    assert 'value="sw"' in page and 'value="de"' in page
    ada.post("/settings", data={"csrf": ada.field(page, "csrf"), "interface": "de",
                                "languages": ["sw", "de"]})  # fmt: skip
    assert '<html lang="de"' in ada.get("/settings").text
    assert ada.submit("/settings", page, interface="xx").status_code == 400
    assert ada.submit("/settings", page, languages="<b>").status_code == 400
    lost = arena.link("Bea", languages=())
    assert httpx.post(lost).headers["location"] == "/settings"


def test_many_annotators_at_once(arena: Running) -> None:
    """Every vote that was accepted is there, once."""
    arena.add(pairs(6), overlap=3)
    crowd = [arena.browser(f"Person {n}") for n in range(5)]

    def vote(n: int) -> int:
        page, done = crowd[n].get("/"), 0
        while 'name="outcome"' in page.text and done < 3:
            page = crowd[n].submit("/answer", page.text, outcome=["a", "b", "tie"][done % 3])
            assert page.status_code == 200
            done += 1
        return done

    with ThreadPoolExecutor(5) as threads:
        accepted = sum(threads.map(vote, range(5)))
    with arena.store.reading() as source:
        assert len(source.execute(select(answers)).all()) == accepted > 10
