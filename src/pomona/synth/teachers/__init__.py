"""Teachers: models and programs that answer rows, each with its languages, licence and costs.

A row comes back as a lesson or as a reject with its reason, so that none is lost; what a teacher
has written is kept, so that none is paid for twice. `pivots` finds the cells of a table that a
sister language can fill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.teachers.masks import Masked as Masked, mask as mask
    from pomona.synth.teachers.modelled import ModelTeacher as ModelTeacher
    from pomona.synth.teachers.pivots import (
        Cells as Cells,
        PivotTeacher as PivotTeacher,
        find_cells as find_cells,
    )
    from pomona.synth.teachers.programs import (
        Program as Program,
        ProgramTeacher as ProgramTeacher,
        apertium as apertium,
    )
    from pomona.synth.teachers.spelling import (
        TO_CYRILLIC as TO_CYRILLIC,
        Respelling as Respelling,
        cyrillic as cyrillic,
        latin as latin,
    )
    from pomona.synth.teachers.tables import TableTeacher as TableTeacher
    from pomona.synth.teachers.teacher import (
        Assignment as Assignment,
        Candidate as Candidate,
        Lesson as Lesson,
        Lessons as Lessons,
        Reject as Reject,
        Teacher as Teacher,
        Terms as Terms,
        Usage as Usage,
        check_prompt as check_prompt,
        fill as fill,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "masks": "Masked mask",
        "modelled": "ModelTeacher",
        "pivots": "Cells PivotTeacher find_cells",
        "programs": "Program ProgramTeacher apertium",
        "tables": "TableTeacher",
        "spelling": "TO_CYRILLIC Respelling cyrillic latin",
        "teacher": "Assignment Candidate Lesson Lessons Reject Teacher Terms Usage "
        "check_prompt fill",
    },
)
