"""Wrong settings are refused with one sentence each, which never holds the value."""

from importlib import import_module

import pytest

from payments.settings import Settings
from shared.contracts.owners import OWNERS
from shared.platform.settings import address_of, read_settings

GOOD = {
    "TURNPIKE_PAYMENTS_DSN": "postgresql://payments_app:secret@localhost/turnpike",
    "TURNPIKE_NATS_URL": "nats://localhost:4222",
}


def read_with(monkeypatch: pytest.MonkeyPatch, **changed: str) -> Settings:
    for name, value in (GOOD | changed).items():
        monkeypatch.setenv(name, value)
    return read_settings(Settings)


@pytest.mark.parametrize(
    ("dsn", "address"),
    [
        ("postgresql://a:p%2Fw@one:5432,two:5433/x?sslmode=require", "one:5432,two:5433/x"),
        ("postgresql://one/x?password=secret", "one/x"),
        ("postgresql:///x?host=%2Frun%2Fpostgresql&user=a", "/run/postgresql/x"),
    ],
)
def test_an_address_holds_no_credentials(dsn: str, address: str) -> None:
    assert address_of(dsn) == address


def test_two_variables_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_with(monkeypatch).http_port == 8080


@pytest.mark.parametrize(
    "changed",
    [
        {"TURNPIKE_PAYMENTS_DSN": "postgresql://a:p%2Fw@one:5432,two:5433/x?sslmode=require"},
        {"TURNPIKE_PAYMENTS_DSN": "postgres://[::1]:5432/turnpike"},
        {"TURNPIKE_PAYMENTS_DSN": "postgresql:///turnpike?host=%2Frun%2Fpostgresql"},
        {"TURNPIKE_NATS_URL": "nats://user:password@one:4222,nats://user:password@two"},
        {"TURNPIKE_NATS_URL": "tls://[::1]:4222"},
    ],
)
def test_urls_that_the_clients_accept_are_usable(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    read_with(monkeypatch, **changed)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"TURNPIKE_PAYMENTS_DSN": "hunter2"},
            "TURNPIKE_PAYMENTS_DSN is not usable: it has to begin with postgresql://.",
        ),
        (
            {"TURNPIKE_PAYMENTS_DSN": "postgresql://payments_app:secret@localhost:hunter2/x"},
            "TURNPIKE_PAYMENTS_DSN is not usable: its port is no number",
        ),
        (
            {"TURNPIKE_NATS_URL": "nats://localhost:hunter2"},
            "TURNPIKE_NATS_URL is not usable: its port is no number",
        ),
        ({"OTEL_TRACES_SAMPLER_ARG": "hunter2"}, "OTEL_TRACES_SAMPLER_ARG is not usable"),
        ({"TURNPIKE_NATS_REPLICAS": "hunter2"}, "TURNPIKE_NATS_REPLICAS is not usable"),
        (
            {"TURNPIKE_NATS_URL": "hunter2"},
            "TURNPIKE_NATS_URL is not usable: it has to begin with nats:// or tls://.",
        ),
        ({"TURNPIKE_HTTP_PORT": "hunter2"}, "TURNPIKE_HTTP_PORT is not usable"),
        ({"TURNPIKE_NATS_REPLICAS": "9"}, "TURNPIKE_NATS_REPLICAS is not usable"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str],
    sentence: str,
) -> None:
    """S-07: the value may be a secret."""
    with pytest.raises(SystemExit) as ended:
        read_with(monkeypatch, **changed)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert "hunter2" not in printed


@pytest.mark.parametrize("owner", OWNERS)
def test_all_mistakes_are_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], owner: str
) -> None:
    """W-44: one start shows them all, before anything is opened."""
    dsn = f"TURNPIKE_{owner.upper()}_DSN"
    wrong = {
        dsn: "postgresql://a:b@localhost/x?sslmode=hunter2",
        "TURNPIKE_NATS_URL": "hunter2",
        "TURNPIKE_NATS_REPLICAS": "hunter2",
        "TURNPIKE_HTTP_PORT": "hunter2",
        "TURNPIKE_BOT_TOKEN": "hunter2",
        "TURNPIKE_TELEGRAM_MODE": "webhook",
        "TURNPIKE_SUPPORT_CONTACT": "hunter2",
        "TURNPIKE_VPN_XRAY_API": "hunter2",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        read_settings(import_module(f"{OWNERS[owner]}.settings").Settings)
    printed = capsys.readouterr().err
    named = {line.split()[0] for line in printed.splitlines()}
    own = {
        "bot": {"BOT_TOKEN", "TELEGRAM_WEBHOOK_URL", "TELEGRAM_WEBHOOK_SECRET", "SUPPORT_CONTACT"},
        "notifier": {"BOT_TOKEN"},
        "vpn": {"VPN_XRAY_API", "VPN_XRAY_LINK"},
    }
    expected = {"NATS_URL", "NATS_REPLICAS", "HTTP_PORT"} | own.get(owner, set())
    assert named == {dsn} | {f"TURNPIKE_{name}" for name in expected}
    assert "hunter2" not in printed


def test_every_missing_setting_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in GOOD:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit):
        read_settings(Settings)
    assert sorted(capsys.readouterr().err.splitlines()) == sorted(
        f"{name} is not set." for name in GOOD
    )
