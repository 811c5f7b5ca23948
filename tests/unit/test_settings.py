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
    "changed",
    [
        {"TURNPIKE_PAYMENTS_DSN": "postgresql://a:p%2Fw@one:5432,two:5433/turnpike?sslmode=require"},
        {"TURNPIKE_PAYMENTS_DSN": "postgres://[::1]:5432/turnpike"},
        {"TURNPIKE_PAYMENTS_DSN": "postgresql:///turnpike?host=%2Frun%2Fpostgresql"},
        {"TURNPIKE_NATS_URL": "nats://user:password@one:4222,nats://user:password@two"},
        {"TURNPIKE_NATS_URL": "tls://[::1]:4222"},
    ],
)
def test_whatever_the_clients_can_read_is_usable(monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]) -> None:
    read_with(monkeypatch, **changed)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"TURNPIKE_PAYMENTS_DSN": "hunter2"},
            "TURNPIKE_PAYMENTS_DSN is not usable: it has to begin with postgresql://.",
        ),
        (
            {"TURNPIKE_PAYMENTS_DSN": "postgresql://payments_app:secret@localhost:hunter2/turnpike"},
            "TURNPIKE_PAYMENTS_DSN is not usable: its port is no number",
        ),
        ({"TURNPIKE_NATS_URL": "nats://localhost:hunter2"}, "TURNPIKE_NATS_URL is not usable: its port is no number"),
        ({"OTEL_TRACES_SAMPLER_ARG": "hunter2"}, "OTEL_TRACES_SAMPLER_ARG is not usable"),
        ({"TURNPIKE_NATS_REPLICAS": "hunter2"}, "TURNPIKE_NATS_REPLICAS is not usable"),
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
    assert sorted(capsys.readouterr().err.splitlines()) == sorted(f"{name} is not set." for name in GOOD)
