"""The script that builds the GNOME and manual-page corpora: what it makes of pages. Nothing is
downloaded.
"""

from __future__ import annotations

import gzip
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
ENGLISH = """<page xmlns="http://projectmallard.org/1.0/"><info><credit><name>Ann</name></credit><desc>Press
  keys.</desc></info><title>Keys</title><p>Press <key>A</key>.</p><steps><item><p>Open <gui>Settings</gui>.</p></item></steps></page>"""
GERMAN = """<page xmlns="http://projectmallard.org/1.0/"><info><desc>Tasten drücken.</desc>
  <mal:credit xmlns:mal="http://projectmallard.org/1.0/"><mal:name>Bob</mal:name></mal:credit></info>
  <title>Tasten</title><p>Drücken Sie <key>A</key>.</p>{extra}<steps><item><p>Open <gui>Settings</gui>.</p></item></steps></page>"""
MAN = r""".\" a comment
.TH MOTD 5 2022
.SH НАЗВАНИЕ
motd \- сообщение \fIдня\fP
.PP
Файл
.IR /etc/motd ,
выводится \(lqпосле\(rq входа.
.nf
char *motd;
.fi
.TP
.B \-\-help
Показать \[u0421]правку.\" end
.SH "СМОТРИТЕ ТАКЖЕ"
.BR login (1),
.BR issue (5)
"""
MDOC = """.Dd May 1
.Sh NAME
.Nm ls
.Nd list
.Sh DESCRIPTION
The
.Fl a
option, see
.Xr sort 1 ,
shows
.Dq all files .
"""


@pytest.fixture(scope="module")
def build() -> ModuleType:
    path, before = SCRIPTS / "build_corpora.py", list(sys.path)
    spec = importlib.util.spec_from_file_location("build_corpora", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def help_pages(root: Path, extra: str = "") -> Path:
    for locale, text in (
        ("C", ENGLISH),
        ("de", GERMAN.format(extra=extra)),
        ("en_GB", ENGLISH),
        ("zh_CN", ENGLISH),
    ):
        page = root / "usr/share/help" / locale / "gnome-help/keys.page"
        page.parent.mkdir(parents=True)
        page.write_text(text, encoding="utf-8")
    return root


def test_blocks_stand_beside_the_english_ones(build: ModuleType, tmp_path: Path) -> None:
    rows = list(build.gnome_rows(help_pages(tmp_path)))
    assert {row["lang"] for row in rows} == {"de", "zh_Hans"}
    assert [(row["english"], row["text"]) for row in rows if row["lang"] == "de"] == [
        ("Press keys.", "Tasten drücken."),
        ("Keys", "Tasten"),
        ("Press A.", "Drücken Sie A."),
        ("Open Settings.", "Open Settings."),
    ]
    assert {(row["source"], row["domain"]) for row in rows} == {
        ("gnome-help/keys.page", "gnome-help")
    }
    assert len({row["split"] for row in rows}) == 1
    assert len({row["id"] for row in rows}) == len(rows)


def test_a_block_that_english_has_not_stands_alone(build: ModuleType, tmp_path: Path) -> None:
    rows = build.gnome_rows(help_pages(tmp_path, extra="<note><p>Nur hier.</p></note>"))
    found = [(row["english"], row["text"]) for row in rows if row["lang"] == "de"]
    assert (None, "Nur hier.") in found
    assert found[-1] == ("Open Settings.", "Open Settings.")


def test_manual_pages_become_paragraphs(build: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "man5"
    folder.mkdir()
    with gzip.open(folder / "motd.5.gz", "wb") as stream:
        stream.write(MAN.encode())
    assert list(build.paragraphs(build.page_text(folder / "motd.5.gz"))) == [
        "НАЗВАНИЕ",
        "motd - сообщение дня",
        "Файл /etc/motd, выводится “после” входа.",
        "--help Показать Справку.",
        "СМОТРИТЕ ТАКЖЕ",
        "login(1), issue(5)",
    ]
    assert list(build.paragraphs(MDOC)) == [
        "NAME",
        "ls list",
        "DESCRIPTION",
        "The -a option, see sort(1), shows “all files .”",
    ]


def test_the_summary_counts_copies_and_english(build: ModuleType) -> None:
    table = pa.table(
        {
            "lang": ["de", "de", "de", "fr"],
            "english": ["Keys", "Open", "1", None],
            "text": ["Tasten", "Open", "1", "Tasten"],
        }
    )
    told = build.summary("x", table)
    assert told.startswith(
        "x: 4 segments, 2 languages; 0.0% repeat an earlier segment of their language, "
        "25.0% one of any language; 25.0%"
    )
    assert "| de | 3 | 0.0% | 33.3% |" in told
