"""The annotators' page: people are shown pairs of answers without a word of whose they are, and
say which one is better; their votes, edits and ratings are kept in a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.arena.annotating.exporting import export as export
    from pomona.arena.annotating.serving import ArenaServer as ArenaServer, serve as serve

__getattr__, __dir__ = lazily(__name__, {"exporting": "export", "serving": "ArenaServer serve"})
