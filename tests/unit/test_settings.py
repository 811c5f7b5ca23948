"""Settings are refused with a sentence per mistake, and without a value in it."""

import pytest

from payments.settings import Settings
from shared.settings import read_settings

GOOD = {
    "TURNPIKE_PAYMENTS_DSN": "postgresql://payments_app:secret@localhost/turnpike",
    "TURNPIKE_NATS_URL": "nats://localhost:4222",
}


def read_with(monkeypatch: pytest.MonkeyPatch, **changed: str) -> Settings:
    for name, value in (GOOD | changed).items():
        monkeypatch.setenv(name, value)
    return read_settings(Settings)


def test_what_is_needed_is_two_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_with(monkeypatch).http_port == 8080


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"TURNPIKE_PAYMENTS_DSN": "hunter2"},
            "TURNPIKE_PAYMENTS_DSN is not usable: it has to begin with postgresql://.",
        ),
        ({"TURNPIKE_NATS_URL": "hunter2"}, "TURNPIKE_NATS_URL is not usable: it has to begin with nats:// or tls://."),
        ({"TURNPIKE_HTTP_PORT": "hunter2"}, "TURNPIKE_HTTP_PORT is not usable"),
        ({"TURNPIKE_NATS_REPLICAS": "9"}, "TURNPIKE_NATS_REPLICAS is not usable"),
    ],
)
def test_a_wrong_setting_is_a_sentence_that_names_it_and_hides_its_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changed: dict[str, str], sentence: str
) -> None:
    """S-07: the value may be a secret."""
    with pytest.raises(SystemExit) as ended:
        read_with(monkeypatch, **changed)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "hunter2" not in said


def test_every_missing_setting_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in GOOD:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit):
        read_settings(Settings)
    assert capsys.readouterr().err.splitlines() == [f"{name} is not set." for name in GOOD]
