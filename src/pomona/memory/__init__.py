"""What was learned from, kept as a memory beside the weights instead of in them: which of its rows
are nearest to a prompt, what these would answer, and what a network saw when it learned them.

`neighbours` searches within groups, exactly and without a model, and shows what is found in
prompts; `choice` chooses among what is found and what a model drew; `phrases` puts
answers together; `selector` is a learned choice, `selecting` its file for questions that come one
by one, and `learning` makes that; `states` leads a network by the states it had in training; `rows`
is a memory that prompts are looked up in, and `kept` the part of it that grows while it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.memory.candidates import (
        FEATURES as FEATURES,
        Candidate as Candidate,
        features as features,
        gather as gather,
        usual_length as usual_length,
        with_features as with_features,
    )
    from pomona.memory.choice import (
        ABOVE as ABOVE,
        STRENGTH as STRENGTH,
        Chosen as Chosen,
        choose_among as choose_among,
        consensus as consensus,
        look_up as look_up,
        weigh as weigh,
    )
    from pomona.memory.kept import KeptRow as KeptRow, KeptRows as KeptRows
    from pomona.memory.learning import PENALTY as PENALTY, learn_selector as learn_selector
    from pomona.memory.neighbours import (
        Found as Found,
        find as find,
        leave_one_out as leave_one_out,
        shown as shown,
        shown_in_training as shown_in_training,
        with_examples as with_examples,
        with_turns as with_turns,
    )
    from pomona.memory.phrases import (
        COMPOSED as COMPOSED,
        EDITED as EDITED,
        Composed as Composed,
        LearnedPhrases as LearnedPhrases,
        Phrases as Phrases,
    )
    from pomona.memory.rows import (
        Recall as Recall,
        RecalledRow as RecalledRow,
        RowMemory as RowMemory,
        open_memory as open_memory,
    )
    from pomona.memory.selecting import (
        SHORTLIST as SHORTLIST,
        MemorySelector as MemorySelector,
        Shortlist as Shortlist,
    )
    from pomona.memory.selector import Selector as Selector, cross_fitted as cross_fitted
    from pomona.memory.states import Interpolation as Interpolation

__getattr__, __dir__ = lazily(
    __name__,
    {
        "candidates": "FEATURES Candidate features gather usual_length with_features",
        "choice": "ABOVE STRENGTH Chosen choose_among consensus look_up weigh",
        "kept": "KeptRow KeptRows",
        "learning": "PENALTY learn_selector",
        "neighbours": ("Found find leave_one_out shown shown_in_training with_examples with_turns"),
        "phrases": "COMPOSED EDITED Composed LearnedPhrases Phrases",
        "rows": "Recall RecalledRow RowMemory open_memory",
        "selecting": "SHORTLIST MemorySelector Shortlist",
        "selector": "Selector cross_fitted",
        "states": "Interpolation",
    },
)
