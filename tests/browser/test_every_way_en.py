"""Every way to pay, by hand in English."""

from tests.browser.every_way import EveryWay


class TestInEnglish(EveryWay):
    language = "en"
