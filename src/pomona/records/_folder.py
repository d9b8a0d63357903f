"""Folders that hold one table: Hugging Face datasets, saved on disk or as they lie on the hub, and
plain folders of shards.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.records._store import FORMATS, blocks, children, format_of

_SPLIT = re.compile(
    r"(?:^|[-_.])(train|test|validation|valid|val|dev|eval)(?=[-_.])|^([\w.]+)-\d{5}-of-\d{5}"
)
_NOTES = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"}


def shards(folder: str) -> list[str]:
    """The files of the table in `folder`, in order; of several splits, `train`.

    Raises:
        PomonaError: there is no table, no `train` among several splits, or files of several
            formats.
    """
    inside = children(folder)
    names = {PurePosixPath(uri).name: uri for uri in inside}
    if "dataset_dict.json" in names:
        splits = _note(names["dataset_dict.json"])["splits"]
        return shards(f"{folder}/{_chosen(splits, folder, f'{folder}/SPLIT')}")
    if "state.json" in names:
        return [
            f"{folder}/{entry['filename']}" for entry in _note(names["state.json"])["_data_files"]
        ]
    found = _tables(inside) or _tables(children(f"{folder}/data"))
    if not found:
        raise PomonaError(
            "the folder holds no table",
            where=folder,
            remedy="expected Parquet, JSONL or CSV files, or a dataset saved to disk",
        )
    return _one_split(found, folder)


def _tables(files: list[str]) -> list[str]:
    return [
        uri
        for uri in files
        if PurePosixPath(uri).name not in _NOTES
        and any(s in FORMATS for s in PurePosixPath(uri).suffixes)
    ]


def _one_split(files: list[str], folder: str) -> list[str]:
    kinds = sorted({format_of(uri)[0] for uri in files})
    if len(kinds) > 1:
        raise PomonaError(
            f"the folder mixes {' and '.join(kinds)} files",
            where=folder,
            remedy=f"name one kind: {folder}/*.{kinds[0]}",
        )
    splits: dict[str, list[str]] = {}
    for uri in files:
        match = _SPLIT.search(PurePosixPath(uri).name)
        splits.setdefault((match[1] or match[2]) if match else "", []).append(uri)
    if len(splits) == 1:
        return files
    return splits[
        _chosen(sorted(splits), folder, f"{files[0].rsplit('/', 1)[0]}/*SPLIT*.{kinds[0]}")
    ]


def _chosen(splits: list[str], folder: str, example: str) -> str:
    if "train" in splits or len(splits) == 1:
        return "train" if "train" in splits else splits[0]
    listed = ", ".join(split or "(files without a split in their name)" for split in splits)
    raise PomonaError(
        f"the folder holds several splits and none is train: {listed}",
        where=folder,
        remedy=f"name one: {example}",
    )


def _note(uri: str) -> dict:
    return parse_json(
        b"".join(blocks(uri)),
        uri,
        wrong="the dataset's own notes are not valid JSON",
        remedy="save the dataset again",
    )
