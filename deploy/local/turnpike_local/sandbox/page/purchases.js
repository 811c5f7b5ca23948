// The list of purchases, newest first, a page at a time. Each line is a link to its trace.

import { linkTo } from "./address.js";
import { element, find, read } from "./api.js";
import { amount } from "./chat.js";
import { moveWithKeys, stopAt } from "./arrows.js";

const STATES = {
  waiting: "waiting for payment",
  refused: "payment refused",
  unanswered: "shop did not answer",
  paid: "paid",
  issued: "issued",
  sent: "message sent",
  failed: "failed",
  refunded: "refunded",
  charged_back: "charged back",
};

export class PurchaseList {
  constructor() {
    this.newest = "";
    this.befores = []; // Where each page after the newest begins.
    this.shown = [];
    this.lines = new Map();
    this.chosen = "";
    moveWithKeys(find("purchases"), "a");
    find("older").addEventListener("click", () => this.turn(() => this.befores.push(this.last())));
    find("newer-purchases").addEventListener("click", () => this.turn(() => this.befores.pop()));
  }

  last() {
    return this.shown.at(-1).seq;
  }

  turn(turning) {
    turning();
    return this.refresh();
  }

  async refresh() {
    const before = this.befores.at(-1);
    const page = await read(before === undefined ? "purchases" : `purchases?before=${before}`);
    if (before !== this.befores.at(-1)) return; // The reader turned the page meanwhile.
    this.newest = page.newest ?? "";
    this.shown = page.purchases;
    find("older").hidden = !page.has_older;
    find("newer-purchases").hidden = !this.befores.length;
    this.draw();
  }

  // Lines are kept between reads, and so is the focus.
  draw() {
    const focused = document.activeElement;
    const known = this.lines;
    this.lines = new Map(
      this.shown.map(({ trace_id: id }) => [id, known.get(id) ?? line(id)]),
    );
    for (const one of this.shown) fill(this.lines.get(one.trace_id), one);
    find("purchases").replaceChildren(...this.lines.values());
    if (find("purchases").contains(focused)) focused.focus({ preventScroll: true });
    find("no-purchases").hidden = this.shown.length > 0;
    this.choose(this.chosen);
  }

  choose(traceId) {
    this.chosen = traceId;
    for (const [id, { firstChild: link }] of this.lines) {
      if (id === traceId) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const links = [...this.lines.values()].map(({ firstChild: link }) => link);
    const focused = links.find((link) => link === document.activeElement);
    stopAt(links, focused ?? this.lines.get(traceId)?.firstChild);
  }
}

// The link is made again when it is followed: another person may be chosen by then.
function line(traceId) {
  const renew = ({ currentTarget: link }) => (link.href = linkTo(traceId));
  return element("li", {}, element("a", { onclick: renew }));
}

function fill({ firstChild: link }, purchase) {
  link.href = linkTo(purchase.trace_id);
  const told = JSON.stringify(purchase);
  if (link.dataset.told === told) return;
  link.dataset.told = told;
  const at = new Date(purchase.placed_at * 1000);
  link.replaceChildren(
    ...described(purchase),
    element("time", { datetime: at.toISOString() }, at.toLocaleTimeString("en-GB")),
  );
}

// Name, plan, way, amount and state. The texts of people and of the bot may run from right to left.
export function described(purchase) {
  const { name, title, state } = purchase;
  return [
    element("bdi", { class: "buyer" }, name ?? "not shown to anybody"),
    element("bdi", { class: "plan" }, title),
    element("span", { class: "amount" }, paying(purchase)),
    element("span", { class: `state ${state}` }, STATES[state]),
  ];
}

// "SBP · 149 ₽". The star says already that it was paid in Stars.
function paying({ way, provider, amount: total, currency }) {
  if (!provider) return amount({ total_amount: total, currency });
  const digits = total % 100 ? 2 : 0;
  const value = (total / 100).toFixed(digits);
  return `${way} · ${value}\u00a0${currency === "RUB" ? "₽" : currency}`;
}
