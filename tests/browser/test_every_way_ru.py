"""Every way to pay, by hand in Russian."""

from tests.browser.every_way import EveryWay


class TestInRussian(EveryWay):
    language = "ru"
