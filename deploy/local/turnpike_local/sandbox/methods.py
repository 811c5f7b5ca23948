"""The methods of the Bot API that the shop calls, one function each, and the table of them.

`METHODS` lists the parameters of each method. A parameter of Telegram that has no effect here, such
as `disable_notification`, is accepted and ignored. `bot_api.py` refuses every other parameter.
"""

from collections.abc import Callable
from dataclasses import dataclass

from . import shapes
from .arguments import Arguments
from .backend import Backend, commands_key
from .checkout import Payments
from .markup import Formatted, formatted
from .photos import new_photo
from .records import Person, Photo
from .rules import (
    NOT_MODIFIED,
    QUERY_TOO_OLD,
    InvoiceDraft,
    Json,
    bad_request,
    bot_commands,
    check_caption,
    check_text,
    check_toast,
    inline_keyboard,
    invoice,
)
from .updates import Polling, Posting, Webhook


@dataclass(frozen=True)
class Bot:
    """The parts that a method may use."""

    backend: Backend
    payments: Payments
    polling: Polling
    posting: Posting


@dataclass(frozen=True)
class Method:
    """A synchronous method. It runs in one transaction, which ends before the answer."""

    run: Callable[[Bot, Arguments], object]
    takes: frozenset[str]


def get_me(bot: Bot, _: Arguments) -> Json:
    return bot.backend.me


# Messages


def send_message(bot: Bot, call: Arguments) -> Json:
    person = bot.backend.reachable(call.text("chat_id"))
    text = _text(call)
    keyboard = inline_keyboard(call.json("reply_markup"))
    return _send(bot, person, shapes.text_content(text), keyboard)


def send_photo(bot: Bot, call: Arguments) -> Json:
    person = bot.backend.reachable(call.text("chat_id"))
    caption = _caption(call)
    keyboard = inline_keyboard(call.json("reply_markup"))
    photo = _photo(bot, call, call.text("photo") or "photo")
    return _send(bot, person, shapes.photo_content(photo, caption), keyboard)


def edit_message_text(bot: Bot, call: Arguments) -> Json:
    person, body = _own_message(bot, call)
    if "text" not in body:
        raise bad_request("there is no text in the message to edit")
    text = _text(call)
    return _edit(bot, person, body, shapes.text_content(text), call)


def edit_message_caption(bot: Bot, call: Arguments) -> Json:
    person, body = _own_message(bot, call)
    if "photo" not in body:
        raise bad_request("there is no caption in the message to edit")
    photo = bot.backend.state.photo(body["photo"][0]["file_id"])
    assert photo is not None  # Photos are never removed.
    return _edit(bot, person, body, shapes.photo_content(photo, _caption(call)), call)


def edit_message_media(bot: Bot, call: Arguments) -> Json:
    """Replace the photo, or replace the text by a photo."""
    person, body = _own_message(bot, call)
    media = call.json("media")
    if not isinstance(media, dict) or media.get("type") != "photo":
        raise bad_request("can't parse InputMedia: only a photo is expected here")
    caption = formatted(
        str(media.get("caption") or ""),
        str(media.get("parse_mode") or ""),
        media.get("caption_entities"),
    )
    check_caption(caption.text)
    photo = _photo(bot, call, str(media.get("media") or ""))
    return _edit(bot, person, body, shapes.photo_content(photo, caption), call)


def edit_message_reply_markup(bot: Bot, call: Arguments) -> Json:
    person, body = _own_message(bot, call)
    return _edit(bot, person, body, _content(body), call)


def delete_message(bot: Bot, call: Arguments) -> bool:
    person = bot.backend.reachable(call.text("chat_id"))
    known = bot.backend.state.message(person.id, call.integer("message_id"))
    if known is None:
        raise bad_request("message to delete not found")
    if known[1] < bot.backend.now() - bot.backend.limits.deletable_s:
        raise bad_request("message can't be deleted for everyone")
    bot.backend.state.remove_message(call.integer("message_id"))
    bot.backend.changed(person.id)
    return True


