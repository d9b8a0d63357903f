"""Verdicts on items: right answers, JSON, options of a question, and functions of a user's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.tasks import metric


def verdicts(
    given: Any, outputs: list[Any], right: list[Any], *, references: int | None = 1
) -> list[bool]:
    statistics = metric(given, references=references).statistics(outputs, right)
    assert statistics.shape == (len(outputs), 2) and (statistics[:, 1] == 1).all()
    return [bool(value) for value in statistics[:, 0]]


@pytest.mark.parametrize(
    ("options", "output", "reference", "same"),
    [
        ({}, "Paris.", "paris", False),
        ({"normalise": ["lower"]}, "PARIS", "paris", True),
        ({"normalise": ["lower", "punctuation"]}, "«Paris», really!", "paris really", True),
        ({"normalise": ["punctuation"]}, "1 + 1", "1 1", True),
        ({"normalise": ["articles"]}, "The cat sat on a mat", "cat sat on mat", True),
        ({"normalise": ["articles"]}, "theatre", "atre", False),
        ({"normalise": ["unicode"]}, "ﬁle Ａ", "file A", True),
        ({}, "e\u0301", "é", False),
        ({"normalise": ["unicode"]}, "e\u0301", "é", True),
        ({"extract": "number"}, "So 20 + 52 = 72.00 in all.", "48 / 2 = 24\n#### 72", True),
        ({"extract": "number"}, "1,000 apples", "1000", True),
        ({"extract": "number"}, "-5", "5", False),
        ({"extract": "number", "match": "first"}, "72, not 71", "72", True),
        ({"extract": "number"}, "I do not know", "72", False),
        ({"extract": "boxed"}, r"so \boxed{\frac{1}{2}}", r"\frac{1}{2}", True),
        ({"extract": "boxed"}, r"so 72", r"72", False),
        ({"extract": "boxed", "equal": "number"}, r"\boxed{1,000.0}", "1000", True),
        ({"extract": "boxed", "equal": "number"}, r"\boxed{x}", "y", False),
        ({"extract": "boxed", "equal": "number"}, r"\boxed{x}", "x", True),
        ({"equal": "number"}, "7.", "+7.0", True),
        ({"extract": r"regex:#### (\S+)", "equal": "number"}, "so #### 1,234", "1234", True),
        ({"extract": "regex:answer is \\(([A-D])\\)"}, "The answer is (B), not (C)", "B", True),
        ({"extract": "regex:[A-D]", "normalise": ["lower"]}, "It is B", "b", True),
        ({"extract": "text"}, " Yes.\n", "yes", True),
        ({"extract": "builtins:len"}, "four", "4", False),  # of the reference too: 1
        ({"extract": "builtins:len"}, "four", "five", True),
    ],
)
def test_exact_match_by_its_options(
    options: dict[str, Any], output: str, reference: str, same: bool
) -> None:
    given = {"name": "exact_match", **options}
    assert verdicts(given, [output], [reference]) == [same]


def test_one_of_several_references_is_enough() -> None:
    given = {"name": "exact_match", "normalise": ["lower"]}
    references = [["colour", "Color"], ["grey", "gray"]]
    assert verdicts(given, ["color", "green"], references, references=2) == [True, False]
    assert verdicts(given, ["color", "b"], [["x"], ["b", "c"]], references=None) == [False, True]


def test_names_and_signatures_hold_every_choice() -> None:
    plain = metric("exact_match")
    assert plain.signature == "exact_match|nrefs:1|case:mixed|space:collapsed|version:1"
    how = {"extract": "regex:a|b", "match": "first", "normalise": ["punctuation", "lower"]}
    own = metric({"name": "exact_match", **how, "equal": "number"}, references=None)
    assert own.name == "exact_match-regex-first-lower-punctuation-equal"
    for part in ('extract:"regex:a|b"|', "match:first", "regex:", "nrefs:var", "case:lower", "punctuation:no", "equal:number", "unicode:"):  # fmt: skip
        assert part in own.signature
    swapped = how | {"normalise": ["lower", "punctuation"], "equal": "number"}
    assert metric({"name": "exact_match", **swapped}, references=None).signature == own.signature
    code = metric({"name": "exact_match", "extract": "os.path:basename"})
    assert code.name == "exact_match-function" and "code:" in code.signature


def test_json_is_valid_as_it_is_read_elsewhere() -> None:
    outputs = ['{"a": 1}', " [1, null]\n", '"é"', "{'a': 1}", '```json\n{"a": 1}\n```', "", "NaN"]
    outputs += ['{"a": 1, "a": 2}', '"\\ud800"', '{"a": 1} and', "[" * 3000, "\ud800"]
    assert verdicts("json_valid", outputs, [""] * len(outputs)) == [True] * 3 + [False] * 9


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "s": {"$ref": "#/$defs/s"}},
    "required": ["n"],
    "$defs": {"s": {"pattern": "^x+$"}},
}


def test_json_of_a_schema() -> None:
    given = {"name": "json_valid", "schema": SCHEMA}
    outputs = ['{"n": 1}', '{"n": "1"}', "{}", "[]", '{"n": 1, "s": "xx"}', '{"n": 1, "s": "y"}']
    assert verdicts(given, outputs, [None] * 6) == [True, False, False, False, True, False]
    assert metric(given).name == "json_valid-schema"
    assert metric(given).signature != metric(given | {"schema": {}}).signature


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "objekt"}, r"schema: is no JSON Schema: \$\.type: 'objekt' is not valid"),
        ({"pattern": "("}, r"is no JSON Schema: \$\.pattern: '\(' is not a 'regex'"),
        ({"patternProperties": {"a": {}}}, '"patternProperties" is not supported'),
        ({"$ref": "http://127.0.0.1:9/x"}, "schema: cannot be applied: "),
    ],
)
def test_schemas_that_cannot_be_used(schema: dict[str, Any], text: str) -> None:
    with pytest.raises(PomonaError, match=text):
        metric({"name": "json_valid", "schema": schema}).statistics(['"b"'], [""])


def test_a_schema_whose_pattern_would_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pomona.tasks.extraction.SECONDS", 0.05)
    measure = metric({"name": "json_valid", "schema": {"pattern": "^(a|aa|a?)+$"}})
    with pytest.raises(PomonaError, match="took more than"):
        measure.statistics([f'"{"a" * 60}b"'], [""])


QUESTION = [("Rome", -4.0), ("San Marino", -9.0), ("日本", -5.0)]


def test_choice_by_hand() -> None:
    """By sums Rome (−4); a character −1, −.9 and −2.5, a byte −1, −.9 and −.83."""
    for name, right in (("acc", "Rome"), ("acc_norm", "San Marino"), ("acc_bytes", "日本")):
        references = [one for one, _ in QUESTION]
        chosen = verdicts(name, [QUESTION] * 3, references)
        assert [one for one, is_right in zip(references, chosen, strict=True) if is_right] == [
            right
        ]
        assert float(metric(name).aggregate(np.array([1.0, 3.0]))) == pytest.approx(100 / 3)


def test_choice_as_lm_evaluation_harness_computes_it() -> None:
    """`ConfigurableTask.process_results` of version 0.4: np.argmax of the sums, and of the sums over
    `len(choice)`; a list of right places is a set.
    """
    draw = np.random.default_rng(0)
    items, gold = [], []
    for _ in range(50):
        texts = ["x" * int(n) for n in draw.integers(1, 9, 4)]
        items.append(list(zip(texts, np.round(-draw.random(4) * 5, 1).tolist(), strict=True)))
        gold.append(int(draw.integers(4)))
    sums = [np.array([value for _, value in item]) for item in items]
    lengths = [np.array([float(len(text)) for text, _ in item]) for item in items]
    acc = [int(np.argmax(one)) == right for one, right in zip(sums, gold, strict=True)]
    assert verdicts("acc", items, gold) == acc
    norm = [int(np.argmax(a / b)) == right for a, b, right in zip(sums, lengths, gold, strict=True)]
    assert verdicts("acc_norm", items, gold) == norm
    assert verdicts("acc", items, [[right, 0] for right in gold]) == [
        int(np.argmax(one)) in (right, 0) for one, right in zip(sums, gold, strict=True)
    ]


@pytest.mark.parametrize(
    ("options", "right", "text"),
    [
        ([], "a", "item 1: there are no options — drop the item"),
        ([("a", -1.0)], "b", "item 1: 'b' is none of the 1 options — give the text"),
        ([("a", -1.0)], 1, "item 1: 1 is none of the 1 options"),
        ([("a", -1.0)], [], "item 1: no option is right"),
        ([("a", math.nan)], "a", "item 1: the log-probability of 'a' is nan — score"),
        ([("", -1.0)], "", 'item 1: an option is empty — use "acc"'),
    ],
)
def test_choices_that_have_no_value(options: Any, right: Any, text: str) -> None:
    with pytest.raises(PomonaError, match=f"^{text}"):
        metric("acc_norm").statistics([options], [right])


OWN = '''
import numpy as np

def length(outputs, references):
    """How many characters an answer is too long or too short."""
    return [abs(len(one) - len(other)) for one, other in zip(outputs, references)]

length.higher_is_better = False

def ratio(outputs, references):
    return np.array([[len(a), len(b)] for a, b in zip(outputs, references)])

ratio.aggregate = lambda sums: sums[..., 0] / sums[..., 1]

def pairs(outputs, references):
    return np.zeros((len(outputs), 2))

def words(outputs, references):
    return ["good"] * len(outputs)

def broken(outputs, references):
    raise KeyError("no such word")

def nothing(outputs, references):
    return [float("nan")] * len(outputs)

def flat(outputs, references):
    return np.ones((len(outputs), 3))

flat.aggregate = lambda sums: 1.0
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_metrics.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "own_metrics"


def test_a_function_of_a_users_own(own: str) -> None:
    mean = metric(f"{own}:length")
    statistics = mean.statistics(["abc", "a"], ["a", "a"])
    np.testing.assert_array_equal(statistics, [[2, 1], [0, 1]])
    assert (float(mean.aggregate(statistics.sum(0))), mean.higher_is_better) == (1.0, False)
    assert mean.name == f"{own}:length" and "|code:" in mean.signature
    whole = metric({"name": f"{own}:ratio"})
    statistics = whole.statistics(["abc", "a"], ["a", "a"])
    assert float(whole.aggregate(statistics.sum(0))) == 2.0 and whole.higher_is_better
    np.testing.assert_array_equal(whole.aggregate(statistics), [3, 1])
    assert metric(f"{own}:length").statistics([], []).shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pairs", r"gave the shape \(2, 2\) for 2 outputs — return one number for every output"),
        ("words", "gave list that holds no numbers"),
        ("broken", "failed: 'no such word' — mend it"),
        ("nothing", r"gave \[nan\] for item 1 — return finite numbers"),
        ("flat", r"`aggregate` gave the shape \(\) for sums \(2, 3\)"),
    ],
)
def test_what_is_wrong_with_a_function_is_told(own: str, name: str, text: str) -> None:
    measure = metric(f"{own}:{name}")
    with pytest.raises(PomonaError, match=f'^module "{own}", function "{name}": {text}'):
        measure.aggregate(measure.statistics(["a", "b"], ["a", "b"]))


def test_a_function_that_is_not_there(own: str) -> None:
    with pytest.raises(PomonaError, match=f"^{own}:lenght: cannot be imported"):
        metric(f"{own}:lenght")
