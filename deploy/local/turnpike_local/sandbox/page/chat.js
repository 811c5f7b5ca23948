// One chat as Telegram shows it: bubbles, formatted text, photos, inline keyboards, receipts.

import { element } from "./api.js";

const TAGS = {
  bold: "b",
  italic: "i",
  underline: "u",
  strikethrough: "s",
  blockquote: "blockquote",
  expandable_blockquote: "blockquote",
};

export class ChatView {
  // `acts` holds what a press does: command, press, link, repeat.
  constructor(list, acts) {
    this.list = list;
    this.acts = acts;
    this.shown = new Map();
  }

  clear() {
    this.shown.clear();
    this.list.replaceChildren();
  }

  // Only messages that changed are built again, so that photos do not flicker and focus stays.
  show(messages) {
    const atEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 120;
    const isFirst = this.shown.size === 0;
    const known = new Set();
    let previous = null;
    for (const message of messages) {
      const signature = JSON.stringify(message);
      let kept = this.shown.get(message.message_id);
      if (!kept || kept.signature !== signature) {
        const built = this.bubble(message);
        if (kept) kept.node.replaceWith(built);
        kept = { signature, node: built };
        this.shown.set(message.message_id, kept);
      }
      known.add(message.message_id);
      const after = previous ? previous.nextSibling : this.list.firstChild;
      if (after !== kept.node) this.list.insertBefore(kept.node, after);
      previous = kept.node;
    }
    for (const [id, { node }] of this.shown) {
      if (!known.has(id)) {
        node.remove();
        this.shown.delete(id);
      }
    }
    while (previous?.nextSibling) previous.nextSibling.remove(); // The greeting of an empty chat.
    if (atEnd || isFirst) this.scrollToEnd(isFirst);
  }

  scrollToEnd(atOnce = false) {
    this.list.scrollTo({ top: this.list.scrollHeight, behavior: atOnce ? "instant" : "smooth" });
  }

  bubble(message) {
    if (message.successful_payment) return this.receipt(message);
    if (message.refunded_payment) return service(`Refunded: ${amount(message.refunded_payment)}`);
    const body = element("div", { class: "bubble" });
    for (const size of message.photo?.slice(-1) ?? []) {
      const image = element("img", {
        src: `/sandbox/files/${size.file_id}`,
        alt: "Photo",
        width: size.width,
        height: size.height,
        onload: () => this.scrollToEnd(),
      });
      body.append(image);
    }
    const text = message.text ?? message.caption;
    if (text) {
      const entities = message.entities ?? message.caption_entities ?? [];
      body.append(element("div", { class: "text" }, ...this.formatted(text, entities)));
    }
    if (message.invoice) body.append(invoice(message.invoice));
    body.append(time(message));
    const rows = message.reply_markup?.inline_keyboard ?? [];
    const keyboard = rows.length ? element("div", { class: "keyboard" }, ...rows.map((row, i) => this.row(message, row, i))) : null;
    return element("article", { class: `message ${message.author}`, "data-message": message.message_id }, body, keyboard);
  }

  row(message, buttons, row) {
    const made = buttons.map((button, column) =>
      element(
        "button",
        { class: kind(button), onclick: (event) => this.acts.press(message, button, row, column, event.currentTarget) },
        button.text,
      ),
    );
    return element("div", { class: "row" }, ...made);
  }

  receipt(message) {
    const paid = message.successful_payment;
    const charge = paid.telegram_payment_charge_id;
    return element(
      "article",
      { class: "service", "data-message": message.message_id },
      element("span", {}, `You paid ${amount(paid)}`),
      element(
        "span",
        { class: "again" },
        element("button", { title: "The very same update once more, as after a lost confirmation", onclick: () => this.acts.repeat(charge, "same") }, "Repeat report"),
        element("button", { title: "Another update about the same charge", onclick: () => this.acts.repeat(charge, "new") }, "Report anew"),
      ),
    );
  }

  // Telegram's offsets count UTF-16 units, as JavaScript's strings do.
  formatted(text, entities, begin = 0, end = text.length) {
    const parts = [];
    let position = begin;
    let index = 0;
    while (index < entities.length) {
      const entity = entities[index];
      const inside = [];
      const entityEnd = entity.offset + entity.length;
      while (++index < entities.length && entities[index].offset < entityEnd) inside.push(entities[index]);
      parts.push(text.slice(position, entity.offset));
      const children = this.formatted(text, inside, entity.offset, entityEnd);
      parts.push(this.span(entity, text.slice(entity.offset, entityEnd), children));
      position = entityEnd;
    }
    parts.push(text.slice(position, end));
    return parts;
  }

  span(entity, text, children) {
    if (TAGS[entity.type]) return element(TAGS[entity.type], {}, ...children);
    if (entity.type === "spoiler") {
      return element("button", { class: "spoiler", title: "Show", onclick: (event) => event.currentTarget.classList.add("open") }, ...children);
    }
    if (entity.type === "code" || entity.type === "pre") {
      const copy = element("button", { class: "copy", "aria-label": "Copy code", onclick: () => this.acts.copy(text) });
      return element("span", { class: entity.type }, element("code", {}, ...children), copy);
    }
    if (entity.type === "url" || entity.type === "text_link") {
      const url = entity.url ?? text;
      const follow = (event) => {
        event.preventDefault();
        this.acts.link(url);
      };
      return element("a", { href: url, rel: "noopener noreferrer", onclick: follow }, ...children);
    }
    if (entity.type === "bot_command") {
      return element("button", { class: "command", onclick: () => this.acts.command(text) }, ...children);
    }
    return element("span", {}, ...children);
  }
}

function kind(button) {
  if (button.pay || /^https:\/\/t\.me\/(\$|invoice\/)/.test(button.url ?? "")) return "pays";
  return button.url || button.web_app ? "opens" : button.copy_text ? "copies" : "";
}

function invoice(shown) {
  return element(
    "div",
    { class: "invoice" },
    element("strong", {}, shown.title),
    element("p", {}, shown.description),
    element("span", { class: "price" }, amount(shown)),
  );
}

export function amount({ total_amount: total, currency }) {
  return currency === "XTR" ? `★ ${total.toLocaleString("en")}` : `${(total / 100).toFixed(2)} ${currency}`;
}

function service(text) {
  return element("article", { class: "service" }, element("span", {}, text));
}

function time(message) {
  const at = new Date((message.edit_date ?? message.date) * 1000);
  const clock = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return element("time", { datetime: at.toISOString() }, message.edit_date ? `edited ${clock}` : clock);
}
