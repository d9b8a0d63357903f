"""Anything that generates or scores text, behind one protocol: `load(uri)`, the torch backend, the
catalogue of embedded models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.models._catalogue import Entry as Entry, catalogue as catalogue
    from pomona.models._checkpoint import count_parameters as count_parameters
    from pomona.models._codec import Codec as Codec
    from pomona.models._load import load as load, locate as locate
    from pomona.models._network import quiet as quiet, shape_of as shape_of
    from pomona.models._pull import pull as pull
    from pomona.models.protocol import Model as Model, Sample as Sample, Shape as Shape

__getattr__, __dir__ = lazily(
    __name__,
    {
        "_catalogue": "Entry catalogue",
        "_checkpoint": "count_parameters",
        "_codec": "Codec",
        "_load": "load locate",
        "_network": "quiet shape_of",
        "_pull": "pull",
        "protocol": "Model Sample Shape",
    },
)
