"""Anything that generates or scores text, behind one protocol: `load(uri)`, the torch backend, the catalogue of embedded models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.models._catalogue import Entry as Entry
    from pomona.models._catalogue import catalogue as catalogue
    from pomona.models._checkpoint import count_parameters as count_parameters
    from pomona.models._codec import Codec as Codec
    from pomona.models._load import load as load
    from pomona.models._load import locate as locate
    from pomona.models._network import quiet as quiet
    from pomona.models._network import shape_of as shape_of
    from pomona.models._pull import pull as pull
    from pomona.models.protocol import Model as Model
    from pomona.models.protocol import Sample as Sample
    from pomona.models.protocol import Shape as Shape

_HOMES = {
    "Codec": "_codec",
    "Entry": "_catalogue",
    "Model": "protocol",
    "Sample": "protocol",
    "Shape": "protocol",
    "catalogue": "_catalogue",
    "count_parameters": "_checkpoint",
    "load": "_load",
    "locate": "_load",
    "pull": "_pull",
    "quiet": "_network",
    "shape_of": "_network",
}
__all__ = ["Codec", "Entry", "Model", "Sample", "Shape", "catalogue", "count_parameters", "load", "locate", "pull", "quiet", "shape_of"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
