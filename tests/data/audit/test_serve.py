"""The labelling page: saves at once, keeps strangers out, and works in a browser."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from pomona.data.audit import LabelServer, sample_audit, serve_labels
from pomona.data.audit.labels import read_labels
from pomona.errors import PomonaError

HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
)


@pytest.fixture
def server(audit: Path) -> Iterator[LabelServer]:
    with serve_labels(audit) as running:
        yield running


def _client(server: LabelServer, token: str | None = None) -> httpx.Client:
    headers = {"X-Pomona-Token": server.token if token is None else token}
    return httpx.Client(
        base_url=f"http://127.0.0.1:{server.port}", headers=headers, trust_env=False
    )


def _label(number: int = 1, label: str = "CC", **other: Any) -> dict[str, Any]:
    return {"number": number, "label": label, "offensive": False, "porn": False} | other


def test_every_label_is_in_the_file_when_it_is_answered(server: LabelServer, audit: Path) -> None:
    with _client(server) as client:
        rows = client.get("/rows").json()["rows"]
        assert [row["number"] for row in rows] == list(range(1, 41))
        for row in rows[:3]:
            answer = client.post("/label", json=_label(row["number"], "wl", porn=True))
            assert answer.json() == row | {"label": "WL", "porn": True}
            assert read_labels(audit)[row["number"] - 1].label == "WL"
    assert [row.label for row in read_labels(audit)] == ["WL"] * 3 + [""] * 37


def test_the_page_does_not_tell_the_prelabels(server: LabelServer, audit: Path) -> None:
    with _client(server) as client:
        told = client.get("/rows").text + client.get("/").text
    assert "prelabel" not in told
    assert "equals the English" not in told
    assert set(json.loads((audit / "key.json").read_text())["rows"][0]) > {"prelabel"}


@pytest.mark.parametrize("token", ["", "wrong", "\u00e9"])
def test_nothing_without_the_token(server: LabelServer, audit: Path, token: str) -> None:
    before = (audit / "labels.csv").read_bytes()
    headers = {"X-Pomona-Token": token.encode("latin-1")} if token else {}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{server.port}", headers=headers, trust_env=False
    ) as client:
        for answer in (client.get("/rows"), client.post("/label", json=_label())):
            assert answer.status_code == 403
            assert "the token is missing or of another server" in answer.json()["error"]
        assert client.get("/").status_code == 200
        assert server.token not in client.get("/").text
    assert (audit / "labels.csv").read_bytes() == before


def test_other_names_for_this_address_are_refused(server: LabelServer) -> None:
    with _client(server) as client:
        for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1"):
            assert client.get("/rows", headers={"Host": host}).status_code == 403
        assert client.get("/rows", headers={"Host": f"localhost:{server.port}"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../key.json",
        "/key.json",
        "/labels.csv",
        "//etc/passwd",
        "/%2e%2e/key.json",
        "/?x",
        "/rows/../key.json",
    ],
)
def test_no_file_is_served(server: LabelServer, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path, headers={"X-Pomona-Token": server.token})
    answer = connection.getresponse()
    assert answer.status == 404
    assert answer.read() == b'{"error": "there is nothing here"}'
    connection.close()


def test_bad_labels_are_refused_and_change_nothing(server: LabelServer, audit: Path) -> None:
    before = (audit / "labels.csv").read_bytes()
    bad: list[Any] = [
        _label(label="CCC"),
        _label(99),
        _label("1"),
        _label(True),
        _label(label=1),
        _label(offensive=1),
        _label(more=1),
        {"number": 1},
        [],
        7,
        "CC",
    ]
    with _client(server) as client:
        for value in bad:
            assert client.post("/label", json=value).status_code == 400
        assert (
            '"CCC" is not a code — did you mean'
            in client.post("/label", json=bad[0]).json()["error"]
        )
        assert (
            client.post(
                "/label", content=json.dumps(_label()), headers={"Content-Type": "text/plain"}
            ).status_code
            == 400
        )
        assert (
            client.post(
                "/label", content=b"{", headers={"Content-Type": "application/json"}
            ).status_code
            == 400
        )
        assert (
            client.post(
                "/label", content=b"x" * 5000, headers={"Content-Type": "application/json"}
            ).status_code
            == 400
        )
        assert client.put("/label", json=_label()).status_code == 501
        assert client.get("/label").status_code == 404
    assert (audit / "labels.csv").read_bytes() == before


def test_an_edit_made_meanwhile_is_kept_or_named(server: LabelServer, audit: Path) -> None:
    path = audit / "labels.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[5] = lines[5].removesuffix(",,,") + ",NL,,"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with _client(server) as client:
        client.post("/label", json=_label(1))
        assert [row.label for row in read_labels(audit)][:6] == ["CC", "", "", "", "NL", ""]
        path.write_text("spoilt", encoding="utf-8")
        answer = client.post("/label", json=_label(2))
    assert answer.status_code == 400
    assert "labels.csv, line 1: the header is not the one of the audit" in answer.json()["error"]
    assert path.read_text() == "spoilt"


def test_labels_from_many_windows_are_all_kept(server: LabelServer, audit: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def send(number: int) -> int:
        with _client(server) as client:
            return client.post("/label", json=_label(number)).status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(send, range(1, 31))) == {200}
    assert [row.label for row in read_labels(audit)] == ["CC"] * 30 + [""] * 10


def test_a_failed_save_is_told(
    server: LabelServer, audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pomona.data.audit.labels.write_text", full)
    before = (audit / "labels.csv").read_bytes()
    with _client(server) as client:
        answer = client.post("/label", json=_label())
    assert answer.status_code == 500
    assert "the label was not saved: [Errno 28] No space left on device" in answer.json()["error"]
    assert (audit / "labels.csv").read_bytes() == before


def test_only_loopback(audit: Path, tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", ""):
        with pytest.raises(
            PomonaError, match=f"host: {host} can be reached from other machines — use 127.0.0.1"
        ):
            serve_labels(audit, host=host)
    copied = tmp_path / "copied"
    shutil.copytree(audit, copied)
    with (
        serve_labels(audit) as server,
        pytest.raises(
            PomonaError, match=f"127.0.0.1:{server.port}: cannot listen: .* — use port 0"
        ),
    ):
        serve_labels(copied, port=server.port)
    with pytest.raises(PomonaError, match="there is no audit here"):
        serve_labels(tmp_path / "nowhere")


def test_one_server_at_a_time(audit: Path) -> None:
    with (
        serve_labels(audit),
        pytest.raises(PomonaError, match="audit: another process is labelling it — wait for it"),
    ):
        serve_labels(audit)
    serve_labels(audit).close()


def test_labelling_with_the_keyboard_in_a_browser(tmp_path: Path, browser: Any) -> None:
    table = pa.table(
        {
            "lang": ["de", "de", "de"],
            "english": [HOSTILE, "Open", "Close"],
            "text": [HOSTILE, "Öffnen", "Schließen"],
        }
    )
    sample_audit(table, tmp_path / "a", english="english")
    with serve_labels(tmp_path / "a") as server:
        browser.requests.clear()
        browser.complaints.clear()
        browser.call("Page.navigate", url=server.url)
        wait_for(browser, "document.documentElement.dataset.ready == 'yes'")
        number = browser.run("document.body.dataset.number")
        for key in ("o", "4", "1", "6"):
            press(browser, key)
            wait_for(browser, "!busy")
        wait_for(
            browser,
            (
                "document.getElementById('said').textContent == 'Every text has a label. You "
                "may close this page.'"
            ),
        )
        assert [row.label for row in read_labels(tmp_path / "a")] == ["X", "CC", "NL"]
        assert read_labels(tmp_path / "a")[int(number) - 1].offensive
        press(browser, "u")
        wait_for(browser, "document.getElementById('bar').value == 2")
        assert [row.label for row in read_labels(tmp_path / "a")].count("") == 1
        assert browser.run("document.title") == "Labelling · Pomona"
        shown = [
            browser.run(f"go({place}), document.getElementById('text').textContent")
            for place in range(3)
        ]
        assert sorted(shown) == sorted([HOSTILE, "Öffnen", "Schließen"])
        assert browser.complaints == []
        root = f"http://127.0.0.1:{server.port}/"
        assert {url.partition("#")[0] for url in browser.requests} <= {
            root,
            f"{root}rows",
            f"{root}label",
            "data:,",
        }


def press(browser: Any, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else ""
        )


def wait_for(browser: Any, script: str) -> None:
    for _ in range(200):
        if browser.run(script):
            return
        time.sleep(0.05)
    raise AssertionError(f"never so: {script}; {browser.complaints}")
