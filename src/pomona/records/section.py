"""How documents name the rows of tables: files, and the values that a column must have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pomona.documents import StrictModel
from pomona.records.reading import read
from pomona.records.records import Records

Name = Annotated[str, Field(min_length=1)]


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Names = Annotated[
    list[Name],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=str | list[str]),
]
_Values = Annotated[list[str | int | bool | float | None], BeforeValidator(_listed)]


class NamedRows(StrictModel):
    """Rows of tables."""

    rows: Names
    """Tables: the name "ui", a path or a glob, or a list of them."""
    where: dict[Name, _Values] = Field(default={})
    """Only rows whose column has this value, or one of these values."""

    def read(self) -> Records:
        """The rows that are meant. PomonaError for a column that is not there."""
        return read(self.rows).where(**self.where)