def send_chat_action(bot: Bot, call: Arguments) -> bool:
    person = bot.backend.reachable(call.text("chat_id"))
    if not call.text("action"):
        raise bad_request("wrong parameter action in request")
    bot.backend.hub.publish({"kind": "typing", "person": person.id})
    return True


def get_chat(bot: Bot, call: Arguments) -> Json:
    return shapes.full_chat(bot.backend.reachable(call.text("chat_id")))


def get_file(bot: Bot, call: Arguments) -> Json:
    photo = bot.backend.state.photo(call.text("file_id"))
    if photo is None:
        raise bad_request("invalid file_id")
    return shapes.file(photo)


def answer_callback_query(bot: Bot, call: Arguments) -> bool:
    text = call.text("text")
    check_toast(text)
    backend = bot.backend
    query_id = call.text("callback_query_id")
    person_id = backend.state.answer_callback(query_id, backend.now() - backend.limits.callback_s)
    if person_id is None:
        raise bad_request(QUERY_TOO_OLD)
    if text:
        backend.toast(person_id, "answer", text, alert=call.flag("show_alert"))
    return True


# Payments


def send_invoice(bot: Bot, call: Arguments) -> Json:
    person = bot.backend.reachable(call.text("chat_id"))
    draft = _invoice(bot, call)
    keyboard = inline_keyboard(call.json("reply_markup"), on_invoice=True)
    bot.backend.floods.take(person.id, bot.backend.now())
    message = bot.backend.bot_says(person, {})
    kept = bot.payments.invoice(draft, message["message_id"])
    bot.backend.state.purchases.shown(draft, person.id)
    content = shapes.invoice_content(kept, call.text("start_parameter"))
    return bot.backend.replace(
        person.id, {**message, **content, "reply_markup": keyboard or shapes.pay_button(kept)}
    )


def create_invoice_link(bot: Bot, call: Arguments) -> str:
    return f"https://t.me/${bot.payments.invoice(_invoice(bot, call), None).slug}"


def answer_pre_checkout_query(bot: Bot, call: Arguments) -> bool:
    ok = call.flag("ok")
    error_message = call.text("error_message", required=not ok)
    bot.payments.answer(call.text("pre_checkout_query_id"), ok=ok, error_message=error_message)
    return True


def get_star_transactions(bot: Bot, call: Arguments) -> Json:
    """The oldest first. As in Telegram, a limit outside of 1 to 100 becomes the nearest of both."""
    limit = min(max(call.integer("limit", 100), 1), 100)
    moved = bot.backend.state.star_transactions(max(call.integer("offset"), 0), limit)
    people = {person.id: person for person in bot.backend.state.people()}
    return {"transactions": [shapes.star_transaction(one, people[one.person_id]) for one in moved]}


def get_my_star_balance(bot: Bot, _: Arguments) -> Json:
    """The sum of all Stars in and out. Test Stars are whole, so there is no `nanostar_amount`."""
    return {"amount": bot.backend.state.star_balance()}


def refund_star_payment(bot: Bot, call: Arguments) -> bool:
    charge = call.text("telegram_payment_charge_id", required=True)
    bot.payments.refund(call.integer("user_id"), charge)
    return True


# The bot itself


def set_my_commands(bot: Bot, call: Arguments) -> bool:
    kept = bot.backend.state.setting("commands", {})
    kept[_commands_key(call)] = bot_commands(call.json("commands"))
    bot.backend.state.put_setting("commands", kept)
    bot.backend.hub.publish({"kind": "everything"})
    return True


def get_my_commands(bot: Bot, call: Arguments) -> list[Json]:
    commands: list[Json] = bot.backend.state.setting("commands", {}).get(_commands_key(call), [])
    return commands


