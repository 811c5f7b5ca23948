"""The table of contents of bot-gateway: intake, lanes, queries, audit and ticks."""

from functools import partial

from bot_gateway.audit import KINDS, answer_audit
from bot_gateway.chats import build_models, open_chats
from bot_gateway.chats.visit import Shop
from bot_gateway.commands.refund_stars import refund_stars
from bot_gateway.commands.set_operator import set_operator
from bot_gateway.pace import Pace
from bot_gateway.queries import (
    answer_operator,
    answer_operators,
    answer_person,
    answer_recipient,
    answer_reports,
    answer_star_refund,
)
from bot_gateway.settings import Settings
from bot_gateway.store.checkout_holds import DROP_OLD_HOLDS
from bot_gateway.store.intake import DROP_ENDED_UPDATES, DROP_FAILED_UPDATES
from bot_gateway.store.people import DROP_OLD_REFUSALS
from bot_gateway.store.star_refunds import DROP_ENDED_REFUNDS
from bot_gateway.store.token_buckets import DROP_FULL_BUCKETS
from bot_gateway.store.waits import WAITS
from bot_gateway.subscribers import bot_follows_refusals, bot_shows_opened, bot_shows_refused
from bot_gateway.telegram import StarListing, StarReturns, open_bot
from bot_gateway.ticks import SET_GAUGES_EVERY_S, set_gauges
from bot_gateway.webhooks import TelegramWebhook
from bot_gateway.workers.bells import Bells
from bot_gateway.workers.chat_lane import ChatLane
from bot_gateway.workers.checkout_lane import CheckoutLane
from bot_gateway.workers.command_menu import set_command_menu
from bot_gateway.workers.invoice_screens import InvoiceScreens
from bot_gateway.workers.money_lane import MoneyLane
from bot_gateway.workers.polling import Poller
from bot_gateway.workers.star_refunds import StarRefunds
from bot_gateway.workers.star_walk import StarWalk
from shared.contracts.bot import (
    OperatorQuery,
    OperatorsQuery,
    PersonQuery,
    RecipientQuery,
    RefundStars,
    ReportsQuery,
    SetOperator,
    StarRefundQuery,
)
from shared.platform.loops import Bell
from shared.platform.settings import read_settings
from shared.platform.texts import Texts
from shared.service import Service


def build(settings: Settings | None = None) -> Service:
    settings = settings or read_settings(Settings)
    service = Service("bot", settings)
    database, bus, bells, texts = service.database, service.bus, Bells(), Texts("bot_gateway")
    pace = Pace(database, settings.bot_messages_per_s)
    bot = open_bot(settings.bot_token.get_secret_value(), settings.telegram_api_url, pace)
    service.closes(bot.session.close)

    if (
        settings.telegram_webhook_url
        and settings.telegram_webhook_secret
        and settings.telegram_mode == "webhook"
    ):
        url, secret = (
            settings.telegram_webhook_url,
            settings.telegram_webhook_secret.get_secret_value(),
        )
        webhook = TelegramWebhook(database, bot, bells, url=url, secret=secret)
        service.routes.append(("/telegram", webhook))
        service.loops("bot_webhook", webhook.set_webhook)
    else:
        service.loops("bot_polling", Poller(database, bot, bells).run)

    shop = Shop(bot, database, bus, texts, settings.support_contact, settings.provider_token)
    chats = ChatLane(database, bells, open_chats(shop), prepare=build_models)
    service.loops("bot_chats", chats.run)
    service.loops("bot_money", MoneyLane(database, bells).run)
    service.loops("bot_checkouts", CheckoutLane(database, bells, bus, bot, texts).run)
    service.loops("bot_star_walk", StarWalk(database, bot.id, StarListing(bot)).run)
    wanted = Bell()
    service.loops("bot_star_refunds", StarRefunds(database, StarReturns(bot), wanted).run)
    waiting = InvoiceScreens(shop)
    service.loops("bot_invoice_screens", waiting.run)
    service.loops("bot_command_menu", partial(set_command_menu, bot, texts))

    service.subscribes("bot_follows_refusals", bot_follows_refusals)
    service.subscribes("bot_shows_opened", partial(bot_shows_opened, note=waiting.note))
    service.subscribes("bot_shows_refused", partial(bot_shows_refused, note=waiting.note))
    service.answers(RecipientQuery, answer_recipient)
    service.answers(PersonQuery, answer_person)
    service.answers(ReportsQuery, answer_reports)
    service.answers(StarRefundQuery, answer_star_refund)
    service.executes(RefundStars, partial(refund_stars, ring=wanted.ring))
    owners = settings.first_owners
    service.answers(OperatorQuery, partial(answer_operator, owners=owners))
    service.answers(OperatorsQuery, partial(answer_operators, owners=owners))
    service.executes(SetOperator, partial(set_operator, owners=owners))
    service.audits(answer_audit, KINDS)
    service.bounds(WAITS)

    service.prunes(
        DROP_ENDED_UPDATES,
        DROP_FAILED_UPDATES,
        DROP_OLD_REFUSALS,
        DROP_OLD_HOLDS,
        DROP_FULL_BUCKETS,
        DROP_ENDED_REFUNDS,
    )
    service.ticks("bot_sets_gauges", SET_GAUGES_EVERY_S, partial(set_gauges, database))
    return service
