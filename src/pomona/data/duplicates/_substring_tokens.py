"""Token ids of texts and the bytes each token stands for, by any tokenizer that has a
tokenizer.json.
"""

from __future__ import annotations

import importlib.util
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import pomona
from pomona.data.duplicates._unicode import strings
from pomona.errors import PomonaError

EMBEDDED = "ui-tokenizer"


class Tokens:
    """A tokenizer, without special tokens, truncation and padding. `name` is as it was asked
    for.
    """

    def __init__(self, name: str | Path | None) -> None:
        if importlib.util.find_spec("tokenizers") is None:
            raise PomonaError(
                'unit="token" needs the package tokenizers',
                remedy="pip install 'pomona[torch]', or use unit=\"word\"",
            )
        from tokenizers import Tokenizer

        self.name = str(name or EMBEDDED)
        self.file = _find(name)
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(self.file))
        except Exception as error:
            raise PomonaError(
                f"cannot be read as a tokenizer: {error}",
                where=self.file,
                remedy="copy tokenizer.json again",
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(
        self, texts: pa.StringArray
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Ids `[t]`, the bytes `[t, 2]` of each token within its text, and the number of tokens up
        to the end of each text.
        """
        data, offsets = strings(texts)
        encoded = self._tokenizer.encode_batch(texts.to_pylist(), add_special_tokens=False)
        ids = [np.array(one.ids, np.int32) for one in encoded]
        pieces = [
            np.array([*chain.from_iterable(one.offsets)], np.int32).reshape(-1, 2)
            for one in encoded
        ]
        for row, (start, stop) in enumerate(pairwise(offsets)):
            begins = np.flatnonzero((data[start:stop] & 0xC0) != 0x80)
            if len(begins) != stop - start:
                pieces[row] = np.append(begins, stop - start).astype(np.int32)[pieces[row]]
        counts = np.cumsum([len(one) for one in ids], dtype=np.int64)
        return (
            np.concatenate([*ids, np.zeros(0, np.int32)]),
            np.concatenate([*pieces, np.zeros((0, 2), np.int32)]),
            counts,
        )


def _find(name: str | Path | None) -> Path:
    """tokenizer.json of the embedded tokenizer, a file, a folder, or a model that `pomona.models`
    knows.
    """
    if name is None or str(name) == EMBEDDED:
        return Path(pomona.__file__).parent / "assets" / EMBEDDED / "tokenizer.json"
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if not (path / "tokenizer.json").is_file():
        from pomona.models import locate

        path = locate(str(name))
    if not (path / "tokenizer.json").is_file():
        raise PomonaError(
            "there is no tokenizer.json",
            where=path,
            remedy="save the tokenizer as a fast one, or name another",
        )
    return path / "tokenizer.json"