def _commands_key(call: Arguments) -> str:
    scope = call.json("scope")
    scope = scope if isinstance(scope, dict) else {}
    return commands_key(
        str(scope.get("type", "default")), scope.get("chat_id", ""), call.text("language_code")
    )


def set_webhook(bot: Bot, call: Arguments) -> bool:
    webhook = Webhook(
        url=call.text("url"),
        secret_token=call.text("secret_token"),
        max_connections=min(max(call.integer("max_connections", 40), 1), 100),
    )
    bot.posting.set(webhook)
    if webhook.url:
        bot.polling.terminate("terminated by setWebhook request")
    keep_allowed_updates(bot.backend, call)
    if call.flag("drop_pending_updates"):
        bot.backend.state.drop_updates()
    return True


def delete_webhook(bot: Bot, call: Arguments) -> bool:
    bot.posting.set(Webhook())
    if call.flag("drop_pending_updates"):
        bot.backend.state.drop_updates()
    return True


def get_webhook_info(bot: Bot, _: Arguments) -> Json:
    return bot.posting.info()


def keep_allowed_updates(backend: Backend, call: Arguments) -> None:
    """Store the wanted kinds. An absent list keeps the earlier choice, an empty one means all."""
    allowed = call.json("allowed_updates")
    if isinstance(allowed, list):
        backend.state.put_setting(
            "allowed_updates", [kind for kind in allowed if isinstance(kind, str)]
        )


# Shared by several methods


def _text(call: Arguments) -> Formatted:
    given = call.text("text")
    if not given:
        raise bad_request("message text is empty")
    text = formatted(given, call.text("parse_mode"), call.json("entities"))
    check_text(text.text)
    return text


def _caption(call: Arguments) -> Formatted:
    caption = formatted(
        call.text("caption"), call.text("parse_mode"), call.json("caption_entities")
    )
    check_caption(caption.text)
    return caption


def _send(bot: Bot, person: Person, content: Json, keyboard: Json | None) -> Json:
    bot.backend.floods.take(person.id, bot.backend.now())
    bot.payments.shown(person, keyboard)
    return bot.backend.bot_says(
        person, {**content, **({"reply_markup": keyboard} if keyboard else {})}
    )


def _own_message(bot: Bot, call: Arguments) -> tuple[Person, Json]:
    """The bot's message to edit, and its person. Raises `Refused`."""
    person = bot.backend.reachable(call.text("chat_id"))
    message_id = call.integer("message_id")
    if message_id <= 0:
        raise bad_request("message identifier is not specified")
    known = bot.backend.state.message(person.id, message_id)
    if known is None:
        raise bad_request("message to edit not found")
    author, _, body = known
    if author != "bot":
        raise bad_request("message can't be edited")
    return person, body


_CONTENT = ("text", "entities", "photo", "caption", "caption_entities", "invoice")


def _content(body: Json) -> Json:
    return {key: body[key] for key in _CONTENT if key in body}


def _edit(bot: Bot, person: Person, body: Json, content: Json, call: Arguments) -> Json:
    """Replace the content. The keyboard is removed unless it is sent again."""
    keyboard = inline_keyboard(call.json("reply_markup"), on_invoice="invoice" in body)
    if content == _content(body) and keyboard == body.get("reply_markup"):
        raise bad_request(NOT_MODIFIED)
    bot.payments.shown(person, keyboard)
    frame = {key: value for key, value in body.items() if key not in (*_CONTENT, "reply_markup")}
    edited = {**frame, **content, "edit_date": int(bot.backend.now())}
    return bot.backend.replace(
        person.id, {**edited, **({"reply_markup": keyboard} if keyboard else {})}
    )


def _invoice(bot: Bot, call: Arguments) -> InvoiceDraft:
    extras = {
        name: call.values.get(name)
        for name in _CARD_ONLY
        if call.text(name) not in ("", "false", "0", "[]")
    }
    return invoice(
        title=call.text("title", required=True),
        description=call.text("description", required=True),
        payload=call.text("payload", required=True),
        currency=call.text("currency", required=True),
        provider_token=call.text("provider_token"),
        prices=call.json("prices"),
        extras=extras,
        tokens=bot.payments.cards,
    )


