// One chat as Telegram shows it: bubbles, formatted text, photos, inline keyboards, receipts.

import { element } from "./api.js";
import { KeyTrials } from "./keys.js";

const TAGS = {
  bold: "b",
  italic: "i",
  underline: "u",
  strikethrough: "s",
  blockquote: "blockquote",
  expandable_blockquote: "blockquote",
};

const NEW_TAB = { target: "_blank", rel: "noopener noreferrer" };

// So near to its end, the list follows new messages.
const NEAR_PX = 60;

export class ChatView {
  // `acts` holds the handlers of presses: command, press, link, copy, repeat, tryKey. `newer` is
  // the button for a reader who scrolled up.
  constructor(list, newer, acts) {
    this.list = list;
    this.newer = newer;
    this.acts = acts;
    this.shown = new Map();
    this.follows = true;
    this.top = 0; // Where the list was scrolled to.
    this.trials = new KeyTrials(list, acts.tryKey, () => this.follow());
    list.addEventListener("scroll", () => this.look());
    newer.addEventListener("click", () => {
      this.scrollToEnd();
      list.focus(); // The button is hidden now.
    });
    new ResizeObserver(() => this.follow()).observe(list);
  }

  clear() {
    this.shown.clear();
    this.list.replaceChildren();
    this.follows = true;
    this.top = 0;
    this.newer.hidden = true;
  }

  // Only changed messages are built again, so that photos do not flicker and focus stays.
  show(messages) {
    const newest = Math.max(0, ...this.shown.keys());
    const known = new Set();
    let previous = null;
    for (const message of messages) {
      const kept = this.kept(message);
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
    this.announce(messages.filter((message) => message.message_id > newest));
  }

  // The node of a message, built again where the message has changed.
  kept(message) {
    const signature = JSON.stringify(message);
    const known = this.shown.get(message.message_id);
    if (known?.signature === signature) return known;
    const node = this.bubble(message);
    known?.node.replaceWith(node);
    const kept = { signature, node };
    this.shown.set(message.message_id, kept);
    return kept;
  }

  // A reader who scrolled up stays there, unless the new message is their own.
  announce(added) {
    if (added.some(({ author }) => author === "person")) this.scrollToEnd();
    this.follow();
    if (added.length && !this.follows) this.newer.hidden = false;
  }

  // Only a reader scrolls up. A list that grew meanwhile is no sign of one.
  look() {
    const { scrollHeight, scrollTop, clientHeight } = this.list;
    if (scrollHeight - scrollTop - clientHeight < NEAR_PX) this.follows = true;
    else if (scrollTop < this.top) this.follows = false;
    if (this.follows) this.newer.hidden = true;
    this.top = scrollTop;
  }

  follow() {
    this.look(); // The event of a reader's scroll may still be on its way.
    if (this.follows) this.scrollToEnd();
  }

  scrollToEnd() {
    this.list.scrollTop = this.list.scrollHeight;
    this.top = this.list.scrollTop;
    this.newer.hidden = true;
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
        onload: () => this.follow(),
      });
      body.append(image);
    }
    const text = message.text ?? message.caption;
    if (text) {
      const entities = message.entities ?? message.caption_entities ?? [];
      body.append(element("bdi", { class: "text" }, ...this.formatted(text, entities)));
    }
    if (message.invoice) body.append(invoice(message.invoice));
    body.append(time(message));
    const rows = message.reply_markup?.inline_keyboard ?? [];
    const keyboard = rows.length ? this.keyboard(message, rows) : null;
    const attributes = { class: `message ${message.author}`, "data-part": message.message_id };
    return element("article", attributes, body, keyboard);
  }

  keyboard(message, rows) {
    const made = rows.map((row, i) => this.row(message, row, i));
    return element("div", { class: "keyboard" }, ...made);
  }

  row(message, buttons, row) {
    const made = buttons.map((button, column) => {
      if (leadsOut(button.url)) return link(button.url, { class: "opens" }, button.text);
      const press = (event) => {
        this.acts.press(message, button, row, column, event.currentTarget);
      };
      return element("button", { class: kind(button), onclick: press }, button.text);
    });
    return element("div", { class: "row" }, ...made);
  }

  receipt(message) {
    const paid = message.successful_payment;
    const charge = paid.telegram_payment_charge_id;
    const same = {
      title: "Send the same update again, as after a lost confirmation",
      onclick: () => this.acts.repeat(charge, "same"),
    };
    const another = {
      title: "Send a new update about the same charge",
      onclick: () => this.acts.repeat(charge, "new"),
    };
    return element(
      "article",
      { class: "service", "data-part": message.message_id },
      element("span", {}, `You paid ${amount(paid)}`),
      element(
        "span",
        { class: "again" },
        element("button", same, "Repeat report"),
        element("button", another, "New report"),
      ),
    );
  }

  // Telegram's offsets count UTF-16 units, like JavaScript's strings.
  formatted(text, entities, begin = 0, end = text.length) {
    const parts = [];
    let position = begin;
    let index = 0;
    while (index < entities.length) {
      const entity = entities[index];
      const inside = [];
      const entityEnd = entity.offset + entity.length;
      while (++index < entities.length && entities[index].offset < entityEnd) {
        inside.push(entities[index]);
      }
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
      const open = (event) => event.currentTarget.classList.add("open");
      return element("button", { class: "spoiler", title: "Show", onclick: open }, ...children);
    }
    if (entity.type === "code" || entity.type === "pre") {
      const attributes = { class: "copy", "aria-label": "Copy code" };
      const copy = element("button", { ...attributes, onclick: () => this.acts.copy(text) });
      const code = element("span", { class: entity.type }, element("code", {}, ...children), copy);
      return text.startsWith("vless://") ? element("span", {}, code, this.trials.box(text)) : code;
    }
    if (entity.type === "url" || entity.type === "text_link") {
      const url = entity.url ?? text;
      if (leadsOut(url)) return link(url, {}, ...children);
      const follow = (event) => {
        event.preventDefault();
        this.acts.link(url);
      };
      return element("a", { href: url, rel: "noopener noreferrer", onclick: follow }, ...children);
    }
    if (entity.type === "bot_command") {
      const send = () => this.acts.command(text);
      return element("button", { class: "command", onclick: send }, ...children);
    }
    return element("span", {}, ...children);
  }
}

// A link out of Telegram. The browser opens it by itself: a script that waits for an answer first
// may be taken for an advertisement.
function link(url, attributes, ...children) {
  return element("a", { href: url, ...NEW_TAB, ...attributes }, ...children);
}

const leadsOut = (url) => /^https?:\/\/(?!t\.me(?:[/:?#]|$))/i.test(url ?? "");

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
  if (currency === "XTR") return `★ ${total.toLocaleString("en")}`;
  return `${(total / 100).toFixed(2)}\u00a0${sign(currency)}`;
}

export const sign = (currency) => ({ XTR: "★", RUB: "₽" })[currency] ?? currency;

function service(text) {
  return element("article", { class: "service" }, element("span", {}, text));
}

function time(message) {
  const at = new Date((message.edit_date ?? message.date) * 1000);
  const clock = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const shown = message.edit_date ? `edited ${clock}` : clock;
  return element("time", { datetime: at.toISOString() }, shown);
}
