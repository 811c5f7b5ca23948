// The newest trace of a payment as a waterfall: one line a span, one colour a service, idle time folded.

import { element, find, hue, read } from "./api.js";

// Hues, under the names that spans bear (service.name).
const COLOURS = {
  "turnpike-bot": 210,
  "turnpike-payments": 140,
  "turnpike-referrals": 270,
  "turnpike-vpn": 30,
  "turnpike-notifier": 330,
};
const IDLE_MS = 150; // A longer pause is a person reading; it is folded.
const FOLD = 0.05; // Its width, as a share of the busy time.
const LINES = 400;

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

export class StoryView {
  constructor() {
    this.pinned = "";
    this.spans = [];
    this.open = new Set();
    find("trace").addEventListener("change", (event) => this.pin(event.currentTarget.value));
    find("details").addEventListener("change", () => this.draw());
  }

  pin(traceId) {
    this.pinned = traceId;
    return this.refresh();
  }

  async refresh() {
    const { traces, newest_story: newest } = await read("traces");
    this.list(traces.filter((trace) => trace.story));
    const about = this.pinned || newest;
    if (!about) return this.draw();
    this.spans = (await read(`traces?about=${about}`)).spans;
    this.draw();
  }

  list(stories) {
    const picked = find("trace");
    const options = stories.map((trace) => {
      const at = new Date(trace.start_ns / 1e6).toLocaleTimeString("en-GB");
      return element("option", { value: trace.trace_id }, `${at} · ${trace.trace_id.slice(0, 8)}`);
    });
    picked.replaceChildren(element("option", { value: "" }, "newest"), ...options);
    picked.value = stories.some((trace) => trace.trace_id === this.pinned) ? this.pinned : "";
  }

  draw() {
    const waterfall = find("waterfall");
    const shown = this.visible();
    if (!shown.length) {
      find("legend").replaceChildren();
      waterfall.replaceChildren(empty());
      return;
    }
    const axis = new Axis(shown);
    const depths = depthOf(shown);
    const services = [...new Set(shown.map((span) => span.service))];
    find("legend").replaceChildren(...services.map((service) => chip(service)));
    const ms = (axis.end - axis.begin) / 1e6;
    const idle = axis.folds.length ? `, ${format(axis.foldedMs)} of it waiting for a person` : "";
    find("story-summary").textContent = `${count(shown.length, "step")} in ${count(services.length, "service")}, ${format(ms)}${idle}`;
    waterfall.replaceChildren(...shown.map((span) => this.line(span, axis, depths.get(span.span_id) ?? 0)));
  }

  // SQL, HTTP and the like are what a service asks of others: kind "client".
  visible() {
    const all = find("details").checked;
    return this.spans.filter((span) => all || span.kind !== "client").slice(0, LINES);
  }

  line(span, axis, depth) {
    const bar = element("span", { class: "bar-of-span" });
    const left = axis.place(span.start_ns);
    bar.style.left = `${left}%`;
    bar.style.width = `${Math.max(axis.place(span.end_ns) - left, 0.4)}%`;
    const since = (span.start_ns - axis.begin) / 1e6;
    const took = (span.end_ns - span.start_ns) / 1e6;
    const head = element(
      "summary",
      { class: "span-head" },
      element("span", { class: "since" }, format(since)),
      named(span, depth),
      element("span", { class: "track" }, ...axis.folds.map(fold), bar),
      element("span", { class: "took" }, format(took)),
    );
    const remember = ({ currentTarget: line }) => (line.open ? this.open.add(span.span_id) : this.open.delete(span.span_id));
    const attributes = { class: `span ${span.kind} ${span.status}`, open: this.open.has(span.span_id), ontoggle: remember };
    const line = element("details", attributes, head, facts(span));
    line.style.setProperty("--hue", colour(span.service));
    return line;
  }
}

// Time from left to right, in which pauses are folded.
class Axis {
  constructor(spans) {
    const busy = [];
    for (const { start_ns: start, end_ns: end } of [...spans].sort((a, b) => a.start_ns - b.start_ns)) {
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

function depthOf(spans) {
  const byId = new Map(spans.map((span) => [span.span_id, span]));
  const depths = new Map();
  const depth = (span) => {
    if (!depths.has(span.span_id)) {
      depths.set(span.span_id, 0); // Also ends a circle, which a broken export could hold.
      const parent = byId.get(span.parent_id);
      depths.set(span.span_id, parent ? depth(parent) + 1 : 0);
    }
    return depths.get(span.span_id);
  };
  spans.forEach(depth);
  return depths;
}

function fold(at) {
  const made = element("span", { class: "fold" });
  made.style.left = `${at}%`;
  return made;
}

function named(span, depth) {
  const name = element("span", { class: "name", title: `${span.service}: ${span.name}` }, element("em", {}, span.service), span.name);
  name.style.setProperty("--depth", Math.min(depth, 8));
  return name;
}

function facts(span) {
  const entries = Object.entries(span.attributes).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : `${value}`]);
  if (span.status_message) entries.unshift(["error", span.status_message]);
  entries.push(["span", span.span_id], ["trace", span.trace_id]);
  const pairs = entries.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)]);
  return element("dl", { class: "facts" }, ...pairs);
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

function empty() {
  return element(
    "div",
    { class: "empty" },
    element("p", {}, "Buy something in the chat."),
    element("p", {}, "Each step of the payment, from the tap to the key, appears here while it happens."),
  );
}
