"""The synthesis lever: who writes what a student learns from, what it is steered towards, and what
the student inherits.

`profile` measures texts and models by what is inherited: length, lexical diversity, readability,
toxicity, calibration. `teachers` are models and programs that answer prompts, with their languages,
licences and costs.
"""

from __future__ import annotations

from pomona._lazy import lazily

__getattr__, __dir__ = lazily(__name__, {})
