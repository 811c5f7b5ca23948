"""The page behind `confirmation_url`: a person pays, refuses, or sees how it ended."""

from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import urlencode

from aiohttp import web

from turnpike_local.standin.pages import local_link, static

from .asked import check_method
from .backend import Backend
from .errors import Refused
from .lifecycle import Payments
from .records import Payment
from .shapes import PAGE_PATH
from .shop import METHODS, MethodType
from .texts import TEXTS, Language

_FOLDER = files(__package__).joinpath("page")
_PAGE = Template(_FOLDER.joinpath("pay.html").read_text("utf-8"))
_HEADERS = {
    "Cache-Control": "no-store",
    # Browsers apply `form-action` to the redirect after a form too; that one stays here.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


class PayPage:
    def __init__(self, backend: Backend, payments: Payments) -> None:
        self._backend = backend
        self._payments = payments

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(PAGE_PATH, self._show),
            web.post(PAGE_PATH, self._act),
            web.get("/checkout/style.css", static(_FOLDER, "style.css")),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        payment = self._backend.state.payment(request.query.get("orderId", ""))
        language = _language(request, payment)
        back = self._back(payment, language)
        if payment is None:
            content = f"{_more('unknown', language)}\n{back}"
            return _page(language, None, "unknown", content, status=404)
        if payment.status == "pending":
            content = f"{self._form(payment, language)}\n{back}"
            return _page(language, payment, "pay_title", content)
        ended = payment.reason if payment.reason == "expired_on_confirmation" else payment.status
        return _page(language, payment, ended, f"{_more(ended, language)}\n{back}")

    async def _act(self, request: web.Request) -> web.Response:
        """Pay or refuse, and show how it ended. A second press only shows it."""
        form = await request.post()
        payment_id = request.query.get("orderId", "")
        try:
            with self._backend.transaction():
                if form.get("act") == "pay":
                    self._payments.pay(payment_id, _chosen(str(form.get("method", ""))))
                else:
                    self._payments.decline(payment_id, "general_decline")
        except Refused as refused:
            if refused.status != 400 or self._backend.payment(payment_id).status == "pending":
                raise
        raise web.HTTPSeeOther(str(request.rel_url))

    def _back(self, payment: Payment | None, language: Language) -> str:
        """The link to the shop; on an unknown link, to the chat of this machine if there is one."""
        chat_url = self._backend.chat_url
        url = local_link(payment.asked.return_url or "", chat_url) if payment else chat_url
        kind = "back" if payment is None or payment.status != "pending" else "leave"
        text = TEXTS[language]["back"]
        return f'<a class="{kind}" href="{escape(url)}">{text}</a>' if url else ""

    def _form(self, payment: Payment, language: Language) -> str:
        texts, methods = TEXTS[language], self._methods(payment)
        choices = [
            f'<label><input type="radio" name="method" value="{method}"'
            f"{' checked' if method == methods[0] else ''}>{texts[method]}</label>"
            for method in methods
        ]
        notes = [
            f'<p class="state">{texts[name]}</p>'
            for name, applies in (
                ("hold", not payment.asked.capture),
                ("save", payment.asked.save),
            )
            if applies
        ]
        return "\n".join(
            [
                '<form method="post">',
                f"<fieldset><legend>{texts['how']}</legend>{''.join(choices)}</fieldset>",
                *notes,
                f'<button class="pay" name="act" value="pay">{texts["pay"]}</button>',
                f'<button name="act" value="decline">{texts["decline"]}</button>',
                "</form>",
            ]
        )

    def _methods(self, payment: Payment) -> list[MethodType]:
        """The methods that can take this payment, the usual one first."""
        if payment.asked.method is not None:
            return [payment.asked.method]
        return [one for one in self._backend.shop.methods if self._can_take(payment, one)]

    def _can_take(self, payment: Payment, method: MethodType) -> bool:
        try:
            check_method(payment.asked, method, self._backend.shop)
        except Refused:
            return False
        return True


def _page(
    language: Language, payment: Payment | None, title: str, content: str, *, status: int = 200
) -> web.Response:
    texts = TEXTS[language]
    other: Language = "en" if language == "ru" else "ru"
    query = {"orderId": payment.id if payment else "", "lang": other}
    page = _PAGE.substitute(
        lang=language,
        title=texts[title],
        note=texts["note"],
        other=other,
        other_name=TEXTS[other]["name"],
        other_url=escape(f"{PAGE_PATH}?{urlencode(query)}"),
        amount=_amount(payment.amount_minor, language) if payment else "",
        description=escape((payment.asked.description or "") if payment else ""),
        content=content,
    )
    return web.Response(text=page, content_type="text/html", headers=_HEADERS, status=status)


def _amount(minor: int, language: Language) -> str:
    rubles, kopecks = divmod(minor, 100)
    thousands, point = ("\u00a0", ",") if language == "ru" else (",", ".")
    return f"{rubles:,}".replace(",", thousands) + f"{point}{kopecks:02d}\u00a0₽"


def _more(name: str, language: Language) -> str:
    return f'<p class="state">{TEXTS[language][f"{name}_more"]}</p>'


def _language(request: web.Request, payment: Payment | None) -> Language:
    """The one that the link, the merchant or the browser asks for; else Russian."""
    locale = payment.asked.locale if payment else None
    browser = request.headers.get("Accept-Language", "")
    asked = request.query.get("lang") or locale or browser
    return "en" if asked.lower().startswith("en") else "ru"


def _chosen(method: str) -> MethodType | None:
    return next((one for one in METHODS if one == method), None)
