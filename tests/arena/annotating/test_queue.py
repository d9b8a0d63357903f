"""Who is shown what, and that nothing they say is lost or doubled."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pytest
from sqlalchemy import func, select, text, update

from pomona.arena.annotating import queue as queues
from pomona.arena.annotating.items import add_items, read_answers, read_pairs
from pomona.arena.annotating.people import Person
from pomona.arena.annotating.progress import Progress
from pomona.arena.annotating.queue import Conflict, Queue, Said
from pomona.arena.annotating.schema import answers, items, tasks
from pomona.arena.annotating.store import Store

from .conftest import pairs, person, unique

LEFT, RIGHT, TIE = Said(outcome=0), Said(outcome=1), Said(outcome=2)


@pytest.fixture
def queue(store: Store) -> Queue:
    return Queue(store, lease=600)


def fill(store: Store, table: pa.Table, overlap: int = 1) -> None:
    add_items(store, read_pairs(table), overlap)


def ended(store: Store) -> None:
    """All leases have ended."""
    with store.writing() as to:
        to.execute(update(tasks).values(ends=1.0))


def test_items_come_by_rank_and_language(store: Store, queue: Queue) -> None:
    langs = ["de", "pt_BR", None, "en", "pt"]
    fill(store, pairs(5, lang=langs, rank=[5.0, 4.0, 3.0, 2.0, 1.0]))
    ada, bea = person(store, "Ada", "en", "pt-br"), person(store, "Bea", "pt")

    def seen(who: Person) -> list[str]:
        shown = []
        while (task := queue.next(who)) is not None:
            shown.append(task.prompt)
            queue.answer(who, task.id, unique(), LEFT)
        return shown

    # Who speaks pt speaks pt-BR; who declares pt-BR is not asked about pt.
    assert seen(ada) == ["Question 3?", "Question 2?", "Question 1?"]
    assert seen(bea) == ["Question 4?"]
    assert seen(person(store, "Cleo", "fr")) == []


def test_what_was_shown_comes_again_until_it_is_answered(store: Store, queue: Queue) -> None:
    fill(store, pairs(3))
    ada, bea = person(store, "Ada"), person(store, "Bea")
    first = queue.next(ada)
    assert first is not None and queue.next(ada) == first == Queue(store, 600).next(ada)
    second = queue.next(bea)
    assert second is not None and second.prompt != first.prompt


def test_no_item_has_more_places_than_wanted_or_comes_twice(store: Store, queue: Queue) -> None:
    fill(store, pairs(4), overlap=2)
    crowd = [person(store, f"Person {n}") for n in range(5)]
    shown = Counter[str]()
    for who in crowd * 4:
        if (task := queue.next(who)) is not None:
            shown[task.prompt] += 1
            queue.answer(who, task.id, unique(), TIE)
    assert shown == {f"Question {n}?": 2 for n in range(4)}
    with store.reading() as source:
        each = source.execute(select(func.count(tasks.c.id)).group_by(tasks.c.person, tasks.c.item))
        assert set(each.scalars()) == {1}


def test_sides_are_random_logged_and_turned_back(store: Store, queue: Queue) -> None:
    fill(store, pairs(14), overlap=2)
    for name in ("Ada", "Bea"):
        who = person(store, name)
        while (task := queue.next(who)) is not None:
            left = task.completions[0].startswith("An ")  # the item's a
            queue.answer(who, task.id, unique(), LEFT if left else RIGHT)
    with store.reading() as source:
        assert set(source.scalars(select(answers.c.outcome))) == {0}
        swapped = source.scalars(select(tasks.c.swapped).order_by(tasks.c.made)).all()
    assert 3 < sum(swapped) < 25
    assert swapped[:14] != swapped[14:]  # each person sees sides of their own


def test_a_vote_that_is_sent_again_is_the_same_vote(store: Store, queue: Queue) -> None:
    fill(store, pairs(1))
    ada, bea, key = person(store, "Ada"), person(store, "Bea"), unique()
    task = queue.next(ada)
    assert task is not None
    assert queue.answer(ada, task.id, key, LEFT) is True
    assert queue.answer(ada, task.id, key, LEFT) is False
    with pytest.raises(Conflict, match="you have answered or passed over this one"):
        queue.answer(ada, task.id, unique(), RIGHT)
    with pytest.raises(Conflict, match="there is no such task"):
        queue.answer(bea, task.id, unique(), RIGHT)
    with store.reading() as source:
        assert source.scalar(select(func.count()).select_from(answers)) == 1


def test_a_lease_that_ends_frees_the_place_and_loses_nothing(store: Store, queue: Queue) -> None:
    fill(store, pairs(1))
    ada, bea = person(store, "Ada"), person(store, "Bea")
    late = queue.next(ada)
    assert late is not None and queue.next(bea) is None
    ended(store)
    task = queue.next(bea)
    assert task is not None
    queue.answer(ada, late.id, unique(), LEFT)  # the connection was gone for an hour
    queue.answer(bea, task.id, unique(), LEFT)
    with store.reading() as source:
        assert source.scalar(select(func.count()).select_from(answers)) == 2
        assert source.execute(select(items.c.taken, items.c.open)).all() == [(1, False)]


def test_undo_brings_the_task_back_with_what_was_said(store: Store, queue: Queue) -> None:
    fill(store, pairs(2))
    ada, said = person(store, "Ada"), Said(outcome=1, comment="hm", edit="New", edited=1)
    first = queue.next(ada)
    assert first is not None and not queue.can_undo(ada)
    queue.answer(ada, first.id, unique(), said)
    other = queue.next(ada)
    assert other is not None and other.id != first.id and queue.can_undo(ada)
    assert queue.undo(ada) == "pair"
    again = queue.next(ada)
    assert again == replace(first, said=said)
    with pytest.raises(Conflict, match="there is nothing to take back — only the last one"):
        queue.undo(ada)
    queue.answer(ada, first.id, unique(), LEFT)
    queue.answer(ada, other.id, unique(), LEFT)
    with store.reading() as source:
        votes = source.execute(select(answers).where(queues.settled())).all()
    assert len(votes) == 1 and votes[0].undone is None  # the last one can still be taken back
    queue.undo(ada)
    with pytest.raises(Conflict):  # none before the last
        queue.undo(ada)


def test_undo_has_its_time(store: Store, queue: Queue) -> None:
    fill(store, pairs(1))
    ada = person(store, "Ada")
    task = queue.next(ada)
    assert task is not None
    queue.answer(ada, task.id, unique(), LEFT)
    with store.writing() as to:
        to.execute(update(answers).values(time=answers.c.time - queues.UNDO - 1))
        assert to.scalar(select(func.count()).where(queues.settled())) == 1
    assert not queue.can_undo(ada)


def test_what_is_passed_over_is_for_others(store: Store, queue: Queue) -> None:
    fill(store, pairs(1))
    ada, bea = person(store, "Ada"), person(store, "Bea")
    task = queue.next(ada)
    assert task is not None
    queue.skip(ada, task.id)
    queue.skip(ada, task.id)
    assert queue.next(ada) is None and queue.next(bea) is not None


def test_ratings_and_what_people_write(store: Store, queue: Queue) -> None:
    rows = pa.table({"prompt": ["Why?"], "completion": ["Because"], "model": ["pear"]})
    add_items(store, read_answers(rows), 1)
    ada, key = person(store, "Ada"), unique()
    task = queue.next(ada)
    assert task is not None and task.kind == "rate" and task.completions == ("Because",)
    queue.answer(ada, task.id, unique(), Said(rating=4))
    said = Said(prompt="Who?", answer="Me", language="en")
    assert queue.write(ada, key, said) and not queue.write(ada, key, said)
    assert queue.undo(ada) == "write" and queue.written_back(ada) == said
    queue.write(ada, unique(), said)
    assert queue.written_back(ada) is None


def test_a_queue_made_anew_has_new_ranks_and_propensities_that_votes_log(
    store: Store, queue: Queue
) -> None:
    fill(store, pairs(2, rank=[1.0, 2.0], propensity=[0.5, 0.25]))
    fill(store, pairs(2, rank=[2.0, 1.0], propensity=[0.5, 0.75]))
    ada = person(store, "Ada")
    task = queue.next(ada)
    assert task is not None and task.prompt == "Question 1?"
    fill(store, pairs(2, rank=[1.0, 9.0], propensity=[0.5, 0.1]))
    with store.reading() as source:
        assert source.execute(select(tasks.c.rank, tasks.c.propensity)).all() == [(1.0, 0.75)]


def test_a_queue_has_a_row_a_vote(store: Store, queue: Queue) -> None:
    """Rows that ask about the same pair, on whichever side, are for people of their own."""
    drawn = pairs(2, rank=[1.0, 2.0], propensity=[0.5, 0.4], available=[8.0, 7.0])
    again = pairs(1, rank=[3.0], propensity=[0.3], available=[6.0])
    names = again.column_names
    for one, other in (("model_a", "model_b"), ("completion_a", "completion_b")):
        at, to = names.index(one), names.index(other)
        names[at], names[to] = names[to], names[at]
    table = pa.concat_tables([drawn, again.rename_columns(names).select(drawn.column_names)])
    assert add_items(store, read_pairs(table), 1) == 3
    assert add_items(store, read_pairs(table), 1) == 0
    for name, expected in (("Ada", [0, 1]), ("Bea", [0]), ("Cleo", [])):
        who, seen = person(store, name), []
        while (task := queue.next(who)) is not None:
            seen.append(task.prompt)
            queue.answer(who, task.id, unique(), TIE)
        assert seen == [f"Question {n}?" for n in expected]
    logged = select(tasks.c.rank, tasks.c.propensity, tasks.c.available).order_by(tasks.c.made)
    with store.reading() as source:
        assert source.execute(logged).all() == [(1, 0.5, 8), (2, 0.4, 7), (3, 0.3, 6)]


def test_many_at_once_on_two_servers(store: Store, database: str) -> None:
    """Places, votes and people agree, whoever comes at the same moment."""
    fill(store, pairs(12), overlap=3)
    crowd = [person(store, f"Person {n}") for n in range(5)]
    other = Store(database)
    both = [Queue(store, 600), Queue(other, 600)]
    kept = Counter[str]()

    def work(n: int) -> int:
        done = 0
        for step in range(13):  # with fewer each, two free places may be on one item
            queue = both[(n + step) % 2]
            if (task := queue.next(crowd[n])) is None:
                break
            key = unique()
            done += queue.answer(crowd[n], task.id, key, TIE)
            done += both[n % 2].answer(crowd[n], task.id, key, TIE)  # sent again
        return done

    with ThreadPoolExecutor(5) as threads:
        for n, done in enumerate(threads.map(work, range(5))):
            kept[crowd[n].id] = done
    other.close()
    with store.reading() as source:
        each = select(answers.c.person, func.count()).group_by(answers.c.person)
        assert {row[0]: row[1] for row in source.execute(each)} == kept
        assert sum(kept.values()) == 36
        taken = select(func.count(tasks.c.id)).group_by(tasks.c.item)
        assert set(source.scalars(taken)) == {3}
        assert set(source.execute(select(items.c.taken, items.c.open))) == {(3, False)}


def test_places_are_right_after_any_walk(store: Store, queue: Queue) -> None:
    """Whatever people do in whatever order, places are those of tasks that hold one."""
    fill(store, pairs(6), overlap=2)
    crowd, choose = [person(store, f"Person {n}") for n in range(4)], random.Random(5)
    held: dict[str, list[str]] = {who.id: [] for who in crowd}
    for _ in range(120):
        who, act = choose.choice(crowd), choose.random()
        try:
            if act < 0.4 and (task := queue.next(who)) is not None:
                held[who.id].append(task.id)
            elif act < 0.7 and held[who.id]:
                queue.answer(who, choose.choice(held[who.id]), unique(), LEFT)
            elif act < 0.8 and held[who.id]:
                queue.skip(who, held[who.id][-1])
            elif act < 0.9:
                queue.undo(who)
            else:
                ended(store)
        except Conflict:
            pass
    wrong = """select count(*) from arena_items where open <> (taken < overlap) or taken <>
        (select count(*) from arena_tasks where item = arena_items.id and placed)"""
    live = "select count(*) from arena_answers where undone is null group by task"
    with store.reading() as source:
        assert source.scalar(text(wrong)) == 0
        assert set(source.scalars(text(live))) == {1}
        states = select(tasks.c.state, func.count()).where(tasks.c.placed).group_by(tasks.c.state)
        assert {row[0] for row in source.execute(states)} <= {"open", "done"}


def test_progress(store: Store, queue: Queue) -> None:
    fill(store, pairs(4, lang=["en", "en", "sw", None]), overlap=2)
    ada, bea, progress = person(store, "Ada"), person(store, "Bea"), Progress(store)
    for _ in range(3):
        assert progress.of(ada) == {"done": 0, "total": 3}
    for n, (one, other) in enumerate([(LEFT, LEFT), (LEFT, TIE), (TIE, TIE)], 1):
        for who, said in ((ada, one), (bea, other)):
            task = queue.next(who)
            assert task is not None
            if said.outcome == 0 and not task.completions[0].startswith("An "):
                said = RIGHT  # the same answer on the other side
            queue.answer(who, task.id, unique(), said)
        assert progress.of(ada) == {"done": n, "total": 3}
    rows = {row["language"]: row for row in progress.by_language()}
    assert rows["en"] == {"language": "en", "done": 2, "total": 2, "people": 2, "agreement": 0.5}
    assert (rows[None]["done"], rows[None]["agreement"]) == (1, 1.0)
    assert (rows["sw"]["done"], rows["sw"]["agreement"]) == (0, None)
