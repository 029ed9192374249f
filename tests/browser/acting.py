"""What a person does with a page, and what there is to see."""

from __future__ import annotations

import re
from typing import Any

from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement


def find(page: Chrome | WebElement, selector: str) -> WebElement:
    return page.find_element(By.CSS_SELECTOR, selector)


def every(page: Chrome | WebElement, selector: str) -> list[WebElement]:
    return page.find_elements(By.CSS_SELECTOR, selector)


def by_id(page: Chrome, name: str) -> WebElement:
    return page.find_element(By.ID, name)


def texts(page: Chrome, selector: str) -> list[str]:
    """Of many elements at once; asking one by one takes seconds."""
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())"
    found: list[str] = page.execute_script(script, selector)
    return found


def shown(page: Chrome, selector: str) -> list[str]:
    """Ids of the elements that have a place on the page."""
    script = """return [...document.querySelectorAll(arguments[0])]
        .filter(e => e.checkVisibility()).map(e => e.id)"""
    found: list[str] = page.execute_script(script, selector)
    return found


def click(page: Chrome, element: WebElement) -> None:
    """As a person does: scroll it into sight, then press where it is."""
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def number(text: str) -> float:
    found = re.match(r"[+-]?\d[\d.]*(?:e[+-]?\d+)?", text)
    assert found, text
    return float(found[0])


def focused(page: Chrome) -> WebElement:
    return page.switch_to.active_element


def press(page: Chrome, *keys: str) -> None:
    for key in keys:
        ActionChains(page).send_keys(key).perform()


def facts(panel: WebElement) -> dict[str, str]:
    """The named numbers at the top of a panel."""
    return {find(pair, "dt").text: find(pair, "dd").text for pair in every(panel, ".numbers > div")}


def cells_in_data(page: Chrome) -> dict[str, Any]:
    found: dict[str, Any] = page.execute_script("return data.cells")
    return found
