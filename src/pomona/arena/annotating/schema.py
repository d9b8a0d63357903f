"""The tables of an arena, as SQLite and PostgreSQL both have them."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    and_,
    text,
)

VERSION = 1
metadata = MetaData()

settings = Table(
    "arena_settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
people = Table(
    "arena_people",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("languages", Text, nullable=False),  # tags, separated by spaces
    Column("interface", Text, nullable=False),  # the page's language; empty: the browser's
    Column("active", Boolean, nullable=False),
    Column("link", Text, unique=True),  # SHA-256 of the one that was not used yet
    Column("link_ends", Double),
    Column("made", Double, nullable=False),
)
sessions = Table(
    "arena_sessions",
    metadata,
    Column("digest", Text, primary_key=True),  # SHA-256 of the cookie
    Column("person", ForeignKey("arena_people.id"), nullable=False, index=True),
    Column("csrf", Text, nullable=False),
    Column("ends", Double, nullable=False),
)
items = Table(
    "arena_items",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("same", Text, nullable=False),  # of rows that ask about the same
    Column("name", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),  # pair or rate
    Column("language", Text),  # as given
    Column("tag", Text),  # as it is compared
    Column("base", Text),
    Column("prompt", Text, nullable=False),
    Column("model_a", Text),
    Column("model_b", Text),
    Column("completion_a", Text, nullable=False),
    Column("completion_b", Text),
    Column("overlap", Integer, nullable=False),
    Column("taken", Integer, nullable=False),  # places, of `overlap`
    Column("rank", Double, nullable=False),
    Column("propensity", Double),
    Column("available", Double),
    Column("open", Boolean, nullable=False),  # whether a place is free
)
Index(
    "arena_items_open",
    items.c.kind,
    items.c.rank,
    items.c.id,
    sqlite_where=items.c.open,
    postgresql_where=items.c.open,
)
Index("arena_items_same", items.c.same)
tasks = Table(
    "arena_tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("item", ForeignKey("arena_items.id"), nullable=False),
    Column("person", ForeignKey("arena_people.id"), nullable=False),
    Column("same", Text, nullable=False),
    Column("swapped", Boolean, nullable=False),  # whether b stands on the left
    Column("state", Text, nullable=False),  # open, done, skipped, closed
    Column("placed", Boolean, nullable=False),  # whether it holds one of the item's places
    Column("ends", Double, nullable=False),  # of the lease
    Column("made", Double, nullable=False),
    Column("rank", Double),  # those of the item when it was shown
    Column("propensity", Double),
    Column("available", Double),
    # Nobody is asked about the same twice, whatever else happens.
    UniqueConstraint("person", "same"),
)
_LEASED = and_(tasks.c.placed, tasks.c.state == text("'open'"))
Index("arena_tasks_leased", tasks.c.ends, sqlite_where=_LEASED, postgresql_where=_LEASED)
Index("arena_tasks_item", tasks.c.item)
answers = Table(
    "arena_answers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("task", ForeignKey("arena_tasks.id")),  # none for what somebody wrote anew
    Column("person", ForeignKey("arena_people.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),  # pair, rate or write
    Column("outcome", SmallInteger),  # of the item's a and b, as in `votes.OUTCOMES`
    Column("rating", SmallInteger),
    Column("comment", Text),
    Column("edit", Text),
    Column("edited", Text),  # a or b of the item
    Column("prompt", Text),
    Column("answer", Text),
    Column("language", Text),
    Column("seconds", Double),
    Column("time", Double, nullable=False),
    Column("undone", Double),
    Column("settled", Boolean, nullable=False),  # whether a later answer ended the time of undo
    # A form that is sent again is the same answer.
    UniqueConstraint("person", "key"),
)
_LIVE = answers.c.undone.is_(None)
Index("arena_answers_live", answers.c.task, unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE)
