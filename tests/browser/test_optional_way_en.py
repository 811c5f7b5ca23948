"""The ways to pay that are off by default, by hand in English."""

from tests.browser.optional_way import OptionalWay


class TestInEnglish(OptionalWay):
    language = "en"
