"""The synthesis lever: who writes what a student learns from, what it is steered towards, and what
the student inherits.

`profile` measures texts and models by what is inherited: length, lexical diversity, readability,
toxicity, calibration. `teachers` are models and programs that answer prompts, with their languages,
licences and costs. `rewards` say how good answers are, `checks` what is wrong with them; `steering`
keeps of them those with more or less of a metric. `categories` puts rows in categories that a user
defines, `targeting` says where rows are lacking, and finds prompts for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.categories import annotate as annotate
    from pomona.synth.checks import (
        Check as Check,
        ChecksSpec as ChecksSpec,
        checks_from as checks_from,
    )
    from pomona.synth.profile import (
        Asking as Asking,
        Profile as Profile,
        TextColumns as TextColumns,
    )
    from pomona.synth.rewards import (
        Reward as Reward,
        RewardsSpec as RewardsSpec,
        reward_from as reward_from,
    )
    from pomona.synth.steering import (
        Chosen as Chosen,
        Objective as Objective,
        Tempered as Tempered,
        choose as choose,
        objectives_from as objectives_from,
        places as places,
        quotas as quotas,
    )
    from pomona.synth.targeting import plan_targets as plan_targets
    from pomona.synth.teachers import (
        Assignment as Assignment,
        Candidate as Candidate,
        Lesson as Lesson,
        Lessons as Lessons,
        ModelTeacher as ModelTeacher,
        PivotTeacher as PivotTeacher,
        Program as Program,
        ProgramTeacher as ProgramTeacher,
        Reject as Reject,
        Teacher as Teacher,
        Terms as Terms,
        Usage as Usage,
        apertium as apertium,
        find_cells as find_cells,
    )

# The function `profile` is that of the package of this name: `from pomona.synth.profile import …`.
__getattr__, __dir__ = lazily(
    __name__,
    {
        "categories": "annotate",
        "checks": "Check ChecksSpec checks_from",
        "profile": "Asking Profile TextColumns",
        "rewards": "Reward RewardsSpec reward_from",
        "steering": "Chosen Objective Tempered choose objectives_from places quotas",
        "targeting": "plan_targets",
        "teachers": "Assignment Candidate Lesson Lessons ModelTeacher PivotTeacher Program "
        "ProgramTeacher Reject Teacher Terms Usage apertium find_cells",
    },
)
