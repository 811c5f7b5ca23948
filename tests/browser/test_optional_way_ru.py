"""The ways to pay that are off by default, by hand in Russian."""

from tests.browser.optional_way import OptionalWay


class TestInRussian(OptionalWay):
    language = "ru"
