"""Build two really dirty multilingual corpora from Debian packages: the GNOME help pages and the
translated manual pages.

    python scripts/build_corpora.py [--debs DIR] [--out build/corpora]

Downloads `gnome-user-docs` and the `manpages` packages with `apt-get download` (run
`apt-get update` first), unpacks them without installing, and writes `gnome.parquet`,
`manpages.parquet` and a README with the licences. Nothing is cleaned: that is what the data tools
are for. A page is in train, valid or test by a hash of its name, in every language alike.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
from _roff import page_text, paragraphs
from build_ui import SPLITS, normalise_locale

GNOME = "gnome-user-docs"
ENGLISH = ("manpages", "manpages-dev")
TRANSLATED = [
    "cs",
    "cs-dev",
    "da",
    "da-dev",
    "de",
    "de-dev",
    "el",
    "es",
    "es-dev",
    "fi",
    "fr",
    "fr-dev",
    "hu",
    "id",
    "it",
    "it-dev",
    "ja",
    "ja-dev",
    "mk",
    "nb",
    "nl",
    "nl-dev",
    "pl",
    "pl-dev",
    "pt-br",
    "pt-br-dev",
    "ro",
    "ru",
    "ru-dev",
    "sr",
    "sv",
    "tr",
    "uk",
    "uk-dev",
    "vi",
    "zh",
]
PACKAGES = (GNOME, *ENGLISH, *(f"manpages-{name}" for name in TRANSLATED))

BLOCKS = {"p", "title", "subtitle", "desc", "screen", "code"}
UNSEEN = {"credit", "revision", "comment", "media"}
LICENCES = {
    "gnome": (
        "CC-BY-SA-3.0, Copyright 2010-2014 Shaun McCance and the contributors to the GNOME "
        "user documentation"
    ),
    "manpages": "per page, as /usr/share/doc/PACKAGE/copyright of each package says: mostly "
    "GPL-2+, GPL-3+, LGPL, BSD and the verbatim "
    "licence of the Linux man-pages project",
}
README = """# Corpora built by scripts/build_corpora.py

{counts}

`gnome.parquet`: one row per block of a page, beside the English block at the same place of the same page.
`manpages.parquet`: one row per paragraph; `lang` "en" are the pages of the packages manpages and manpages-dev.
The copyright file of every package is in `copyright/`.

Licences
: gnome: {gnome}
: manpages: {manpages}

Packages: {packages}
"""

Row = dict[str, str | int | None]


def fetch(folder: Path) -> None:
    """Download what is missing in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in PACKAGES if not list(folder.glob(f"{name}_*.deb"))]
    if missing:
        done = subprocess.run(
            ["apt-get", "download", "-q", *missing], cwd=folder, stdout=sys.stderr, check=False
        )
        if done.returncode:
            raise SystemExit(
                f"apt-get could not download {', '.join(missing)} into {folder}: run "
                "apt-get update and try again"
            )


