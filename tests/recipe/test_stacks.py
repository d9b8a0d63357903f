"""Levers on top of each other, named and chosen, and levers of a user's own."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from pomona.errors import PomonaError
from pomona.ledger import Ledger
from pomona.recipe import dry_run, load_recipe, run

STACKS = """
validation: {where: {split: valid}}
stacks: [[all data, hedged3-mbr], [hedged3-mbr, prune/top]]
stack: {steps: 2, among: [all data, hedged3-mbr]}
"""


@pytest.fixture
def stacked(project: Path) -> Path:
    """The project with a third split, and stacks."""
    rows = (project / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    again = [json.loads(row) for row in rows]
    for number, row in enumerate(again):
        if number % 5 == 1:
            row["split"] = "valid"
    text = "".join(json.dumps(row) + "\n" for row in again)
    (project / "rows.jsonl").write_text(text, encoding="utf-8")
    recipe = project / "recipe.yaml"
    told = recipe.read_text(encoding="utf-8").replace("keep: 0.4", "keep: 0.4, by: {length: [top]}")
    head, _, tail = told.partition("  merging:")
    recipe.write_text(head + "  sampling:" + tail.partition("  sampling:")[2] + STACKS)
    return recipe


def test_steps_of_a_stack_are_measured_against_the_step_before(stacked: Path) -> None:
    out = run(stacked, stacked.parent / "run")
    ledger = Ledger.read(out / "ledger.json")
    stack = [(e.variant, e.baseline) for e in ledger.of("overall") if e.lever == "stack"]
    assert stack[:4] == [
        ("all data + hedged3-mbr", "hf:model"),
        ("all data + hedged3-mbr", "all data"),
        ("hedged3-mbr + prune/top", "hf:model"),
        ("hedged3-mbr + prune/top", "hedged3-mbr"),
    ]
    values = {e.variant: e for e in ledger.of("overall") if e.baseline == "hf:model"}
    made = values["all data + hedged3-mbr"]
    assert made.flops_once == pytest.approx(values["all data"].flops_once)
    assert (made.flops_per_item or 0) > (values["all data"].flops_per_item or 0)
    # One trained apart and then drawn from is the other drawn from and then trained.
    names = [path.name for path in (out / "steps").glob("sample-hedged3-????????????????")]
    assert len(names) == 3  # the base on test; all data; prune/top
    chosen = json.loads((out / "stack.json").read_text(encoding="utf-8"))
    assert {trial["name"] for trial in chosen["trials"]} == {"all data", "hedged3-mbr"}
    assert all(t["ci_low"] > 0 for t in chosen["trials"] if t["chosen"])
    assert chosen["path"] == [t["name"] for t in chosen["trials"] if t["chosen"]]


def test_what_is_chosen_is_chosen_on_other_items(stacked: Path) -> None:
    text = stacked.read_text(encoding="utf-8")
    stacked.write_text(text.replace("{split: valid}", "{split: [valid, test]}"), encoding="utf-8")
    with pytest.raises(PomonaError, match="validation: 30 of 60 validation items are test items"):
        run(stacked, stacked.parent / "run")
    stacked.write_text(text.replace("validation:", "# validation:"), encoding="utf-8")
    with pytest.raises(PomonaError, match="line 14: a stack is chosen on other items"):
        load_recipe(stacked)


def test_the_dry_run_of_a_choice_has_what_is_known(stacked: Path) -> None:
    steps = [step.name for step in dry_run(stacked, stacked.parent / "run").steps]
    assert "sample hedged3 on validation items" not in steps
    assert "evaluate hf:model on validation items" in steps


def test_a_stack_of_what_no_lever_makes(stacked: Path) -> None:
    text = stacked.read_text(encoding="utf-8").replace(
        "[all data, hedged3-mbr]", "[all date, x]", 1
    )
    stacked.write_text(text, encoding="utf-8")
    with pytest.raises(PomonaError) as told:
        dry_run(stacked, stacked.parent / "run")
    assert str(told.value).startswith('stacks[0]: no lever of this recipe makes "all date"')
    assert 'did you mean "all data"' in str(told.value)


LEVER = """
from dataclasses import replace
from pomona.documents import StrictModel
from pomona.recipe import Cost, Lever, read_items, write_items

