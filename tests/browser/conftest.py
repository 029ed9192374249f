"""A real Chromium without a window, and the report as it made from the published records alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.browser.published import Published

ASKED = "REPRO_TEST_BROWSER"  # with it a missing browser is a failure
HOW = f"apt-get install chromium chromium-driver, then: {ASKED}=1 .venv/bin/pytest tests/browser"
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """The browser; where there is none the tests are skipped, or fail if they were asked for."""
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        reason = f"no {'chromedriver' if binary else 'chromium'} on this machine: {HOW}"
        if ASKED in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in QUIET:
        options.add_argument(word)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def published(repository: Path) -> Published:
    return Published(repository)


@pytest.fixture(scope="session")
def report(
    chromium: webdriver.Chrome, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The page, from the published records alone: run folders of this machine do not count."""
    from analysis.evidence.evidence import published_evidence
    from analysis.report.page import write

    results = tmp_path_factory.mktemp("results")
    (results / "published").symlink_to(repository / "results" / "published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPRO_RESULTS", str(results))
        return write(published_evidence("laptop"))


@pytest.fixture
def page(chromium: webdriver.Chrome, report: Path) -> Iterator[webdriver.Chrome]:
    """The page freshly opened; afterwards it must have asked the network for nothing, and not
    have complained.
    """
    chromium.get("about:blank")
    for kind in ("browser", "performance"):
        chromium.get_log(kind)  # of what came before, such as the page that a browser begins with
    chromium.get(report.as_uri())
    yield chromium
    assert [line["message"] for line in chromium.get_log("browser")] == []
    asked = [
        url for url in _requested(chromium) if not url.startswith(("file:", "data:", "about:"))
    ]
    assert asked == []


def _requested(browser: webdriver.Chrome) -> Iterator[str]:
    for line in browser.get_log("performance"):
        event: dict[str, Any] = json.loads(line["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            yield event["params"]["request"]["url"]
