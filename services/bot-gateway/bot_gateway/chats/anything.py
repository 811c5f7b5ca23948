"""Updates that no other router took: a stale or forged button, or anything that was typed."""

from aiogram import F, Router
from aiogram.types import CallbackQuery, Message

from bot_gateway.chats import receipts, screens, topup
from bot_gateway.chats.visit import Visit

# Telegram also sends messages that nobody wrote. Of kinds that it adds later, all are answered.
NOT_WRITTEN = (
    "pinned_message", "message_auto_delete_timer_changed", "new_chat_photo", "delete_chat_photo",
    "chat_background_set", "connected_website", "write_access_allowed", "passport_data",
    "web_app_data", "users_shared", "user_shared", "chat_shared", "gift", "unique_gift",
    "gift_upgrade_sent", "checklist_tasks_done", "checklist_tasks_added", "poll_option_added",
    "poll_option_deleted", "paid_message_price_changed", "managed_bot_created", "invoice",
    "successful_payment", "refunded_payment", "video_chat_scheduled", "video_chat_started",
    "video_chat_ended", "video_chat_participants_invited",
)  # fmt: skip


def routes() -> Router:
    router = Router(name="anything")
    router.callback_query.register(stale_button)
    router.message.register(written, ~F.content_type.in_(NOT_WRITTEN))
    return router


async def stale_button(_: CallbackQuery, visit: Visit) -> None:
    """A forged button may hold any bytes: they are not logged either (S-08)."""
    await visit.refuse("button", "stale_or_forged")
    await visit.show(screens.menu(visit.say), toast=visit.say("toast-stale"))


async def written(message: Message, visit: Visit) -> None:
    """What the screen asks for, or anything else. A command is never an answer."""
    awaits = visit.person.screen_awaits or ""
    if awaits and not (message.text or "").startswith("/"):
        answer = topup.typed if awaits == "amount" else receipts.typed
        return await answer(message, visit)
    return await visit.show(screens.not_understood(visit.say))
