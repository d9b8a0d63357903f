"""Tables in and out: Parquet, JSON, CSV, text and Hugging Face dataset folders, local or s3://,
lazily, with bad rows named; and what of a row is its text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.records.chats import (
        ASSISTANTS as ASSISTANTS,
        CHAT_KEYS as CHAT_KEYS,
        CHAT_TEXTS as CHAT_TEXTS,
        ROLES as ROLES,
        USERS as USERS,
        as_messages as as_messages,
        as_they_were as as_they_were,
        chat_texts as chat_texts,
        is_chat as is_chat,
        keys_of_chat as keys_of_chat,
        last_answer as last_answer,
    )
    from pomona.records.column_types import (
        BATCH_ROWS as BATCH_ROWS,
        as_codes as as_codes,
        as_groups as as_groups,
        as_text as as_text,
        fitted as fitted,
        lists_in as lists_in,
        messages_of as messages_of,
        relisted as relisted,
    )
    from pomona.records.engines import (
        check_engine as check_engine,
        spread as spread,
        workers as workers,
    )
    from pomona.records.parquet import (
        ParquetSource as ParquetSource,
        open_parquet as open_parquet,
    )
    from pomona.records.pieces import (
        PIECE_BYTES as PIECE_BYTES,
        Piece as Piece,
        parallel as parallel,
        rows_by_file as rows_by_file,
        split as split,
    )
    from pomona.records.reading import (
        TABLES as TABLES,
        Where as Where,
        files_at as files_at,
        read as read,
        read_named as read_named,
    )
    from pomona.records.records import (
        Derived as Derived,
        Records as Records,
        RowName as RowName,
        as_records as as_records,
        filtered as filtered,
        write as write,
    )
    from pomona.records.results import (
        Card as Card,
        Input as Input,
        Results as Results,
        Written as Written,
        card_of as card_of,
        inputs_of as inputs_of,
        listed_in_card as listed_in_card,
    )
    from pomona.records.section import NamedRows as NamedRows, Names as Names
    from pomona.records.source import (
        Batches as Batches,
        Filter as Filter,
        Source as Source,
        Streamed as Streamed,
        TableSource as TableSource,
        kept as kept,
        malformed_rows as malformed_rows,
        notes_of as notes_of,
        types_of_all_rows as types_of_all_rows,
    )
    from pomona.records.store import (
        format_of as format_of,
        info as info,
        is_remote as is_remote,
        locate as locate,
        unreadable as unreadable,
    )
    from pomona.records.texts import (
        TextField as TextField,
        text_fields as text_fields,
        usual_texts as usual_texts,
        with_text as with_text,
    )
    from pomona.records.writing import (
        check_types as check_types,
        check_writable as check_writable,
        write_partial as write_partial,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "chats": "ASSISTANTS CHAT_KEYS CHAT_TEXTS ROLES USERS as_messages as_they_were "
        "chat_texts is_chat keys_of_chat last_answer",
        "column_types": "BATCH_ROWS as_codes as_groups as_text fitted lists_in messages_of "
        "relisted",
        "engines": "check_engine spread workers",
        "parquet": "ParquetSource open_parquet",
        "pieces": "PIECE_BYTES Piece parallel rows_by_file split",
        "reading": "TABLES Where files_at read read_named",
        "records": "Derived Records RowName as_records filtered write",
        "results": "Card Input Results Written card_of inputs_of listed_in_card",
        "section": "NamedRows Names",
        "source": "malformed_rows Batches Filter Source Streamed TableSource kept notes_of "
        "types_of_all_rows",
        "store": "format_of info is_remote locate unreadable",
        "texts": "TextField text_fields usual_texts with_text",
        "writing": "check_types check_writable write_partial",
    },
)
