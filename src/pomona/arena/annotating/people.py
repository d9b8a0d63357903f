"""Who may annotate: people with a role and the languages they declare, links that let one in once,
and the sessions that these begin.

Of links and sessions only digests are kept: who reads the database cannot be somebody else.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from pomona.arena.annotating.schema import answers, people, sessions
from pomona.arena.annotating.store import Store
from pomona.errors import PomonaError

ROLES = ("lead", "annotator")
_DAY = 86400.0
_LINK, SESSION = 7 * _DAY, 30 * _DAY  # seconds that they are good for
_TAG = re.compile(r"[a-z]{1,8}(-[a-z0-9]{1,8}){0,4}")
_LONGEST_NAME, _MOST_LANGUAGES = 80, 50


@dataclass(frozen=True)
class Person:
    """Somebody who may annotate; `interface` is the page's language, empty for the browser's."""

    id: str
    name: str
    role: str
    languages: tuple[str, ...]
    interface: str
    active: bool

    @property
    def is_lead(self) -> bool:
        """Whether they invite others and see how the work goes on."""
        return self.role == "lead"


@dataclass(frozen=True)
class Session:
    """A browser that somebody came in with."""

    person: Person
    csrf: str


def tag_of(language: str) -> str:
    """A language's tag as it is compared: `pt-br` of `pt_BR`."""
    return re.sub(r"[_@.]", "-", language.strip().lower())


def is_tag(tag: str) -> bool:
    """Whether people can declare it."""
    return _TAG.fullmatch(tag) is not None


def read_tags(given: Iterable[str]) -> tuple[str, ...]:
    """The tags in texts that separate them by spaces or commas. A PomonaError for what is none."""
    tags = [tag_of(part) for text in given for part in re.split(r"[\s,;]+", text) if part]
    if wrong := next((tag for tag in tags if not is_tag(tag)), None):
        remedy = "write tags such as en, pt-BR or zh-Hant, separated by spaces"
        raise PomonaError(f'"{wrong[:40]}" is no tag of a language', remedy=remedy)
    if len(tags) > _MOST_LANGUAGES:
        remedy = f"give at most {_MOST_LANGUAGES}"
        raise PomonaError(f"{len(tags)} languages are too many", remedy=remedy)
    return tuple(dict.fromkeys(tags))


def add_person(store: Store, name: str, role: str, languages: Sequence[str]) -> Person:
    """A new person. A PomonaError when the name is taken or none, or the role is unknown."""
    name = " ".join(name.split())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        remedy = f"give 1 to {_LONGEST_NAME} letters"
        raise PomonaError("that is no name", where="name", remedy=remedy)
    if role not in ROLES:
        raise PomonaError(
            f'there is no role "{role}"', where="role", remedy=f"use {' or '.join(ROLES)}"
        )
    person = Person(secrets.token_hex(8), name, role, tuple(languages), "", True)
    values = vars(person) | {"languages": " ".join(languages), "made": time.time()}
    try:
        with store.writing() as to:
            to.execute(people.insert().values(values))
    except IntegrityError as error:
        remedy = "give another name, or make a new link for them"
        raise PomonaError(f'"{name}" is here already', where="name", remedy=remedy) from error
    return person


def lead_of(store: Store, name: str) -> Person:
    """The lead with this name, who is added where there is none. A PomonaError when they are an
    annotator.
    """
    with store.reading() as source:
        row = source.execute(select(people).where(people.c.name == " ".join(name.split()))).first()
    person = add_person(store, name, "lead", ()) if row is None else _person(row)
    if not person.is_lead:
        message, remedy = f'"{person.name}" is an annotator', "give another name"
        raise PomonaError(message, where="lead", remedy=remedy)
    return person


