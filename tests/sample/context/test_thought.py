"""The answer that a text comes to."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, strategies as st

from pomona.sample.context import Thought, final_answer
from pomona.sample.context.messages import question

from .conftest import Scripted, ask


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 + 4 = 7\nAnswer: 7", "7"),
        ("**Answer:** 7 apples.", "7 apples"),
        ("Final answer = $12.50$", "12.50"),
        (r"so \boxed{\frac{1}{2}} it is", r"\frac{1}{2}"),
        (r"Answer: \boxed{42}", "42"),
        ("work\n#### 1,234", "1,234"),
        ("Thus the answer is Paris. I am sure.", "Paris"),
        ("The answer is: 3.5.", "3.5"),
        ("Answer: 3\nNo, wait.\nAnswer: 4", "4"),
        ("Answer: <the answer alone>", None),
        ("I do not know", None),
        (r"\boxed{never closed", None),
        ("", None),
    ],
)
def test_the_final_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@given(st.text(max_size=60), st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True))
def test_an_answer_line_at_the_end_is_found_after_any_text(text: str, answer: str) -> None:
    assert final_answer(f"{text}\nAnswer: {answer}") == answer


def test_steps_are_asked_for_and_kept_in_the_notes() -> None:
    async def work() -> None:
        model, lever = Scripted("3 and 4\nAnswer: 7", "no end in"), Thought(tokens=100)
        request, notes = await lever.before(ask("3 + 4?", max_tokens=20), model)
        assert question(request).startswith("3 + 4?\n\nThink step by step")
        assert request.max_tokens == 120
        first, second = [(await model.reply(request, [(0, 0.0)]))[0] for _ in range(2)]
        reply, told = await lever.after(request, first, model, notes)
        assert (reply.text, reply.spent) == ("7", first.spent)
        assert told == {"thought": "3 and 4\nAnswer: 7", "answer": "7"}
        assert await lever.after(request, second, model, notes) == (
            second,
            {"thought": "no end in", "answer": None},
        )

    asyncio.run(work())
