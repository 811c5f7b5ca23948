"""Telegram's refusals: pure checks of keyboards, texts and invoices, with Telegram's sentences.

The sentences come from the Bot API server and TDLib (`tdlib/telegram-bot-api`, `tdlib/td`), or from
reports of users. Where the sandbox is stricter than Telegram on purpose, the docstring says so.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

TEXT_UNITS = 4096  # UTF-16 code units, the unit of entity offsets.
CAPTION_UNITS = 1024
TOAST_CHARACTERS = 200
CALLBACK_DATA_BYTES = 64
COPY_TEXT_CHARACTERS = 256
PAYLOAD_BYTES = 128
TITLE_CHARACTERS = 32
DESCRIPTION_CHARACTERS = 255
BUTTONS_PER_MESSAGE = 100
COMMANDS = 100
PHOTO_BYTES = 10 * 1024 * 1024
STARS = "XTR"
CARD_LIMITS = {"RUB": (6_400, 64_000_000)}
"""currencies.json: about 1 and 10 000 US dollars, in the smallest unit. They follow the rate.

Other currencies are refused here: the only acquirer that is played takes rubles.
"""
CURRENCIES = frozenset(
    {
        "AMD",
        "BYN",
        "EUR",
        "GBP",
        "GEL",
        "KGS",
        "KZT",
        "PLN",
        "RUB",
        "TRY",
        "UAH",
        "USD",
        "UZS",
        STARS,
    }
)
BUTTON_SCHEMES = frozenset({"http", "https", "tg", "ton", "tonsite"})
BUTTON_ACTIONS = frozenset(
    {
        "callback_data",
        "callback_game",
        "copy_text",
        "login_url",
        "pay",
        "switch_inline_query",
        "switch_inline_query_chosen_chat",
        "switch_inline_query_current_chat",
        "url",
        "web_app",
    }
)
START_PAYLOAD = re.compile(r"[A-Za-z0-9_-]{1,64}")
COMMAND = re.compile(r"[a-z0-9_]{1,32}")
SECRET_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")

BLOCKED = "Forbidden: bot was blocked by the user"
QUERY_TOO_OLD = "query is too old and response timeout expired or query ID is invalid"
NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same "
    "as a current content and reply markup of the message"
)


class Refused(Exception):  # noqa: N818 - an answer of Telegram, not an error.
    """A refusal of Telegram: the HTTP code, the sentence, and for 429 the seconds to wait."""

    def __init__(self, code: int, description: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.retry_after_s = retry_after_s


def bad_request(reason: str) -> Refused:
    return Refused(400, f"Bad Request: {reason}")


def too_many_requests(retry_after_s: int) -> Refused:
    return Refused(
        429, f"Too Many Requests: retry after {retry_after_s}", retry_after_s=retry_after_s
    )


def utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def check_text(text: str) -> None:
    if not text:
        raise bad_request("message text is empty")
    if utf16_units(text) > TEXT_UNITS:
        raise bad_request("message is too long")


def check_caption(caption: str) -> None:
    if utf16_units(caption) > CAPTION_UNITS:
        raise bad_request("message caption is too long")


def check_toast(text: str) -> None:
    if len(text) > TOAST_CHARACTERS:
        raise bad_request("MESSAGE_TOO_LONG")


def check_secret_token(token: str) -> None:
    if token and not SECRET_TOKEN.fullmatch(token):
        raise bad_request("secret token contains unallowed characters")


# Keyboards


def inline_keyboard(markup: object, *, on_invoice: bool = False) -> Json | None:
    """The keyboard as Telegram keeps it, or None for an empty one. Unknown fields are dropped.

    Stricter than Telegram: a button with two actions is refused, because the documentation demands
    exactly one (Telegram keeps the first that it knows). A reply keyboard is refused, because this
    chat cannot show it.
    """
    if markup is None:
        return None
    if not isinstance(markup, Mapping):
        raise bad_request("object expected as reply markup")
    rows = markup.get("inline_keyboard")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise bad_request(
            'field "inline_keyboard" must be an Array of Arrays '
            "(only inline keyboards are shown here)"
        )
    kept = [[_button(button) for button in row] for row in rows if row]
    if sum(map(len, kept)) > BUTTONS_PER_MESSAGE:
        raise bad_request("REPLY_MARKUP_TOO_LONG")
    _check_pay_button(kept, on_invoice=on_invoice)
    return {"inline_keyboard": kept} if kept else None


def _button(button: object) -> Json:
    wrong = "can't parse inline keyboard button: "
    if not isinstance(button, Mapping):
        raise bad_request(f"{wrong}expected an Object")
    text = button.get("text")
    if not isinstance(text, str):
        raise bad_request(f'{wrong}field "text" must be of type String')
    if not text.strip():
        raise bad_request(f"{wrong}text must be non-empty")
    actions = sorted(
        name for name in BUTTON_ACTIONS & button.keys() if button[name] not in (None, False)
    )
    if not actions:
        raise bad_request(f"{wrong}Text buttons are unallowed in the inline keyboard")
    if len(actions) > 1:
        raise bad_request(f"{wrong}exactly one action is expected, found {' and '.join(actions)}")
    action = actions[0]
    check = _ACTION_CHECKS.get(action)
    if check is not None:
        check(button[action])
    return {"text": text, action: button[action]}


def _check_callback_data(data: object) -> None:
    if not isinstance(data, str) or not 1 <= len(data.encode()) <= CALLBACK_DATA_BYTES:
        raise bad_request("BUTTON_DATA_INVALID")


def _check_url(url: object) -> None:
    if not isinstance(url, str):
        raise bad_request('can\'t parse inline keyboard button: field "url" must be of type String')
    problem = url_problem(url)
    if problem:
        raise bad_request(f"inline keyboard button URL '{url}' is invalid: {problem}")


def url_problem(url: str) -> str | None:
    """The reason why Telegram rejects this link, or None. A link without a scheme is HTTP."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme.lower() not in BUTTON_SCHEMES:
        return "Unsupported URL protocol"
    if parts.scheme.lower() == "tg":
        return None
    # Telegram rejects a host name without a dot, such as `localhost`. It accepts IPv4 addresses.
    return None if parts.hostname and "." in parts.hostname.strip(".") else "Wrong HTTP URL"