def new_link(store: Store, person: str) -> str:
    """The token of a link that lets a person in once, within a week; a former one ends, and who
    was removed is back. A PomonaError when there is no such person.
    """
    token = secrets.token_urlsafe(24)
    values = {"link": _digest(token), "link_ends": time.time() + _LINK, "active": True}
    with store.writing() as to:
        done = to.execute(update(people).where(people.c.id == person).values(values))
        if not done.rowcount:
            raise unknown_person()
    return token


def unknown_person() -> PomonaError:
    """Nobody has this id."""
    return PomonaError("there is no such person", remedy="look at the list of people")


def remove(store: Store, person: str) -> None:
    """End somebody's sessions and link; what they answered stays. A PomonaError when there is no
    such person.
    """
    with store.writing() as to:
        gone = update(people).where(people.c.id == person).values(active=False, link=None)
        if not to.execute(gone).rowcount:
            raise unknown_person()
        to.execute(delete(sessions).where(sessions.c.person == person))


def with_id(store: Store, person: str) -> Person:
    """The person with this id. A PomonaError when there is none."""
    with store.reading() as source:
        row = source.execute(select(people).where(people.c.id == person)).first()
    if row is None:
        raise unknown_person()
    return _person(row)


def invited(store: Store, token: str) -> Person | None:
    """Whom a link lets in; it is not used up by that."""
    good = people.c.link == _digest(token), people.c.link_ends > time.time()
    with store.reading() as source:
        row = source.execute(select(people).where(*good)).first()
    return None if row is None else _person(row)


def enter(store: Store, token: str) -> str | None:
    """Use up a link, and give back the secret of a new session; None where the link is no good."""
    cookie, now = secrets.token_urlsafe(32), time.time()
    with store.writing() as to:
        used = update(people).where(people.c.link == _digest(token), people.c.link_ends > now)
        # One statement decides who was first where two come with the same link.
        person = to.scalar(used.values(link=None, link_ends=None).returning(people.c.id))
        if person is None:
            return None
        to.execute(delete(sessions).where(sessions.c.ends < now))
        values = {"digest": _digest(cookie), "person": person, "csrf": secrets.token_urlsafe(24)}
        to.execute(sessions.insert().values(values | {"ends": now + SESSION}))
    return cookie


def session_of(store: Store, cookie: str) -> Session | None:
    """The session with this secret, unless it has ended."""
    found = select(sessions.c.csrf.label("csrf"), people).join_from(sessions, people)
    found = found.where(sessions.c.digest == _digest(cookie), sessions.c.ends > time.time())
    with store.reading() as source:
        row = source.execute(found.where(people.c.active)).first()
    return None if row is None else Session(_person(row), row.csrf)


def leave(store: Store, cookie: str) -> None:
    """End a session."""
    with store.writing() as to:
        to.execute(delete(sessions).where(sessions.c.digest == _digest(cookie)))


def settle_in(store: Store, person: str, languages: Sequence[str], interface: str) -> None:
    """What somebody says of themselves: the languages they judge, and the page's."""
    values = {"languages": " ".join(languages), "interface": interface}
    with store.writing() as to:
        to.execute(update(people).where(people.c.id == person).values(values))


def everybody(store: Store) -> list[dict[str, Any]]:
    """All people in the order of their names, with how many answers each gave and when the last."""
    live = answers.c.undone.is_(None)
    counted = select(
        answers.c.person, func.count().label("answers"), func.max(answers.c.time).label("last")
    )
    done = counted.where(live).group_by(answers.c.person).subquery()
    wanted = select(people, done.c.answers, done.c.last).outerjoin(done)
    with store.reading() as source:
        rows = source.execute(wanted.order_by(people.c.name)).all()
    return [
        {
            "id": row.id,
            "name": row.name,
            "role": row.role,
            "languages": row.languages.split(),
            "active": row.active,
            "answers": row.answers or 0,
            "last": row.last,
        }
        for row in rows
    ]


def _person(row: Row[Any]) -> Person:
    return Person(
        row.id, row.name, row.role, tuple(row.languages.split()), row.interface, row.active
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
