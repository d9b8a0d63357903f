"""Corrected answers to similar prompts shown as examples, and complaints as items for a judge's
checklist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pomona.models.chat.protocol import ChatModel, Reply, Request
from pomona.sample.context._messages import before_question, harmless, question
from pomona.sample.context.feedback import Feedback


@dataclass(frozen=True)
class Memory:
    """Shows the model how similar prompts should have been answered, as earlier turns of the
    conversation, the most similar last.

    Only what `user` said is used, or without a user what names nobody. k: most examples. least:
    similarity a prompt must be over, the Jaccard index of words. items: most complaints in the
    notes. Notes: `examples` (row, similarity) and `checklist`, for CHOPS.
    """

    feedback: Feedback
    user: str | None = None
    k: int = 3
    least: float = 0.2
    items: int = 4
    name: str = "memory"

    async def before(self, request: Request, model: ChatModel) -> tuple[Request, Mapping[str, Any]]:
        """See the protocol."""
        asked = question(request)
        similar = [
            (row, share)
            for row, share in self.feedback.similar(
                asked, 8 * self.k, user=self.user, least=self.least
            )
            if row.better
        ]
        latest: dict[str, tuple[str, int, float]] = {}
        for row, share in similar:  # of equal prompts the latest correction counts
            latest.setdefault(row.prompt, (row.better or "", row.id, share))
        shown = list(latest.items())[: self.k]
        notes = {
            "examples": [{"row": row, "similarity": share} for _, (_, row, share) in shown],
            "checklist": [
                harmless(item)
                for item in self.feedback.checklist(asked, self.items, user=self.user)
            ],
        }
        turns = [(harmless(prompt), harmless(better)) for prompt, (better, _, _) in reversed(shown)]
        return (before_question(request, turns) if turns else request), notes

    async def after(
        self, request: Request, reply: Reply, model: ChatModel, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        """See the protocol; the reply stays as it is."""
        return reply, notes
