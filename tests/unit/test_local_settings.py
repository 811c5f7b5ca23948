"""The environment of `turnpike up`: the operator's node wins, and mistakes are named at once."""

from types import SimpleNamespace

import pytest

from turnpike_cli.acting import login_name
from turnpike_local.processes import StartError
from turnpike_local.up import stack_of, unused_in

TOKEN = {"TURNPIKE_BOT_TOKEN": "42:" + "A" * 35}
API, LINK = "TURNPIKE_VPN_XRAY_API", "TURNPIKE_VPN_XRAY_LINK"
NODE = {API: "127.0.0.1:10085", LINK: "vless://{key}@vpn.example.org:443?security=reality"}


def refusals(environment: dict[str, str]) -> list[str]:
    with pytest.raises(StartError) as refused:
        stack_of(environment)
    return str(refused.value).splitlines()


@pytest.mark.parametrize("blank", [{}, {API: "", LINK: " "}])
def test_a_bot_without_a_node_is_refused(blank: dict[str, str]) -> None:
    """R-41: the built-in node would sell keys of 127.0.0.1."""
    [sentence] = refusals(TOKEN | blank)
    assert sentence.startswith("With TURNPIKE_BOT_TOKEN the shop sells to people")
    assert f"{API}=127.0.0.1:10085" in sentence
    assert f"{LINK}=vless://{{key}}@vpn.example.org:443" in sentence


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.8.8",
        "localhost",
        "LocalHost.",
        "node",
        "printer.local",
        "0.0.0.0",
        "10.0.0.7",
        "192.168.1.2",
        "169.254.1.1",
        "100.64.0.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00::1]",
        "[::ffff:127.0.0.1]",
        "[::",
    ],
)
def test_a_bot_with_a_local_node_is_refused(host: str) -> None:
    """R-41."""
    [sentence] = refusals(TOKEN | NODE | {LINK: f"vless://{{key}}@{host}:443?security=none"})
    assert sentence.startswith(f"{LINK} is not usable: people cannot reach")


@pytest.mark.parametrize(
    "host", ["vpn.example.org", "8.8.8.8", "[2a00:1450:4001::1]", "localhost.example.org"]
)
def test_a_bot_with_a_public_node_is_accepted(host: str) -> None:
    stack = stack_of(TOKEN | NODE | {LINK: f"vless://{{key}}@{host}:443?security=none"})
    assert not stack.own_node


@pytest.mark.parametrize("token", [{}, TOKEN])
@pytest.mark.parametrize("named", [API, LINK, "TURNPIKE_VPN_XRAY_INBOUND"])
def test_half_a_node_is_refused(token: dict[str, str], named: str) -> None:
    """R-41: a part of the operator's node would be ignored."""
    [sentence] = refusals(token | {named: (NODE | {"TURNPIKE_VPN_XRAY_INBOUND": "in"})[named]})
    assert all((name in sentence) is (name != named) for name in (API, LINK))


def test_the_operators_node_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-41: also in the sandbox, where any address will do."""
    assert stack_of({}).own_node
    assert not stack_of(NODE).own_node
    assert not stack_of(NODE | {LINK: "vless://{key}@127.0.0.1:443?security=none"}).own_node


def test_an_operators_provider_replaces_its_stand_in() -> None:
    """W-78: as a whole; half of each would book a key of one at the other."""
    played = [one.name for one in stack_of({}).providers]
    assert played == ["yookassa", "cryptobot"]
    for left, named in zip(played[::-1], ("YOOKASSA_SHOP_ID", "CRYPTOBOT_API_URL"), strict=True):
        assert [one.name for one in stack_of({f"TURNPIKE_{named}": "1"}).providers] == [left]
    assert stack_of({"TURNPIKE_YOOKASSA_SHOP_ID": " "}).providers == stack_of({}).providers


def test_a_real_bot_has_no_stand_in() -> None:
    """W-78: people would pay nothing there."""
    assert stack_of(TOKEN | NODE).providers == ()


def test_every_mistake_is_named_at_once() -> None:
    wrong = {
        "TURNPIKE_SANDBOX_PORT": "web",
        "TURNPIKE_HTTP_PORT": "0",
        "TURNPIKE_TELEGRAM_API_URL": "telegram",
    }
    sentences = refusals(TOKEN | wrong)
    assert [sentence.split()[0] for sentence in sentences] == [*wrong, "With"]


def test_a_variable_that_changes_nothing_is_named() -> None:
    """W-41: the shop's own PostgreSQL, NATS and sandbox take the place of the operator's."""
    replaced = {
        "TURNPIKE_BOT_DSN": "postgresql://elsewhere",
        "TURNPIKE_NATS_URL": "nats://elsewhere",
        "TURNPIKE_NATS_REPLICAS": "3",
        "TURNPIKE_HTTP_HOST": "0.0.0.0",
    }
    sandbox = {
        "TURNPIKE_TELEGRAM_API_URL": "http://elsewhere",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://elsewhere",
    }
    used = NODE | {"TURNPIKE_SUPPORT_CONTACT": "@help", "TURNPIKE_PAYMENTS_DSN": ""}
    assert unused_in(used | replaced | sandbox) == sorted(replaced | sandbox)
    assert unused_in(used | replaced | sandbox | TOKEN) == sorted(replaced)
    assert unused_in(TOKEN | {"TURNPIKE_SANDBOX_PORT": "1"}) == ["TURNPIKE_SANDBOX_PORT"]


def test_a_blank_variable_is_not_set() -> None:
    """W-41: a line `NAME=` of the example would end a service that expects a number."""
    stack = stack_of({"TURNPIKE_BOT_MESSAGES_PER_S": "", "TURNPIKE_SUPPORT_CONTACT": "@help"})
    assert stack.settings == {"TURNPIKE_SUPPORT_CONTACT": "@help"}


@pytest.mark.parametrize(
    ("settings", "owners"),
    [({}, login_name()), ({"TURNPIKE_OWNERS": "olga,777000"}, "olga,777000")],
)
def test_the_local_shop_has_an_owner(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], owners: str
) -> None:
    """R-88: whoever starts the shop may act in it; only bot-gateway reads that."""
    stack = stack_of(settings)
    started = {
        "postgres": SimpleNamespace(dsn=lambda role: f"postgresql://{role}@localhost/turnpike"),
        "broker": SimpleNamespace(url="nats://localhost"),
        "node": SimpleNamespace(environment={}),
    }
    for name, part in started.items():
        monkeypatch.setattr(stack, name, part, raising=False)
    assert stack.environment("bot")["TURNPIKE_OWNERS"] == owners
    assert stack.environment("referrals").get("TURNPIKE_OWNERS") == settings.get("TURNPIKE_OWNERS")
