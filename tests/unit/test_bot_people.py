"""Decisions about a person: language, invitation, code, name."""

from uuid import UUID, uuid4

import pytest

from bot_gateway.domain.people import (
    CODE_CHARACTERS,
    code_of,
    invitation_in,
    language_of,
    name_of,
    payload_of,
)


def test_a_code_is_stable_and_unique() -> None:
    """D-13, S-11: 71 bits from a random id; a hundred thousand people share none."""
    person = UUID("6f0c1d3a-52f5-4d0e-9a3b-0f7f6f5b9a41")
    assert code_of(person) == code_of(person)
    codes = {code_of(uuid4()) for _ in range(100_000)}
    assert len(codes) == 100_000
    assert {len(code) for code in codes} == {CODE_CHARACTERS}
    assert all(code.isascii() and code.isalnum() for code in codes)


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("ru", "ru"),
        ("ru-RU", "ru"),
        ("RU", "ru"),
        ("en", "en"),
        ("uk", "en"),
        ("rus", "en"),
        ("", "en"),
        (None, "en"),
    ],
)
def test_the_language_follows_telegrams_tag(tag: str | None, language: str) -> None:
    assert language_of(tag) == language


@pytest.mark.parametrize("typed", ["r_abcDEF012345", "c_spring", "x" * 64])
def test_a_payload_that_fits_a_link_is_kept(typed: str) -> None:
    assert payload_of(typed) == typed


@pytest.mark.parametrize("typed", [None, "", "two words", "x" * 65, "точка", "a\nb", "a;b"])
def test_any_other_payload_is_none(typed: str | None) -> None:
    assert payload_of(typed) is None


@pytest.mark.parametrize(
    "payload", [None, "", "r_", "r_short", "r_abcDEF0123456", "r_abcDEF01234-", "g_abcDEF012345"]
)
def test_a_payload_of_another_form_names_no_inviter(payload: str | None) -> None:
    assert invitation_in(payload) is None


def test_an_invitation_names_its_code() -> None:
    person = uuid4()
    assert invitation_in(f"r_{code_of(person)}") == code_of(person)


def test_a_name_fits_the_database() -> None:
    assert name_of("A\x00nn") == "Ann"
    assert len(name_of("x" * 1000)) == 128
