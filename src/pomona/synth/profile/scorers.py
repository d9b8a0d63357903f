"""What gives each text a number from 0 to 1, such as how toxic it is: a list of words, a classifier
in a folder, a column, or a function of the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona._lazy import function_named
from pomona.errors import PomonaError, first_line
from pomona.files import sha256_of
from pomona.text import words_of

FORMS = "words:FILE, hf:FOLDER or hf:FOLDER#LABEL, column:NAME, or MODULE:FUNCTION"
_BATCH = 32
_LABELS = ("toxic", "toxicity", "hate", "offensive", "offensive-language", "label_1")

Floats = NDArray[np.float64]
Scorer = Callable[[Sequence[str]], Floats]


def scorer(named: str) -> tuple[Scorer, str]:
    """The function from texts to scores that `named` names, and its signature.

    words:FILE gives 1 to a text with one of the file's words or phrases (a line each), else 0.
    hf:FOLDER#LABEL gives the probability of a label by a checkpoint for sequence classification;
    without one that of "toxic", "hate" or the like. MODULE:FUNCTION takes a list of texts. Raises
    PomonaError for what names none of them.
    """
    kind, colon, rest = named.partition(":")
    if not colon or not kind or not rest:
        remedy = f"give {FORMS}"
        raise PomonaError("names nothing that scores texts", where=f'"{named}"', remedy=remedy)
    if kind == "words":
        return _words(Path(rest).expanduser()), f"words:{sha256_of(rest)[:12]}"
    if kind == "hf":
        folder, _, label = rest.partition("#")
        return _Classifier(Path(folder).expanduser(), label or None), f"{named}"
    return _user(named), named


def scored(named: str, score: Scorer, texts: Sequence[str]) -> Floats:
    """The score of each text, float64 `[n]`. Raises PomonaError where the scorer fails, or gives
    another shape.
    """
    try:
        values = np.asarray(score(texts), np.float64)
    except PomonaError:
        raise
    except Exception as error:  # a function of the user's may fail in any way
        raise PomonaError(f"failed: {first_line(error)}", where=named, remedy="mend it") from error
    if values.shape != (len(texts),):
        message = f"gave the shape {values.shape} for {len(texts)} texts"
        raise PomonaError(message, where=named, remedy="return one number for every text")
    return values


def check_range(
    values: Floats, what: str, named: Callable[[int], str], *, unit: bool = True
) -> None:
    """Raise PomonaError with the row, as `named` names it, of the first that is no number, or not
    from 0 to 1 where it must be a `unit`.
    """
    right = (values >= 0) & (values <= 1) if unit else np.isfinite(values)
    if not right.all():
        place = int(np.argmin(right))
        message = f"{what} is {values[place]:g}, " + ("not from 0 to 1" if unit else "no number")
        remedy = "give probabilities" if unit else "give finite numbers"
        raise PomonaError(message, where=named(place), remedy=remedy)


def _words(file: Path) -> Scorer:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot be read: {first_line(error)}"
        raise PomonaError(message, where=file, remedy="give a text file, a word a line") from error
    phrases = {tuple(words) for line in lines if (words := words_of(line))}
    if not phrases:
        raise PomonaError("has no words", where=file, remedy="write a word or phrase a line")
    sizes = sorted({len(phrase) for phrase in phrases})

    def score(texts: Sequence[str]) -> Floats:
        told = np.zeros(len(texts))
        for row, text in enumerate(texts):
            words = words_of(text)
            told[row] = any(
                tuple(words[at : at + size]) in phrases
                for size in sizes
                for at in range(len(words) - size + 1)
            )
        return told

    return score


def _user(named: str) -> Scorer:
    function = function_named(named)
    return lambda texts: np.asarray(function(list(texts)), np.float64)


class _Classifier:
    """The probability of a label by a checkpoint of transformers, in batches."""

    def __init__(self, folder: Path, label: str | None) -> None:
        if not (folder / "config.json").is_file():
            remedy = "give the folder of a checkpoint for sequence classification"
            raise PomonaError("there is no config.json", where=folder, remedy=remedy)
        from pomona.models import require

        require("torch", "transformers", extra="torch")
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            options: Any = {"local_files_only": True}
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **options)
            self._network: Any = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, **options
            ).eval()
        except Exception as error:  # transformers raises what it likes
            message = f"is no classifier that can be read: {first_line(error)}"
            raise PomonaError(message, where=folder, remedy="save it again") from error
        self._place = self._label(folder, label)

    def _label(self, folder: Path, label: str | None) -> int:
        labels = {str(name).lower(): int(at) for at, name in self._network.config.id2label.items()}
        wanted = [label.lower()] if label else [name for name in _LABELS if name in labels]
        if not wanted or wanted[0] not in labels:
            remedy = f"give hf:FOLDER#LABEL with one of {', '.join(labels)}"
            raise PomonaError(
                f'there is no label "{label or "toxic"}"', where=folder, remedy=remedy
            )
        return labels[wanted[0]]

    def __call__(self, texts: Sequence[str]) -> Floats:
        import torch

        several = self._network.config.problem_type == "multi_label_classification"
        told = []
        with torch.inference_mode():
            for start in range(0, len(texts), _BATCH):
                batch: Any = self._tokenizer(
                    list(texts[start : start + _BATCH]),
                    padding=True,
                    truncation=True,
                    return_tensors="pt",
                )
                logits = self._network(**batch).logits.double()
                shares = logits.sigmoid() if several else logits.softmax(-1)
                told.append(shares[:, self._place].numpy())
        return np.concatenate([*told, np.zeros(0)])
