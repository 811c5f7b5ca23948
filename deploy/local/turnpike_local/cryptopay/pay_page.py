"""The page on which a person pays an invoice: the address that `bot_invoice_url` leads to."""

from html import escape
from importlib.resources import files

from aiohttp import web

from turnpike_local.standin.clock import iso
from turnpike_local.standin.pages import local_link, no_icon, static

from .amounts import written
from .currencies import FIATS
from .provider import Provider, Unable
from .records import Invoice, Payment, Rate
from .rules import COMMENT_CHARS
from .shapes import in_fiat
from .texts import TEXTS, Language, other

_FOLDER = files(__package__).joinpath("page")
_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# Without it, Enter in the comment would press the first asset.
_ENTER_PAYS_NOTHING = "<button disabled hidden></button>"


class PayPage:
    """Forms without a script. The script only counts the seconds that are left."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[web.RouteDef]:
        invoice = "/pay/{hash:IV[0-9a-f]{16}}"
        return [
            web.get(invoice, self._show),
            web.post(invoice, self._act),
            web.get("/page/style.css", static(_FOLDER, "style.css")),
            web.get("/page/pay.js", static(_FOLDER, "pay.js")),
            web.get("/favicon.ico", no_icon),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        return self._page(request, None)

    async def _act(self, request: web.Request) -> web.Response:
        """Pay or let expire. A second tap finds what the first did, and shows it."""
        form = await request.post()
        invoice = self._invoice(request)
        try:
            if invoice is not None and "expire" in form:
                self._provider.expire(invoice)
            elif invoice is not None:
                self._provider.pay(
                    invoice,
                    str(form.get("asset", "")),
                    anonymously="anonymously" in form,
                    comment=str(form.get("comment", "")),
                )
        except Unable as unable:
            if unable.reason not in ("paid", "expired"):
                return self._page(request, unable.reason)
        raise web.HTTPSeeOther(f"{request.path}?lang={_language(request)}")

    def _invoice(self, request: web.Request) -> Invoice | None:
        return self._provider.state.invoice_of_hash(request.match_info["hash"])

    def _page(self, request: web.Request, problem: str | None) -> web.Response:
        language, invoice = _language(request), self._invoice(request)
        text = TEXTS[language]
        if invoice is None:
            body = _notice("gone", text)
        elif invoice.payment is not None:
            body = _paid(invoice, invoice.payment, self._provider.chat_url, text)
        elif invoice.status(self._provider.now_ms) == "expired":
            body = _notice("expired", text) + f"<p class=soft>{_price(invoice)}</p>"
        else:
            body = self._open(invoice, text, problem)
        title = "" if invoice is None else text["title"].format(number=invoice.invoice_id)
        status = 404 if invoice is None else 409 if problem else 200
        body += self._back(invoice, text)
        return _answer(_whole(language, title or text["gone"], body), status)

    def _back(self, invoice: Invoice | None, text: dict[str, str]) -> str:
        """The way to the chat, unless the shop's button leads there already.

        The real page is itself in Telegram, and a payer only closes it.
        """
        chat_url = self._provider.chat_url
        button = invoice.draft.paid_btn_url if invoice and invoice.payment else None
        if not chat_url or (button and local_link(button, chat_url) == chat_url):
            return ""
        return f'<p><a class=back href="{escape(chat_url)}">{text["back"]}</a></p>'

    def _open(self, invoice: Invoice, text: dict[str, str], problem: str | None) -> str:
        draft, rates = invoice.draft, self._provider.state.rates()
        description = f"<p class=what>{escape(draft.description)}</p>" if draft.description else ""
        warning = f"<p role=alert>{text[f'unable_{problem}']}</p>" if problem else ""
        buttons = "".join(
            self._button(invoice, asset, rates[asset], text) for asset in draft.accepted_assets
        )
        return f"""<p class=soft>{text["to_pay"]}</p>
