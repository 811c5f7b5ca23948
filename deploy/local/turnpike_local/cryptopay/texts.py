"""The texts of the pay page, in Russian and English."""

from typing import Literal

Language = Literal["ru", "en"]

_EN = {
    "title": "Invoice {number}",
    "test": "A stand-in for Crypto Pay. No real money moves here.",
    "to_pay": "To pay",
    "left": "Time left",
    "pay": "Pay {amount} {asset}",
    "at_rate": "1 {asset} = {rate} {fiat}",
    "no_rate": "no rate now",
    "comment": "Comment",
    "anonymously": "Pay anonymously",
    "expire": "Let it expire",
    "paid": "Paid",
    "paid_with": "{amount} {asset}, {at} UTC",
    "message": "Message of the shop",
    "expired": "The invoice has expired",
    "expired_why": "It cannot be paid any more. Ask the shop for a new one.",
    "gone": "There is no such invoice",
    "gone_why": "The shop deleted it, or the link is wrong.",
    "unable_asset": "The invoice does not accept this asset.",
    "unable_comment": "The invoice takes no comment, or none that long.",
    "unable_anonymous": "The invoice cannot be paid anonymously.",
    "unable_rate": "This asset has no rate now. Choose another one.",
    "viewItem": "View item",
    "openChannel": "Open channel",
    "openBot": "Open bot",
    "callback": "Return",
    "back": "Back to the chat",
    "other_language": "Русский",
}
_RU = {
    "title": "Счёт {number}",
    "test": "Это имитация Crypto Pay. Настоящие деньги не списываются.",
    "to_pay": "К оплате",
    "left": "Осталось времени",
    "pay": "Оплатить {amount} {asset}",
    "at_rate": "1 {asset} = {rate} {fiat}",
    "no_rate": "курса сейчас нет",
    "comment": "Комментарий",
    "anonymously": "Оплатить анонимно",
    "expire": "Пусть истечёт",
    "paid": "Оплачено",
    "paid_with": "{amount} {asset}, {at} UTC",
    "message": "Сообщение магазина",
    "expired": "Срок счёта истёк",
    "expired_why": "Оплатить его уже нельзя. Попросите у магазина новый счёт.",
    "gone": "Такого счёта нет",
    "gone_why": "Магазин удалил его, или ссылка неверна.",
    "unable_asset": "Эту валюту счёт не принимает.",
    "unable_comment": "К этому счёту нельзя добавить комментарий, или он слишком длинный.",
    "unable_anonymous": "Этот счёт нельзя оплатить анонимно.",
    "unable_rate": "Курса этой валюты сейчас нет. Выберите другую.",
    "viewItem": "Открыть товар",
    "openChannel": "Открыть канал",
    "openBot": "Открыть бота",
    "callback": "Вернуться",
    "back": "Вернуться в чат",
    "other_language": "English",
}
TEXTS: dict[Language, dict[str, str]] = {"en": _EN, "ru": _RU}


def other(language: Language) -> Language:
    return "en" if language == "ru" else "ru"
