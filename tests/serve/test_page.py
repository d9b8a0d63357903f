"""The page: shows the pool and the choice, takes what models say as text, and asks nobody but its
own server.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pomona.models import Model

from .conftest import House, Open, Upstream

HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x "
    "onerror=\"document.title='taken'\"> one"
)
KEY = "a-key-that-is-long-enough"


def test_the_page_may_run_its_own_script_only(house: House) -> None:
    response = house.client.get("/")
    policy = response.headers["content-security-policy"]
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert "frame-ancestors 'none'" in policy
    assert "http://" not in response.text
    assert "https://" not in response.text
    assert "innerHTML" not in response.text


def test_a_pool_and_its_choice_in_a_browser(
    browser: Any, upstream: Upstream, open_house: Open, tmp_path: Path
) -> None:
    house = open_house(
        {"fake": upstream.model()}, keys=(KEY,), feedback=tmp_path / "feedback.sqlite"
    )
    upstream.acts = [{"texts": [HOSTILE, "something else", HOSTILE, HOSTILE]}] * 2
    browser.complaints.clear()
    browser.requests.clear()
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=390,
        height=844,
        deviceScaleFactor=1,
        mobile=True,
    )
    browser.call("Page.navigate", url=house.url + "/")
    _wait(browser, "!document.getElementById('keyed').hidden")
    browser.complaints.clear()  # of the 401 alone
    browser.run(f"document.getElementById('key').value = '{KEY}'; list()")
    _wait(browser, "document.documentElement.dataset.ready == 'yes'")
    assert browser.run("document.getElementById('strategy').value") == "hedged5-mbr"
    browser.run("document.getElementById('go').click()")
    _wait(browser, "document.body.dataset.state == 'done'")
    assert browser.run("document.getElementById('said').textContent") == ""
    assert browser.run("document.getElementById('answer').textContent") == HOSTILE
    assert browser.run("document.querySelectorAll('#candidates li').length") == 5
    assert browser.run("document.querySelectorAll('li.chosen').length") == 1
    assert browser.run("document.getElementById('about').textContent").startswith(
        "5 candidates, 2 distinct"
    )
    assert "prompt tokens" in browser.run("document.getElementById('cost').textContent")
    browser.run("document.querySelector('#candidates button').click()")
    _wait(browser, "document.querySelector('#candidates button').textContent == 'Noted'")
    assert browser.run("document.title") == "Try a prompt · Pomona"
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert browser.complaints == []
    assert {url.partition("/v1")[0].rstrip("/") for url in browser.requests} <= {
        house.url,
        "data:,",
    }


def test_a_failure_is_told_in_the_page(browser: Any, house: House, upstream: Upstream) -> None:
    upstream.acts = [{"status": 400, "message": "no such luck"}] * 5
    browser.call("Page.navigate", url=house.url + "/")
    _wait(browser, "document.documentElement.dataset.ready == 'yes'")
    browser.run("document.getElementById('go').click()")
    _wait(browser, "document.body.dataset.state == 'done'")
    assert "no such luck" in browser.run("document.getElementById('said').textContent")


def test_an_example_fits_the_model_and_feedback_is_offered_where_it_is_kept(
    browser: Any, upstream: Upstream, open_house: Open, tiny: Model
) -> None:
    house = open_house({"fake": upstream.model(), "tiny": tiny})
    upstream.acts = [{"texts": ["one", "two", "one", "one"]}] * 2
    browser.call("Page.navigate", url=house.url + "/")
    _wait(browser, "document.documentElement.dataset.ready == 'yes'")
    prompt = "document.getElementById('prompt').value"

    def choose(model: str) -> str:
        browser.run(
            f"document.getElementById('model').value = '{model}';"
            "document.getElementById('model').dispatchEvent(new Event('change'))"
        )
        return browser.run(prompt)

    assert browser.run(prompt) == "Why does fruit ripen faster beside a banana?"
    assert choose("tiny") == "<|de|>Save the page<|to|>"
    browser.run(f"{prompt} = 'My own.'")
    assert choose("fake") == "My own."
    browser.run("document.getElementById('go').click()")
    _wait(browser, "document.body.dataset.state == 'done'")
    assert browser.run("document.querySelectorAll('#candidates li').length") == 5
    assert browser.run("document.querySelectorAll('#candidates button').length") == 0


def _wait(browser: Any, script: str) -> None:
    for _ in range(200):
        if browser.run(script):
            return
        time.sleep(0.05)
    raise AssertionError(f"never so: {script}; {browser.complaints}")
