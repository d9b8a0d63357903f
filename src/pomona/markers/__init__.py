"""Markers: what is known of a text beside it, in words that a model is trained with, so that it can
be asked for afterwards. A taxonomy, tags of rows, lists in two forms, and the training form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.markers.asking import (
        MarkedModel as MarkedModel,
        MarkedReply as MarkedReply,
        MarkersContext as MarkersContext,
        open_markers as open_markers,
    )
    from pomona.markers.columns import PREFIX as PREFIX
    from pomona.markers.coverage import report as report
    from pomona.markers.kept import same_language as same_language
    from pomona.markers.lists import (
        Form as Form,
        Offered as Offered,
        attach as attach,
        begin as begin,
        detach as detach,
        escape as escape,
        list_of as list_of,
        read_answer as read_answer,
        read_list as read_list,
        unescape as unescape,
    )
    from pomona.markers.results import Coverage as Coverage, Report as Report
    from pomona.markers.splitting import split_list as split_list
    from pomona.markers.tagging import tag as tag
    from pomona.markers.taxonomy import (
        PAPER as PAPER,
        Marker as Marker,
        Taxonomy as Taxonomy,
        Value as Value,
        read_taxonomy as read_taxonomy,
    )
    from pomona.markers.trained import (
        AUTO as AUTO,
        Trained as Trained,
        auto_markers as auto_markers,
        find_trained as find_trained,
        read_trained as read_trained,
        trained_of as trained_of,
        untrained as untrained,
        write_trained as write_trained,
    )
    from pomona.markers.training import (
        apply as apply,
        strip as strip,
        training_rows as training_rows,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "asking": "MarkedModel MarkedReply MarkersContext open_markers",
        "columns": "PREFIX",
        "kept": "same_language",
        "lists": "Form Offered attach begin detach escape list_of read_answer read_list unescape",
        "coverage": "report",
        "results": "Coverage Report",
        "splitting": "split_list",
        "tagging": "tag",
        "taxonomy": "PAPER Marker Taxonomy Value read_taxonomy",
        "trained": "AUTO Trained auto_markers find_trained read_trained trained_of untrained "
        "write_trained",
        "training": "apply strip training_rows",
    },
)
