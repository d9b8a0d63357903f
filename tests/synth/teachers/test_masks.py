"""What is masked comes back where its mask stands, and a mask that is lost is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pomona.synth.teachers import mask

PIECES = st.lists(
    st.sampled_from(
        ["save", " ", "%(name)s", "%d", "%%", "{0}", "{{ x }}", "<b>", "</b>", "&nbsp;", "\n", "5 %",
         "https://x.org/a", "PH0Q", "PH1Q", "*", "é", ".", "${a}", "%", "a@b.org", "{% if %}"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(PIECES, st.booleans())
def test_what_was_masked_is_back_as_it_was(text: str, lines: bool) -> None:
    masked = mask(text, lines=lines, signs="*@#")
    assert masked.restore(masked.text) == (text, None)
    assert "*" not in masked.text and "%(" not in masked.text and "</b>" not in masked.text
    assert not (lines and "\n" in masked.text)


def test_masks_may_move_and_change_their_case_but_not_be_lost_or_doubled() -> None:
    masked = mask("save %(name)s to {0}")
    assert masked.text == "save PH0Q to PH1Q"
    assert masked.restore("ph1q: PH0Q") == ("{0}: %(name)s", None)
    for answer in ("PH0Q", "PH0Q PH1Q PH1Q"):
        assert masked.restore(answer)[1] == "placeholders did not come back: {0}"
    assert mask("save").restore("PH7Q")[1] == "placeholders did not come back: others did"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("100 % of all", "100 % of all"),
        ("<b>Save</b>all", "PH0Q Save PH1Q all"),
        ("a < b and c > d", "a < b and c > d"),
        ("at %d%%", "at PH0QPH1Q"),
        ("%1$s of %2$d", "PH0Q of PH1Q"),
        ("see https://x.org/a?b=c.", "see PH0Q."),
    ],
)
def test_words_are_parted_from_masks_and_prose_is_none(text: str, masked: str) -> None:
    assert mask(text).text == masked