def unpack(debs: Path, folder: Path) -> dict[str, str]:
    """Unpack each package into `folder/NAME`; the version of each."""
    versions = {}
    for name in PACKAGES:
        deb = max(debs.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg", "-x", str(deb), str(folder / name)], check=True)
        versions[name] = deb.stem.split("_")[1].replace("%3a", ":")
    return versions


def split_of(page: str) -> str:
    draw = int.from_bytes(hashlib.sha256(page.encode()).digest()[:8], "big") / 2**64
    return "test" if draw < SPLITS["test"] else "valid" if draw < sum(SPLITS.values()) else "train"


def identity(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]


def mallard_blocks(path: Path) -> list[tuple[tuple[str, ...], str]]:
    """The blocks of text of a Mallard page in reading order, each with the path of tags that leads
    to it.
    """
    return list(_walk(ET.parse(path).getroot(), ()))


def _walk(element: ET.Element, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for child in element:
        name = child.tag.rpartition("}")[2]
        here = (*above, name)
        if name in BLOCKS:
            if text := " ".join("".join(_texts(child)).split()):
                yield here, text
        elif name not in UNSEEN:
            yield from _walk(child, here)


def _texts(element: ET.Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child.tag.rpartition("}")[2] not in UNSEEN:
            yield from _texts(child)
        yield child.tail or ""


def aligned(
    english: Sequence[tuple[tuple[str, ...], str]], other: Sequence[tuple[tuple[str, ...], str]]
) -> list[str | None]:
    """The English text for each block of `other`: by order where the structures agree, None where
    they do not.
    """
    paths = [[path for path, _ in blocks] for blocks in (english, other)]
    found: list[str | None] = [None] * len(other)
    for a, b, size in difflib.SequenceMatcher(None, *paths, autojunk=False).get_matching_blocks():
        for step in range(size):
            found[b + step] = english[a + step][1]
    return found


def gnome_rows(root: Path) -> Iterator[Row]:
    """Every block of every page of every locale but English."""
    root = root / "usr/share/help"
    english = {
        path.relative_to(root / "C"): mallard_blocks(path)
        for path in sorted((root / "C").rglob("*.page"))
    }
    for locale in sorted(path.name for path in root.iterdir()):
        lang = None if locale == "C" else normalise_locale(locale)
        if lang is None:
            continue
        for page in sorted((root / locale).rglob("*.page")):
            source = page.relative_to(root / locale)
            blocks = mallard_blocks(page)
            for place, ((_, text), same) in enumerate(
                zip(blocks, aligned(english.get(source, []), blocks), strict=True)
            ):
                yield {
                    "id": identity("gnome", locale, source, place),
                    "lang": lang,
                    "domain": source.parts[0],
                    "source": str(source),
                    "block": place,
                    "english": same,
                    "text": text,
                    "split": split_of(str(source)),
                }


def man_pages(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Language, section and file of every page of a package; links to other pages are left out."""
    for path in sorted((root / "usr/share/man").rglob("man*/*.gz")):
        locale = path.parts[-3]
        lang = "en" if locale == "man" else normalise_locale(locale)
        if lang and path.is_file() and not path.is_symlink():
            yield lang, path.parent.name, path


def man_rows(root: Path) -> Iterator[Row]:
    """Every paragraph of every manual page."""
    seen = set()
    for package in PACKAGES[1:]:
        for lang, section, path in man_pages(root / package):
            source = f"{section}/{path.name.removesuffix('.gz')}"
            if (lang, source) in seen:
                continue
            seen.add((lang, source))
            for place, text in enumerate(paragraphs(page_text(path))):
                yield {
                    "id": identity("man", lang, source, place),
                    "lang": lang,
                    "domain": section,
                    "source": source,
                    "block": place,
                    "text": text,
                    "split": split_of(source),
                }


def summary(name: str, table: pa.Table) -> str:
    """Counts per language, the share of exact duplicates within a language, and the share that is
    English.
    """
    rows: dict[str, list[str]] = {}
    langs, texts = (
        table["lang"].to_pylist(),
        [" ".join(text.split()) for text in table["text"].to_pylist()],
    )
    for lang, text in zip(langs, texts, strict=True):
        rows.setdefault(lang, []).append(text)
    copied = Counter(_english(table, texts))
    repeated = {lang: len(own) - len(set(own)) for lang, own in rows.items()}
    lines = [
        f"{name}: {len(texts):,} segments, {len(rows)} languages; "
        f"{sum(repeated.values()) / len(texts):.1%} repeat an earlier "
        f"segment of their language, {1 - len(set(texts)) / len(texts):.1%} one of any "
        "language; "
        f"{copied.total() / len(texts):.1%} are English",
        "",
        "| lang | segments | duplicates | equal to English |",
        "|---|--:|--:|--:|",
    ]
    for lang, own in sorted(rows.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(
            f"| {lang} | {len(own):,} | {repeated[lang] / len(own):.1%} | "
            f"{copied[lang] / len(own):.1%} |"
        )
    return "\n".join(lines)


def _english(table: pa.Table, texts: Sequence[str]) -> Iterator[str]:
    """The language of each segment that equals the English one (or, where there is none beside it,
    any English segment).

    Segments without two letters in a row, such as numbers, are not counted.
    """
    langs = table["lang"].to_pylist()
    known = {text for lang, text in zip(langs, texts, strict=True) if lang == "en"}
    beside = table["english"].to_pylist() if "english" in table.column_names else None
    for place, (lang, text) in enumerate(zip(langs, texts, strict=True)):
        same = text == beside[place] if beside else lang != "en" and text in known
        if same and any(a.isalpha() and b.isalpha() for a, b in itertools.pairwise(text)):
            yield lang


def save(name: str, rows: Iterator[Row], versions: dict[str, str], out: Path) -> str:
    """Write one table with its licence in the metadata; its summary."""
    table = pa.Table.from_pylist([{key: _nfc(value) for key, value in row.items()} for row in rows])
    about = {
        "licence": LICENCES[name],
        "packages": json.dumps(versions),
        "made by": "scripts/build_corpora.py",
    }
    pq.write_table(
        table.replace_schema_metadata(about), out / f"{name}.parquet", compression="zstd"
    )
    return summary(name, table)


def _nfc(value: str | int | None) -> str | int | None:
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def copy_licences(root: Path, out: Path) -> None:
    folder = out / "copyright"
    folder.mkdir(exist_ok=True)
    for name in PACKAGES:
        if (file := root / name / "usr/share/doc" / name / "copyright").exists():
            (folder / name).write_bytes(file.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--debs",
        type=Path,
        help="folder with the packages, filled where some are missing (default: OUT/debs)",
    )
    parser.add_argument("--out", type=Path, default=Path("build/corpora"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    debs = args.debs or args.out / "debs"
    fetch(debs.resolve())
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        versions = unpack(debs, root)
        counts = [save("gnome", gnome_rows(root / GNOME), {GNOME: versions[GNOME]}, args.out)]
        counts += [
            save(
                "manpages",
                man_rows(root),
                {name: versions[name] for name in PACKAGES[1:]},
                args.out,
            )
        ]
        copy_licences(root, args.out)
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    (args.out / "README.md").write_text(
        README.format(counts="\n\n".join(counts), packages=packages, **LICENCES), encoding="utf-8"
    )
    print("\n\n".join(counts))


if __name__ == "__main__":
    main()