def _photo(bot: Bot, call: Arguments, reference: str) -> Photo:
    """A photo sent with the call, or one that Telegram already has."""
    upload = call.upload(reference)
    photo = bot.backend.state.photo(reference) if upload is None else new_photo(upload.content)
    if photo is None:
        raise bad_request("wrong file identifier/HTTP URL specified")
    if upload is not None:
        bot.backend.state.add_photo(photo)
    return photo


_CARD_ONLY = (
    "max_tip_amount",
    "suggested_tip_amounts",
    "provider_data",
    "need_name",
    "need_phone_number",
    "need_email",
    "need_shipping_address",
    "send_phone_number_to_provider",
    "send_email_to_provider",
    "is_flexible",
)
_INVOICE = {
    "title",
    "description",
    "payload",
    "currency",
    "prices",
    "provider_token",
    *_CARD_ONLY,
} | {f"photo_{name}" for name in ("url", "size", "width", "height")}
_SENDING = {
    "chat_id",
    "reply_markup",
    "disable_notification",
    "protect_content",
    "allow_paid_broadcast",
    "message_effect_id",
    "reply_parameters",
}
_TEXT = {"text", "parse_mode", "entities", "link_preview_options"}
_CAPTION = {"caption", "parse_mode", "caption_entities", "show_caption_above_media"}
_EDITING = {"chat_id", "message_id", "reply_markup"}


def _method(run: Callable[[Bot, Arguments], object], *takes: str) -> Method:
    return Method(run, frozenset(takes))


METHODS: dict[str, Method] = {
    "getme": _method(get_me),
    "sendmessage": _method(send_message, *_SENDING, *_TEXT),
    "sendphoto": _method(send_photo, "photo", "has_spoiler", *_SENDING, *_CAPTION),
    "editmessagetext": _method(edit_message_text, *_EDITING, *_TEXT),
    "editmessagecaption": _method(edit_message_caption, *_EDITING, *_CAPTION),
    "editmessagemedia": _method(edit_message_media, "media", *_EDITING),
    "editmessagereplymarkup": _method(edit_message_reply_markup, *_EDITING),
    "deletemessage": _method(delete_message, "chat_id", "message_id"),
    "sendchataction": _method(send_chat_action, "chat_id", "action"),
    "getchat": _method(get_chat, "chat_id"),
    "getfile": _method(get_file, "file_id"),
    "answercallbackquery": _method(
        answer_callback_query, "callback_query_id", "text", "show_alert", "url", "cache_time"
    ),
    "sendinvoice": _method(send_invoice, "start_parameter", *_SENDING, *_INVOICE),
    "createinvoicelink": _method(create_invoice_link, *_INVOICE),
    "answerprecheckoutquery": _method(
        answer_pre_checkout_query, "pre_checkout_query_id", "ok", "error_message"
    ),
    "getstartransactions": _method(get_star_transactions, "offset", "limit"),
    "getmystarbalance": _method(get_my_star_balance),
    "refundstarpayment": _method(refund_star_payment, "user_id", "telegram_payment_charge_id"),
    "setmycommands": _method(set_my_commands, "commands", "scope", "language_code"),
    "getmycommands": _method(get_my_commands, "scope", "language_code"),
    "setwebhook": _method(
        set_webhook,
        "url",
        "secret_token",
        "max_connections",
        "allowed_updates",
        "drop_pending_updates",
        "ip_address",
    ),
    "deletewebhook": _method(delete_webhook, "drop_pending_updates"),
    "getwebhookinfo": _method(get_webhook_info),
}
GET_UPDATES_TAKES = frozenset({"offset", "limit", "timeout", "allowed_updates"})
