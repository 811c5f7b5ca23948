"""The table of contents of payments: what it hears, answers and obeys."""

from payments.answers import (
    answer_balance,
    answer_book,
    answer_checkout,
    answer_payment,
    answer_payments,
    answer_plans,
    answer_receipts,
    place_order,
)
from payments.audit import KINDS, answer_audit
from payments.settings import Settings
from payments.subscribers import payments_books_rewards, payments_confirms_reported
from shared.commands import PlaceOrder
from shared.inspection import AskPayment, AskPayments
from shared.questions import AskBalance, AskBook, AskCheckout, AskPlans, AskReceipts
from shared.service import Service
from shared.settings import read_settings


def build(settings: Settings | None = None) -> Service:
    service = Service("payments", settings or read_settings(Settings))
    service.hears("payments_confirms_reported", payments_confirms_reported)
    service.hears("payments_books_rewards", payments_books_rewards)
    service.answers(AskPlans, answer_plans)
    service.answers(AskCheckout, answer_checkout)
    service.answers(AskBalance, answer_balance)
    service.answers(AskReceipts, answer_receipts)
    service.answers(AskBook, answer_book)
    service.answers(AskPayment, answer_payment)
    service.answers(AskPayments, answer_payments)
    service.audits(answer_audit, KINDS)
    service.obeys(PlaceOrder, place_order)
    return service