def _check_web_app(app: object) -> None:
    url = app.get("url") if isinstance(app, Mapping) else None
    if not isinstance(url, str) or not url.startswith("https://"):
        raise bad_request(
            f"inline keyboard button Web App URL '{url}' is invalid: Only HTTPS links are allowed"
        )


def _check_copy_text(copied: object) -> None:
    text = copied.get("text") if isinstance(copied, Mapping) else None
    if not isinstance(text, str) or not 1 <= len(text) <= COPY_TEXT_CHARACTERS:
        raise bad_request("BUTTON_COPY_TEXT_INVALID")


_ACTION_CHECKS = {
    "callback_data": _check_callback_data,
    "url": _check_url,
    "web_app": _check_web_app,
    "copy_text": _check_copy_text,
}


def _check_pay_button(rows: list[list[Json]], *, on_invoice: bool) -> None:
    """A pay button is the first button of an invoice, and is allowed nowhere else."""
    places = [
        (i, j) for i, row in enumerate(rows) for j, button in enumerate(row) if "pay" in button
    ]
    expected = [(0, 0)] if on_invoice and rows else []
    if places != expected:
        raise bad_request("BUTTON_TYPE_INVALID")


# Invoices


@dataclass(frozen=True)
class InvoiceDraft:
    """The content of an invoice. The amount is in minor units; Stars are whole."""

    title: str
    description: str
    payload: str
    currency: str
    total_amount: int
    provider_token: str = ""


def invoice(
    *,
    title: str,
    description: str,
    payload: str,
    currency: str,
    provider_token: str,
    prices: object,
    extras: Json,
    tokens: Collection[str] = (),
) -> InvoiceDraft:
    """The draft of a valid invoice.

    `extras` are the parameters that Stars do not support: tips, contacts, shipping. `tokens` are
    the provider tokens that BotFather gave. TITLE_INVALID and DESCRIPTION_INVALID are our wording;
    the limits are Telegram's. Raises `Refused`.
    """
    if len(title) > TITLE_CHARACTERS:
        raise bad_request("TITLE_INVALID")
    if len(description) > DESCRIPTION_CHARACTERS:
        raise bad_request("DESCRIPTION_INVALID")
    if len(payload.encode()) > PAYLOAD_BYTES:
        raise bad_request("INVOICE_PAYLOAD_INVALID")
    if currency not in CURRENCIES:
        raise bad_request("CURRENCY_INVALID")
    amounts = _amounts(prices)
    if currency == STARS and (provider_token or len(amounts) != 1 or any(extras.values())):
        raise bad_request("STARS_INVOICE_INVALID")
    if currency != STARS:
        _check_card(currency, sum(amounts), provider_token, tokens)
    if sum(amounts) <= 0:
        raise bad_request("CURRENCY_TOTAL_AMOUNT_INVALID")
    return InvoiceDraft(title, description, payload, currency, sum(amounts), provider_token)


def _check_card(
    currency: str, amount_minor: int, provider_token: str, tokens: Collection[str]
) -> None:
    if provider_token not in tokens:
        raise bad_request("PAYMENT_PROVIDER_INVALID")
    if currency not in CARD_LIMITS:
        raise bad_request("CURRENCY_INVALID")
    least_minor, most_minor = CARD_LIMITS[currency]
    if not least_minor <= amount_minor <= most_minor:
        raise bad_request("CURRENCY_TOTAL_AMOUNT_INVALID")


def _amounts(prices: object) -> list[int]:
    if not isinstance(prices, list) or not prices:
        raise bad_request("there must be at least one price")
    amounts = []
    for price in prices:
        label = price.get("label") if isinstance(price, Mapping) else None
        amount = price.get("amount") if isinstance(price, Mapping) else None
        if not isinstance(label, str) or not label or type(amount) is not int:
            raise bad_request("can't parse labeled price: a label and a whole amount are expected")
        amounts.append(amount)
    return amounts


def bot_commands(commands: object) -> list[Json]:
    """The list of commands for the menu button."""
    if not isinstance(commands, list):
        raise bad_request("expected an Array of BotCommand")
    if len(commands) > COMMANDS:
        raise bad_request("BOT_COMMANDS_TOO_MUCH")
    kept = []
    for command in commands:
        name = command.get("command") if isinstance(command, Mapping) else None
        description = command.get("description") if isinstance(command, Mapping) else None
        if not isinstance(name, str) or not COMMAND.fullmatch(name.removeprefix("/")):
            raise bad_request("BOT_COMMAND_INVALID")
        if not isinstance(description, str) or not 1 <= len(description) <= 256:
            raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
        kept.append({"command": name.removeprefix("/"), "description": description})
    return kept