class Ours(StrictModel):
    times: int

def louder(step):
    items = read_items(step.inputs["items"])
    write_items(step.out, replace(items, prompts=[p * step.params["times"] for p in items.prompts]))
    return Cost()

class Loud(Lever):
    name, Spec = "loud", Ours
    def names(self):
        return ["loud"]
    def apply(self, name, system):
        def see(items):
            params = {"times": self.spec.times}
            return self.plan.step(self.plan.on("louder", items), louder, params, {"items": items})
        return replace(system, sees=(*system.sees, see))

class Nothing:
    pass
"""


@pytest.fixture
def users(project: Path, request: pytest.FixtureRequest) -> Path:
    """A recipe with a lever of the user's own, in a module of its own name for every test."""
    module = f"lever_{sha256(request.node.name.encode()).hexdigest()[:8]}"
    (project / f"{module}.py").write_text(LEVER, encoding="utf-8")
    recipe = project / "recipe.yaml"
    head = recipe.read_text(encoding="utf-8").partition("levers:")[0]
    recipe.write_text(f"{head}levers:\n  {module}:Loud: {{times: 2}}\n", encoding="utf-8")
    return recipe


def test_a_users_lever_is_measured(users: Path) -> None:
    out = run(users, users.parent / "run")
    ledger = Ledger.read(out / "ledger.json")
    ours = next(e for e in ledger.of("overall") if e.variant == "loud")
    assert ours.lever == "loud" and ours.baseline == "hf:model"
    base = next(e for e in ledger.of("overall") if e.variant == "hf:model")
    assert (ours.flops_per_item or 0) > (base.flops_per_item or 0)  # its prompts are longer


def test_a_changed_lever_is_done_again(users: Path) -> None:
    before = {step.key for step in dry_run(users).steps}
    name = next(users.parent.glob("lever_*.py")).stem
    (users.parent / f"{name}.py").write_text(LEVER + "\nX = 1\n", encoding="utf-8")
    from pomona.recipe import code

    for cached in (code.code_key, code._imports):
        cached.cache_clear()
    changed = {step.key for step in dry_run(users).steps} - before
    assert len(changed) == 2  # what it does, and the answers to that


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:Loud", "nowhere:Loud: cannot be imported: No module named 'nowhere'"),
        ("OURS:Nothing", '"OURS:Nothing" is no lever — derive it from pomona.recipe.Lever'),
        ("OURS:None", "OURS:None: cannot be imported"),
    ],
)
def test_a_lever_that_is_none(users: Path, name: str, said: str) -> None:
    module = next(users.parent.glob("lever_*.py")).stem
    text = users.read_text(encoding="utf-8").replace(f"{module}:Loud", name.replace("OURS", module))
    users.write_text(text, encoding="utf-8")
    with pytest.raises(PomonaError) as told:
        load_recipe(users)
    assert said.replace("OURS", module) in str(told.value)


def test_a_mistake_in_a_users_part_has_its_line(users: Path) -> None:
    users.write_text(users.read_text(encoding="utf-8").replace("times: 2", "times: two"))
    with pytest.raises(PomonaError, match=r"line \d+: .*times.*a whole number"):
        load_recipe(users)


def test_conversations_are_asked_one_by_one_and_not_trained_on(project: Path) -> None:
    rows = (project / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    said = [json.loads(row) for row in rows]
    for row in said:
        row["prompt"] = [{"role": "user", "content": row["prompt"]}]
    text = "".join(json.dumps(row) + "\n" for row in said)
    (project / "rows.jsonl").write_text(text, encoding="utf-8")
    recipe = project / "recipe.yaml"
    with pytest.raises(PomonaError, match="prompts that are conversations cannot be trained on"):
        dry_run(recipe)
    head = recipe.read_text(encoding="utf-8").partition("levers:")[0]
    recipe.write_text(head + "levers: {sampling: {strategies: [hedged3-mbr]}}\n", encoding="utf-8")
    works = {step.work.__module__ for step in dry_run(recipe).steps if "hf:model" in step.name}
    assert works <= {"pomona.recipe.steps.asking"}
    assert any(step.work.__module__.endswith("asking") for step in dry_run(recipe).steps)
