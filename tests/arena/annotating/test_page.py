"""The pages in a browser: people vote by keys and by buttons, in their languages and directions,
whatever a model wrote and whatever becomes of the connection.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Dialog,
    Route,
    expect,
    sync_playwright,
)
from sqlalchemy import select

from pomona.arena.annotating.app import ArenaSettings
from pomona.arena.annotating.items import add_items, read_answers
from pomona.arena.annotating.people import new_link
from pomona.arena.annotating.queue import Queue
from pomona.arena.annotating.schema import answers, people, tasks

from .conftest import MODELS, Running, pairs

HOSTILE = """<script>document.title = "taken"</script>
<img src="https://evil.example/a.png" onerror="document.title = 'taken'">
![b](https://evil.example/b.png) [c](javascript:document.title='taken') [d](data:text/html,taken)
<style>* { display: none }</style><p style="position: fixed; inset: 0">e</p>
<form action="https://evil.example"><button>f</button></form><iframe src="https://evil.example">
<meta http-equiv="refresh" content="0;url=https://evil.example"><base href="https://evil.example">
<svg onload="document.title = 'taken'"><a href="/logout">g</a>
"""
ARABIC = "الموز فاكهة **حلوة** غنية بالبوتاسيوم.\n\n- لذيذ"


class Person:
    """Somebody at a browser of their own, with all that it asked for and complained of."""

    def __init__(self, context: BrowserContext, link: str, scripted: bool = True) -> None:
        self.context, self.page = context, context.new_page()
        self.scripted = scripted
        self.asked: set[str] = set()
        self.complaints: list[str] = []
        self.page.on("request", lambda one: self.asked.add(one.url))
        self.page.on("console", lambda one: self.complaints.append(one.text))
        self.page.on("pageerror", lambda one: self.complaints.append(str(one)))
        self.page.on("dialog", self._dismiss)
        self.enter(link)

    def _dismiss(self, dialog: Dialog) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()

    def enter(self, link: str) -> None:
        """Open a link and press its button."""
        self.page.goto(link)
        self.page.get_by_role("main").get_by_role("button").click()
        self.settled()

    def settled(self) -> None:
        """Wait until the page takes an answer."""
        if self.scripted:
            self.page.wait_for_selector("html[data-ready=yes]")

    def press(self, key: str) -> None:
        """Press a key, and wait for the page that comes of it."""
        self.page.keyboard.press(key)
        self.settled()

    def seen(self) -> str:
        """The page as it stands, and as the server sends it."""
        return self.page.content() + self.context.request.get(self.page.url).text()


Join = Callable[..., Person]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all; it ends with this file, since its loop would keep others from theirs."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def join(browser: Browser) -> Iterator[Join]:
    """Lets somebody in by a link."""
    contexts: list[BrowserContext] = []

    def joined(link: str, **settings: Any) -> Person:
        size = {"width": 1280, "height": 844}
        contexts.append(browser.new_context(**({"locale": "en", "viewport": size} | settings)))
        contexts[-1].set_default_timeout(10_000)
        return Person(contexts[-1], link, settings.get("java_script_enabled", True))

    yield joined
    for context in contexts:
        context.close()


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Running]:
    """An arena of one's own on SQLite, with prompts of people's own."""
    settings = ArenaSettings(project="Fruit", needed=1, write=True)
    running = Running(f"sqlite:///{tmp_path / 'arena.db'}", settings)
    yield running
    running.close()


def kept(arena: Running) -> list[Any]:
    """What was answered and not taken back, oldest first; outcomes as they were seen."""
    live = select(answers, tasks.c.swapped).where(answers.c.undone.is_(None)).order_by(answers.c.id)
    with arena.store.reading() as source:
        rows = [row._asdict() for row in source.execute(live.outerjoin(tasks))]
    for row in rows:
        if row["swapped"] and row["outcome"] in (0, 1):
            row["outcome"] = 1 - row["outcome"]
    return [SimpleNamespace(**row) for row in rows]


def again(arena: Running, name: str) -> str:
    """Another link for somebody who was there before."""
    with arena.store.reading() as source:
        who = source.scalar(select(people.c.id).where(people.c.name == name))
    return f"{arena.url}/login/{new_link(arena.store, str(who))}"


def shown(person: Person) -> tuple[str, str]:
    """The texts on the left and on the right."""
    left, right = person.page.locator(".answer .text").all_inner_texts()
    return left, right


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_two_people_vote_by_keys_and_buttons(
    serving: Callable[..., Running], join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = serving(needed=1)
    # The votes below have ratings: each model wins, loses or ties in a circle.
    monkeypatch.setattr(Queue, "_swapped", lambda *_: False)
    left = ["apple", "quince", "quince", "apple", "pear"]
    right = ["pear", "pear", "apple", "pear", "quince"]
    arena.add(pairs(5, model_a=left, model_b=right), overlap=2)
    first, second = (join(arena.link(name)) for name in ("Amina", "Björn"))
    for key in ("1", "ArrowRight", "3", "4"):
        assert not any(model in first.seen() for model in MODELS)
        first.press(key)
    first.press("u")
    assert first.page.locator("button[aria-pressed=true]").inner_text().split() == [
        "4",
        "✗",
        "Both",
        "bad",
    ]
    first.page.keyboard.press("c")
    first.page.keyboard.type("1 2 s u")  # in a comment keys are letters
    first.page.keyboard.press("Escape")
    first.press("2")
    said = [(one.outcome, one.comment) for one in kept(arena)]
    assert said == [(0, None), (1, None), (2, None), (1, "1 2 s u")]
    assert all(0 < one.seconds < 60 for one in kept(arena))

    second.page.get_by_role("link", name="Ranking").click()
    assert "0 / 1" in second.seen()
    assert not any(model in second.seen() for model in MODELS)
    first.page.get_by_role("link", name="Ranking").click()
    drawn = first.page.locator("table.board tbody tr")
    assert {one.split()[1] for one in drawn.all_inner_texts()} <= set(MODELS)
    assert first.page.locator("table.board circle").count() == drawn.count() > 0

    second.page.locator("#board").get_by_role("link", name="Vote").click()
    second.settled()
    second.page.get_by_text("Edit").first.click()
    left, _ = shown(second)
    second.page.get_by_label("Edit A").fill(f"{left}, better")
    second.page.get_by_label("Comment").fill("both, in one")
    second.page.get_by_role("button", name="Save: A").click()
    second.settled()
    second.page.get_by_role("button", name="Tie").click()
    second.settled()
    one, two = kept(arena)[-2:]
    assert (one.outcome, one.edit, one.comment) == (0, f"{left}, better", "both, in one")
    assert (two.outcome, two.edit, two.comment) == (2, None, None)
    assert first.complaints + second.complaints == []


def test_a_key_that_is_held_or_pressed_twice_votes_once(arena: Running, join: Join) -> None:
    arena.add(pairs(4))
    person = join(arena.link("Amina"))
    person.page.keyboard.down("1")
    person.page.keyboard.down("1")
    person.page.keyboard.up("1")
    person.settled()
    person.page.get_by_role("button", name="2 B").dblclick()
    person.settled()
    assert len(kept(arena)) == 2
    person.page.get_by_text("Shortcuts").click()
    person.page.get_by_label("Active").uncheck()
    person.page.keyboard.press("1")
    person.page.reload()
    person.settled()
    person.page.keyboard.press("1")
    assert len(kept(arena)) == 2


def test_arabic_is_written_from_right_to_left(arena: Running, join: Join) -> None:
    arena.add(pairs(2, completion_a=[ARABIC] * 2, completion_b=["الموز"] * 2, lang=["ar"] * 2))
    person = join(arena.link("أمينة", languages=("ar",)), locale="ar")
    page = person.page
    assert page.locator("html").get_attribute("dir") == "rtl"
    assert page.get_by_role("button", name="تسجيل الخروج").is_visible()
    texts = page.locator(".answer .text")
    assert {(one.get_attribute("dir"), one.get_attribute("lang")) for one in texts.all()} == {
        ("rtl", "ar")
    }
    a, b = (one.bounding_box() for one in texts.all())
    assert a and b and a["x"] > b["x"]  # A stands where reading begins
    person.press("ArrowRight")
    # A keyboard with digits of its own has them in the same places.
    own = "{key: '٢', code: 'Digit2', bubbles: true}"
    page.evaluate(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {own}))")
    person.settled()
    assert [one.outcome for one in kept(arena)] == [0, 1]
    assert person.complaints == []


def test_what_a_model_wrote_does_nothing(arena: Running, join: Join) -> None:
    arena.add(pairs(1, completion_a=[HOSTILE], completion_b=[HOSTILE], prompt=[HOSTILE]))
    person = join(arena.link("Amina"))
    person.page.mouse.move(300, 400)
    person.page.wait_for_timeout(200)
    assert person.page.title() == "Vote · Pomona · Fruit"
    assert HOSTILE.split("\n", 1)[0] in shown(person)[0]
    links = [one.get_attribute("href") for one in person.page.locator(".text a").all()]
    assert links == ["https://evil.example/b.png"] * 2
    assert all(url.startswith((arena.url, "data:,")) for url in person.asked)
    assert person.complaints == []
    person.press("1")
    assert len(kept(arena)) == 1


def test_a_vote_outlives_the_connection(arena: Running, join: Join) -> None:
    arena.add(pairs(4))
    link = arena.link("Amina")
    person = join(link)
    person.context.set_offline(True)
    person.page.keyboard.press("1")
    expect(person.page.get_by_role("status")).to_contain_text("No connection. Your answer is kept")
    assert person.page.get_by_role("button", name="2 B").is_disabled()
    person.context.set_offline(False)
    person.settled()
    assert len(kept(arena)) == 1

    def lose(route: Route) -> None:
        route.fetch(max_redirects=0)  # it arrives there, and nobody hears of it
        route.abort()

    person.page.route("**/answer", lose)  # sent again and again
    person.page.keyboard.press("2")
    expect(person.page.get_by_role("status")).to_contain_text("No connection")
    assert len(kept(arena)) == 2
    person.page.unroute("**/answer")
    person.page.reload()  # by somebody who does not wait
    person.settled()
    person.page.wait_for_function("Object.keys(localStorage).every(key => !key.startsWith('kept'))")
    assert [one.outcome for one in kept(arena)] == [0, 1]


def test_a_vote_outlives_the_session(arena: Running, join: Join) -> None:
    arena.add(pairs(2))
    person = join(arena.link("Amina"))
    person.context.clear_cookies()
    person.press("1")
    assert "not logged in" in person.page.locator("#error").inner_text()
    assert kept(arena) == []
    person.enter(again(arena, "Amina"))
    person.page.wait_for_function("Object.keys(localStorage).every(key => !key.startsWith('kept'))")
    assert [one.outcome for one in kept(arena)] == [0]


def test_nothing_needs_a_script(arena: Running, join: Join) -> None:
    arena.add(pairs(3))
    person = join(arena.link("Amina"), java_script_enabled=False)
    page = person.page
    page.get_by_role("button", name="2 B").click()
    page.get_by_text("Edit").first.click()
    page.get_by_label("Edit A").fill("better")
    page.get_by_role("button", name="Save: A").click()
    assert [(one.outcome, one.edit) for one in kept(arena)] == [(1, None), (0, "better")]
    page.get_by_role("button", name="Undo").click()
    assert page.get_by_label("Edit A").input_value() == "better"
    page.get_by_role("button", name="Log out").click()
    assert page.get_by_text("Open the link that you were given").is_visible()


def test_prompts_are_written_and_answers_rated(arena: Running, join: Join) -> None:
    rated = pa.table(
        {"prompt": ["Why?"], "completion": ["Because."], "model": ["apple"], "lang": ["en"]}
    )
    add_items(arena.store, read_answers(rated), 1)
    person = join(arena.link("Amina", languages=("en", "sw")))
    page = person.page
    page.get_by_role("link", name="Rating").click()
    person.settled()
    assert "apple" not in person.seen()
    page.get_by_text("Edit").click()
    page.get_by_label("Edit").fill("Because of ethylene.")
    page.get_by_role("heading", name="Answer").click()
    person.press("4")
    page.goto(f"{arena.url}/?kind=write")
    person.settled()
    page.get_by_label("Language").select_option("Kiswahili")
    page.get_by_label("Prompt").fill("Kwa nini ndizi huiva?")
    page.get_by_role("button", name="Save").click()
    assert len(kept(arena)) == 1  # the answer is missing
    page.get_by_label("Answer").fill("Kwa sababu ya ethilini.")
    page.get_by_role("button", name="Save").click()
    person.settled()
    rating, written = kept(arena)
    assert (rating.rating, rating.edit) == (4, "Because of ethylene.")
    assert (written.language, written.prompt, written.answer) == (
        "sw", "Kwa nini ndizi huiva?", "Kwa sababu ya ethilini.",
    )  # fmt: skip


def test_a_lead_lets_people_in_and_each_chooses_a_language(arena: Running, join: Join) -> None:
    arena.add(pairs(1, lang=["sw"]))
    lead = join(arena.link("Asha", "lead"))
    page = lead.page
    page.get_by_role("link", name="Users").click()
    page.get_by_label("Name").fill("<b>Juma</b>")
    page.get_by_label("Language (").fill("en")
    page.get_by_role("button", name="Add user").click()
    person = join(page.get_by_role("textbox", name="Link: <b>Juma</b>").input_value())
    assert person.page.locator(".answer").count() == 0
    person.page.goto(f"{arena.url}/settings")
    person.page.get_by_role("combobox").select_option("Kiswahili")
    person.page.get_by_role("checkbox", name="Kiswahili").check()
    person.page.get_by_role("button", name="Save").click()
    assert person.page.locator("html").get_attribute("lang") == "sw"
    assert person.page.get_by_role("button", name="Toka").is_visible()
    person.page.goto(arena.url)
    person.settled()
    assert person.page.locator(".answer").count() == 2

    page.goto(f"{arena.url}/lead")
    page.get_by_role("button", name="Remove: <b>Juma</b>").click()  # asks, and was told no
    assert lead.complaints == ["Are you sure?"]
    page.once("dialog", lambda dialog: dialog.accept())
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == "votes.csv"


PAGES = ["/", "/?kind=rate", "/?kind=write", "/board", "/guidelines", "/settings", "/lead", "/none"]


def test_every_page_is_for_everybody_and_fits(arena: Running, join: Join) -> None:
    arena.add(pairs(3, completion_a=["| a | b |\n|---|---|\n| " + "long " * 90 + "| 2 |"] * 3))
    rated = pa.table(
        {"prompt": ["Why?"], "completion": ["Because."], "model": ["apple"], "lang": ["en"]}
    )
    add_items(arena.store, read_answers(rated), 1)
    person = join(arena.link("Asha", "lead"))
    person.press("1")
    for place in PAGES:
        person.page.goto(arena.url + place)
        for width in (1280, 390):
            person.page.set_viewport_size({"width": width, "height": 844})
            assert person.page.evaluate("document.documentElement.scrollWidth") == width, place
            for button in person.page.locator(".votes button").all():
                box = button.bounding_box()
                assert box and box["height"] >= 44 and box["y"] + box["height"] <= 844, place
        found = Axe().run(person.page, options={"resultTypes": ["violations"]}).response
        serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"][0]["html"]) for one in serious] == [], place
