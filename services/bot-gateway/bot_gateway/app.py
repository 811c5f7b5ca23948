"""The table of contents of bot-gateway: how updates come in, who takes them, what it answers and does by time."""

from functools import partial

from bot_gateway.answers import answer_person, answer_recipient, answer_reports
from bot_gateway.audit import KINDS, answer_audit
from bot_gateway.chats import open_chats
from bot_gateway.chats.visit import Shop
from bot_gateway.introduction import introduce
from bot_gateway.lanes import Bells
from bot_gateway.lanes.chat import ChatLane
from bot_gateway.lanes.checkout import CheckoutLane
from bot_gateway.lanes.money import MoneyLane
from bot_gateway.pace import Pace
from bot_gateway.polling import Poller
from bot_gateway.settings import Settings
from bot_gateway.telegram import open_bot
from bot_gateway.ticks import DROP_OLD_ROWS_EVERY_S, LOOK_EVERY_S, drop_old_rows, set_gauges
from bot_gateway.webhooks import TelegramWebhook
from shared.inspection import AskPerson, AskReports
from shared.questions import AskRecipient
from shared.service import Service
from shared.settings import read_settings
from shared.texts import Texts


def build(settings: Settings | None = None) -> Service:
    settings = settings or read_settings(Settings)
    service = Service("bot", settings)
    database, bus, bells, texts = service.database, service.bus, Bells(), Texts("bot_gateway")
    pace = Pace(database, settings.bot_messages_per_s)
    bot = open_bot(settings.bot_token.get_secret_value(), settings.telegram_api_url, pace)
    service.closes(bot.session.close)

    if settings.telegram_webhook_url and settings.telegram_webhook_secret and settings.telegram_mode == "webhook":
        url, secret = settings.telegram_webhook_url, settings.telegram_webhook_secret.get_secret_value()
        webhook = TelegramWebhook(database, bot, bells, url=url, secret=secret)
        service.routes.append(("/telegram", webhook))
        service.loops("bot_webhook", webhook.point)
    else:
        service.loops("bot_polling", Poller(database, bot, bells).run)

    shop = Shop(bot, database, bus, texts, settings.support_contact)
    service.loops("bot_chats", ChatLane(database, bells, open_chats(shop)).run)
    service.loops("bot_money", MoneyLane(database, bells).run)
    service.loops("bot_checkouts", CheckoutLane(database, bells, bus, bot, texts).run)
    service.loops("bot_introduction", partial(introduce, bot, texts))

    service.answers(AskRecipient, answer_recipient)
    service.answers(AskPerson, answer_person)
    service.answers(AskReports, answer_reports)
    service.audits(answer_audit, KINDS)

    service.ticks("bot_drops_old_rows", DROP_OLD_ROWS_EVERY_S, partial(drop_old_rows, database))
    service.ticks("bot_sets_gauges", LOOK_EVERY_S, partial(set_gauges, database))
    return service