<p class=sum>{_price(invoice)}</p>{description}{self._left(invoice, text)}{warning}
<form method=post>{_ENTER_PAYS_NOTHING}{_options(invoice, text)}<div class=assets>{buttons}</div>
</form><form method=post><button class=plain name=expire value=1>{text["expire"]}</button></form>"""

    def _button(self, invoice: Invoice, asset: str, rate: Rate, text: dict[str, str]) -> str:
        draft = invoice.draft
        if draft.is_fiat and not rate.is_valid:
            return f"<button disabled>{asset}<small>{text['no_rate']}</small></button>"
        amount = written(self._provider.to_pay(draft, asset, rate))
        small = ""
        if draft.is_fiat:
            price = written(in_fiat(rate, FIATS[draft.currency]))
            at_rate = text["at_rate"].format(asset=asset, rate=price, fiat=draft.currency)
            small = f"<small>{at_rate}</small>"
        label = text["pay"].format(amount=amount, asset=asset)
        return f"<button name=asset value={asset}>{label}{small}</button>"

    def _left(self, invoice: Invoice, text: dict[str, str]) -> str:
        if invoice.expires_at_ms is None:
            return ""
        left_s = max(0, -(-(invoice.expires_at_ms - self._provider.now_ms) // 1000))
        shown = f"{left_s // 3600}:{left_s % 3600 // 60:02}:{left_s % 60:02}"
        return f"<p class=soft>{text['left']}: <time data-left-s={left_s}>{shown}</time></p>"


def _options(invoice: Invoice, text: dict[str, str]) -> str:
    comment = anonymously = ""
    if invoice.draft.allow_comments:
        comment = (
            f"<label class=field>{text['comment']}"
            f"<input name=comment maxlength={COMMENT_CHARS} autocomplete=off></label>"
        )
    if invoice.draft.allow_anonymous:
        box = "<input type=checkbox name=anonymously value=1>"
        anonymously = f"<label class=check>{box}{text['anonymously']}</label>"
    return comment + anonymously


def _price(invoice: Invoice) -> str:
    return f"{invoice.draft.amount} {invoice.draft.currency}"


def _paid(invoice: Invoice, payment: Payment, chat_url: str, text: dict[str, str]) -> str:
    draft = invoice.draft
    at = iso(payment.paid_at_ms)[:16].replace("T", " ")
    how = text["paid_with"].format(amount=payment.amount, asset=payment.asset, at=at)
    message = button = ""
    if draft.hidden_message:
        message = f"<p class=soft>{text['message']}</p><p>{escape(draft.hidden_message)}</p>"
    if draft.paid_btn_name and draft.paid_btn_url:
        link = escape(local_link(draft.paid_btn_url, chat_url))
        button = f'<a class=button href="{link}" rel=noreferrer>{text[draft.paid_btn_name]}</a>'
    return f"""<p class="sum good">✓ {text["paid"]}</p>
<p class=soft>{_price(invoice)}</p><p class=soft>{how}</p>{message}{button}"""


def _notice(name: str, text: dict[str, str]) -> str:
    return f"<p class=sum>{text[name]}</p><p>{text[f'{name}_why']}</p>"


def _whole(language: Language, title: str, body: str) -> str:
    text, there = TEXTS[language], other(language)
    return f"""<!doctype html>
<html lang={language}><head><meta charset=utf-8><title>{title}</title>
<meta name=viewport content="width=device-width, initial-scale=1">
<link rel=stylesheet href=/page/style.css><script src=/page/pay.js defer></script></head>
<body><main><header><h1>{title}</h1>
<a href="?lang={there}" lang={there}>{text["other_language"]}</a></header>
{body}<footer>{text["test"]}</footer></main></body></html>
"""


def _language(request: web.Request) -> Language:
    wanted = str(request.query.get("lang") or request.headers.get("Accept-Language", ""))
    return "ru" if wanted.lower().startswith("ru") else "en"


def _answer(page: str, status: int) -> web.Response:
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": _POLICY}
    return web.Response(text=page, content_type="text/html", status=status, headers=headers)
