// The spans of one trace as a waterfall.
//
// Each span is a line, each service has a colour, and idle time is folded.

import { element, find, hue } from "./api.js";
import { moveWithKeys, stopAt } from "./arrows.js";
import { inTree } from "./tree.js";

// The hue of each service, by the service.name of its spans.
const COLOURS = {
  "bot-gateway": 210,
  "payments": 140,
  "referrals": 270,
  "vpn-provisioner": 30,
  "notifier": 330,
};
const IDLE_MS = 150; // In a longer pause a person reads. It is folded.
const FOLD = 0.05; // The width of a fold, as a share of the busy time.
const LINES = 400;
const DEEPEST = 8; // Deeper levels are not indented further.

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

export class Waterfall {
  constructor() {
    this.spans = [];
    this.open = new Set();
    moveWithKeys(find("waterfall"), ".name");
    find("details").addEventListener("change", () => this.draw());
  }

  // Shows these spans. Those of another trace begin at the top.
  show(spans, { isNew }) {
    this.spans = spans;
    if (isNew) {
      this.open.clear();
      find("waterfall").scrollTop = 0;
    }
    this.draw();
  }

  draw() {
    const waterfall = find("waterfall");
    const tree = inTree(this.spans, this.filter());
    this.countHidden(this.spans.length - tree.length);
    if (!tree.length) {
      find("legend").replaceChildren();
      find("trace-summary").textContent = "";
      waterfall.replaceChildren();
      return;
    }
    const shown = tree.map(({ span }) => span);
    const axis = new Axis(shown);
    const services = [...new Set(shown.map((span) => span.service))];
    find("legend").replaceChildren(...services.map((service) => chip(service)));
    const ms = (axis.end - axis.begin) / 1e6;
    const idle = axis.folds.length ? `, ${format(axis.foldedMs)} of it waiting for a person` : "";
    const steps = `${count(shown.length, "step")} in ${count(services.length, "service")}`;
    const cut = tree.length > LINES ? `; the first ${LINES} are shown` : "";
    find("trace-summary").textContent = `${steps}, ${format(ms)}${idle}${cut}`;
    const lines = tree.slice(0, LINES).map(({ span, level }) => this.line(span, axis, level));
    const focused = document.activeElement?.closest?.("#waterfall .span")?.dataset.id;
    waterfall.replaceChildren(header(), ...lines);
    const again = focused && lineOf(focused)?.querySelector(".name");
    again?.focus({ preventScroll: true });
    stopAt([...waterfall.querySelectorAll(".name")], again);
  }

  // Calls of a service to others, such as SQL and HTTP, are spans of kind "client". One that
  // failed is always visible.
  filter() {
    const all = find("details").checked;
    return (span) => all || span.kind !== "client" || span.status === "error";
  }

  countHidden(number) {
    find("hidden-count").textContent = number ? `${number} hidden` : "";
  }

  line(span, axis, level) {
    const bar = element("span", { class: "bar-of-span" });
    const left = axis.place(span.start_ns);
    bar.style.left = `${left}%`;
    bar.style.width = `${Math.max(axis.place(span.end_ns) - left, 0.4)}%`;
    const since = (span.start_ns - axis.begin) / 1e6;
    const took = (span.end_ns - span.start_ns) / 1e6;
    const head = element(
      "div",
      { class: "span-head", role: "row", onclick: () => this.toggle(span.span_id) },
      element("span", { class: "since", role: "cell" }, format(since)),
      element("span", { class: "cell", role: "cell" }, named(span, level)),
      element("span", { class: "track", "aria-hidden": "true" }, ...axis.folds.map(fold), bar),
      element("span", { class: "took", role: "cell" }, format(took)),
    );
    const attributes = { class: `span ${span.kind} ${span.status}`, role: "rowgroup" };
    const line = element("div", attributes, head);
    line.style.setProperty("--hue", colour(span.service));
    Object.assign(line.dataset, { span: span.name, level, id: span.span_id });
    this.openOrClose(line, span);
    return line;
  }

  toggle(spanId) {
    if (!this.open.delete(spanId)) this.open.add(spanId);
    const span = this.spans.find((one) => one.span_id === spanId);
    this.openOrClose(lineOf(spanId), span);
  }

  // The attributes of an open span are a second row.
  openOrClose(line, span) {
    const isOpen = this.open.has(span.span_id);
    line.querySelector(".name").setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) return line.querySelector(".events")?.remove();
    return line.append(element("div", { class: "events", role: "row" }, attributesOf(span)));
  }
}

const lineOf = (spanId) => find("waterfall").querySelector(`[data-id="${spanId}"]`);

function header() {
  const columns = ["Start", "Span", "Took"].map((text) =>
    element("span", { role: "columnheader" }, text),
  );
  const row = element("div", { role: "row" }, ...columns);
  return element("div", { class: "unseen", role: "rowgroup" }, row);
}

// Time from left to right, with folded pauses.
class Axis {
  constructor(spans) {
    const busy = [];
    const byStart = [...spans].sort((a, b) => a.start_ns - b.start_ns);
    for (const { start_ns: start, end_ns: end } of byStart) {
      const last = busy.at(-1);
      if (last && start <= last.end + IDLE_MS * 1e6) last.end = Math.max(last.end, end);
      else busy.push({ start, end });
    }
    const worked = busy.reduce((sum, piece) => sum + piece.end - piece.start, 0);
    const fold = Math.max(worked * FOLD, 1);
    let width = 0;
    this.pieces = busy.map(({ start, end }) => {
      const piece = { start, end, at: width };
      width += end - start + fold;
      return piece;
    });
    this.width = Math.max(width - fold, 1);
    this.begin = busy[0].start;
    this.end = busy.at(-1).end;
    this.folds = this.pieces.slice(1).map((piece) => (100 * (piece.at - fold / 2)) / this.width);
    this.foldedMs = (this.end - this.begin - worked) / 1e6;
  }

  place(ns) {
    const piece = this.pieces.findLast((one) => one.start <= ns) ?? this.pieces[0];
    return (100 * (piece.at + Math.min(ns, piece.end) - piece.start)) / this.width;
  }
}

function fold(at) {
  const made = element("span", { class: "fold" });
  made.style.left = `${at}%`;
  return made;
}

function named(span, level) {
  const told = `level ${level}, ${span.service}: `;
  const failure = span.status === "error" ? element("span", { class: "unseen" }, ", failed") : null;
  const attributes = { class: "name", type: "button", title: `${span.service}: ${span.name}` };
  const unseen = element("span", { class: "unseen" }, told);
  const name = element("button", attributes, unseen, span.name, failure);
  name.style.setProperty("--depth", Math.min(level - 1, DEEPEST));
  return name;
}

function attributesOf(span) {
  const shown = (value) => (typeof value === "object" ? JSON.stringify(value) : `${value}`);
  const entries = Object.entries(span.attributes).map(([key, value]) => [key, shown(value)]);
  if (span.status_message) entries.unshift(["error", span.status_message]);
  entries.push(["span", span.span_id], ["trace", span.trace_id]);
  const pairs = entries.flatMap(([key, value]) => [
    element("dt", {}, key),
    element("dd", {}, value),
  ]);
  const attributes = { role: "cell", "aria-colspan": "3" };
  return element("div", attributes, element("dl", {}, ...pairs));
}

function chip(service) {
  const made = element("span", { class: "chip" }, service);
  made.style.setProperty("--hue", colour(service));
  return made;
}

function colour(service) {
  return COLOURS[service] ?? hue(service);
}

function format(ms) {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}
