"""What the pay page says, in Russian and English."""

from typing import Literal

Language = Literal["ru", "en"]

TEXTS: dict[Language, dict[str, str]] = {
    "ru": {
        "note": "Имитация ЮKassa: деньги не списываются.",
        "name": "Русский",
        "pay_title": "Оплата заказа",
        "how": "Способ оплаты",
        "sbp": "СБП",
        "bank_card": "Банковская карта",
        "hold": "Деньги будут заблокированы на карте, пока магазин не подтвердит оплату.",
        "save": "Способ оплаты сохранится: магазин сможет списывать деньги без вас.",
        "pay": "Оплатить",
        "decline": "Отказаться",
        "succeeded": "Оплата прошла",
        "waiting_for_capture": "Деньги заблокированы",
        "canceled": "Оплата не прошла",
        "expired_on_confirmation": "Срок ссылки истёк",
        "succeeded_more": "Магазин уже знает об этом или узнает скоро.",
        "waiting_for_capture_more": "Магазин подтвердит оплату или вернёт деньги.",
        "canceled_more": "Деньги не списаны. Вернитесь в магазин и попробуйте ещё раз.",
        "expired_on_confirmation_more": "Деньги не списаны. Новую ссылку даст магазин.",
        "back": "Вернуться в магазин",
        "unknown": "Такой ссылки нет",
        "unknown_more": "Проверьте адрес или вернитесь в магазин.",
    },
    "en": {
        "note": "A stand-in for YooKassa: no money moves.",
        "name": "English",
        "pay_title": "Pay for the order",
        "how": "How to pay",
        "sbp": "Faster Payments (SBP)",
        "bank_card": "Bank card",
        "hold": "The money stays on hold on the card until the shop confirms the payment.",
        "save": "The shop will be able to charge this method later, without you.",
        "pay": "Pay",
        "decline": "Refuse",
        "succeeded": "Paid",
        "waiting_for_capture": "The money is on hold",
        "canceled": "Not paid",
        "expired_on_confirmation": "The link has expired",
        "succeeded_more": "The shop knows already, or will know soon.",
        "waiting_for_capture_more": "The shop will confirm the payment or return the money.",
        "canceled_more": "Nothing was charged. Go back to the shop and try again.",
        "expired_on_confirmation_more": "Nothing was charged. The shop can give you a new link.",
        "back": "Back to the shop",
        "unknown": "There is no such link",
        "unknown_more": "Check the address, or go back to the shop.",
    },
}
