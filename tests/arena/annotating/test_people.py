"""Links that let in once, sessions, and what becomes of people who are removed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from pomona.arena.annotating import people
from pomona.arena.annotating.schema import people as table, sessions
from pomona.arena.annotating.store import Store
from pomona.errors import PomonaError

from .conftest import person


def test_a_link_lets_in_once(store: Store) -> None:
    ada = person(store, "Ada", "en", "pt-BR")
    token = people.new_link(store, ada.id)
    assert people.invited(store, token) == people.invited(store, token) == ada  # looking is free
    with ThreadPoolExecutor(4) as threads:
        cookies = [*threads.map(lambda _: people.enter(store, token), range(4))]
    (cookie,) = [cookie for cookie in cookies if cookie is not None]
    session = people.session_of(store, cookie)
    assert session is not None and session.person == ada and len(session.csrf) > 20
    assert people.invited(store, token) is None


def test_the_database_holds_no_secret(store: Store) -> None:
    ada = person(store, "Ada")
    token = people.new_link(store, ada.id)
    cookie = people.enter(store, token) or ""
    other = people.new_link(store, ada.id)
    with store.reading() as source:
        kept = [*source.execute(select(table)).all(), *source.execute(select(sessions)).all()]
    assert not any(secret in repr(kept) for secret in (token, cookie, other))


def test_a_new_link_ends_the_former_and_old_ones_end(store: Store) -> None:
    ada = person(store, "Ada")
    first, second = people.new_link(store, ada.id), people.new_link(store, ada.id)
    assert people.enter(store, first) is None
    with store.writing() as to:
        to.execute(update(table).values(link_ends=1.0))
    assert people.enter(store, second) is None and people.invited(store, second) is None


def test_whoever_is_removed_is_out_at_once_and_may_come_back(store: Store) -> None:
    ada = person(store, "Ada")
    cookie = people.enter(store, people.new_link(store, ada.id)) or ""
    people.remove(store, ada.id)
    assert people.session_of(store, cookie) is None
    again = people.enter(store, people.new_link(store, ada.id)) or ""
    assert people.session_of(store, again) is not None and people.session_of(store, cookie) is None
    people.leave(store, again)
    assert people.session_of(store, again) is None
    with store.writing() as to:
        to.execute(update(sessions).values(ends=1.0))
    assert people.session_of(store, again) is None


def test_leads_and_names(store: Store) -> None:
    lead = people.lead_of(store, " Grace  Hopper ")
    assert (lead.name, lead.role) == ("Grace Hopper", "lead")
    assert people.lead_of(store, "Grace Hopper").id == lead.id
    person(store, "Ada")
    with pytest.raises(PomonaError, match='"Ada" is an annotator'):
        people.lead_of(store, "Ada")
    with pytest.raises(PomonaError, match='"Ada" is here already — give another name'):
        person(store, "Ada")
    with pytest.raises(PomonaError, match="that is no name"):
        person(store, " \n ")
    with pytest.raises(PomonaError, match='there is no role "king" — use lead or annotator'):
        people.add_person(store, "Leo", "king", ())
    with pytest.raises(PomonaError, match="there is no such person"):
        people.new_link(store, "nobody")
    assert [row["name"] for row in people.everybody(store)] == ["Ada", "Grace Hopper"]


def test_tags_of_languages() -> None:
    assert people.read_tags(["en, pt_BR", "zh-Hant en"]) == ("en", "pt-br", "zh-hant")
    with pytest.raises(PomonaError, match='"<b>" is no tag of a language — write tags such as en'):
        people.read_tags(["<b>"])
    with pytest.raises(PomonaError, match="51 languages are too many"):
        people.read_tags([f"a{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(51)])
