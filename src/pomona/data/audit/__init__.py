"""What is in the data: a blind sample per language that people label, with intervals; and the
pruning of instruction templates.

Kreutzer et al. 2022, "Quality at a Glance" (arXiv 2103.12028).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.data.audit.labels import CODES as CODES
    from pomona.data.audit.page import audit_report as audit_report
    from pomona.data.audit.report import Report as Report, Share as Share
    from pomona.data.audit.sample import sample_audit as sample_audit
    from pomona.data.audit.serve import LabelServer as LabelServer, serve_labels as serve_labels
    from pomona.data.audit.templates import prune_templates as prune_templates

__getattr__, __dir__ = lazily(
    __name__,
    {
        "labels": "CODES",
        "page": "audit_report",
        "report": "Report Share",
        "sample": "sample_audit",
        "serve": "LabelServer serve_labels",
        "templates": "prune_templates",
    },
)
