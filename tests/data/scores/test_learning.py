from __future__ import annotations

import numpy as np
import pytest

from pomona.data.scores import learning_order, make_probes
from pomona.errors import PomonaError


def trajectories(kind: str, count: int, draw: np.random.Generator) -> np.ndarray:
    """Typical rows are learnt at once, atypical ones late, noisy ones never."""
    shape = {
        "typical": [4.0, 1.0, 0.5, 0.4],
        "atypical": [7.0, 6.0, 3.0, 1.0],
        "noisy": [9.0, 9.0, 9.0, 9.0],
    }[kind]
    return np.array(shape) + draw.normal(0, 0.3, (count, 4))


def test_rows_get_the_kind_of_probes_that_were_learnt_like_them() -> None:
    draw = np.random.default_rng(0)
    kinds = np.repeat(["typical", "atypical", "noisy"], 200)
    losses = np.concatenate(
        [trajectories(kind, 200, draw) for kind in ("typical", "atypical", "noisy")]
    )
    apart = {kind: trajectories(kind, 50, draw) for kind in ("typical", "atypical", "noisy")}
    assert (learning_order(losses, apart) == kinds).all()
    among = {kind: np.flatnonzero(kinds == kind)[:50] for kind in apart}
    assert (learning_order(losses, among) == kinds).all()


def test_a_row_is_not_its_own_neighbour_and_equal_votes_go_to_the_nearer_kind() -> None:
    losses = np.array([[0.0], [1.0], [1.1], [5.0]])
    order = learning_order(losses, {"a": np.array([0, 3]), "b": np.array([1, 2])}, k=1)
    assert list(order) == ["b", "b", "b", "b"]
    assert list(learning_order(np.array([[0.0]]), {"far": [[3.0]], "near": [[1.0]]}, k=2)) == [
        "near"
    ]


def test_errors_say_what_does_not_fit() -> None:
    losses = np.zeros((4, 2))
    with pytest.raises(
        PomonaError, match="k is 20 and there are 2 probes — give more probes or a smaller k"
    ):
        learning_order(losses, {"a": [0, 1]})
    with pytest.raises(
        PomonaError, match=r'probes "a": a trajectory has the shape \(3,\), not \(2,\)'
    ):
        learning_order(losses, {"a": np.zeros((30, 3))})
    with pytest.raises(PomonaError, match='probes "a": there are 4 rows — give row numbers from 0'):
        learning_order(losses, {"a": [7]}, k=1)
    with pytest.raises(PomonaError, match="row 3: a loss is not finite"):
        learning_order(np.array([[1.0], [2.0], [np.nan]]), {"a": [[1.0]]}, k=1)


def test_probes_are_spoilt_as_they_say_and_depend_on_the_seed_alone() -> None:
    inputs = [
        f"delete the {word} page number {n}" for n in range(40) for word in ("first", "second")
    ]
    completions = [f"{group}{n}" for n in range(40) for group in "ab"]
    groups = [text[0] for text in completions]
    probes = make_probes(inputs, completions, n=20, groups=groups, seed=5)
    corrupted, shuffled = probes["corrupted"], probes["random label"]
    assert not set(corrupted.rows) & set(shuffled.rows)
    assert corrupted.completions == [completions[row] for row in corrupted.rows]
    assert shuffled.inputs == [inputs[row] for row in shuffled.rows]
    for row, text in zip(corrupted.rows, corrupted.inputs, strict=True):
        changed = [a.isalpha() for a, b in zip(text, inputs[row], strict=True) if a != b]
        assert all(changed)
        assert 0 < len(changed) < 20
    for row, text in zip(shuffled.rows, shuffled.completions, strict=True):
        assert text != completions[row]
        assert text[0] == groups[row]
    again = make_probes(inputs, completions, n=20, groups=groups, seed=5)
    assert again["corrupted"].inputs == corrupted.inputs
    assert (
        make_probes(inputs, completions, n=20, groups=groups, seed=6)["corrupted"].inputs
        != corrupted.inputs
    )
    with pytest.raises(
        PomonaError,
        match=(
            "0 rows have another completion in their group, and 1 are wanted — use a smaller "
            "n, or larger groups"
        ),
    ):
        make_probes(["a", "b"], ["same", "same"], n=1)
    with pytest.raises(PomonaError, match="500 probes of 2 rows — use a smaller n"):
        make_probes(["a", "b"], ["same", "same"])
