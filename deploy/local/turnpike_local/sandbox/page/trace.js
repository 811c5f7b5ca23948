// The Trace view: the list of purchases, and the trace of one of them.
//
// The newest purchase is followed until the reader chooses one. The choice is in the address.

import { chosenTrace, keepTrace } from "./address.js";
import { element, find, read } from "./api.js";
import { PurchaseList, described } from "./purchases.js";
import { Waterfall } from "./waterfall.js";

const VERDICTS = { proved: "✓ Proved", incomplete: "Incomplete, no proof", wrong: "✗ Wrong" };

export class TraceView {
  // `sides` shows the acts that are left for the purchase.
  constructor(sides) {
    this.sides = sides;
    this.list = new PurchaseList();
    this.waterfall = new Waterfall();
    this.shown = "";
    find("follow").addEventListener("click", () => this.follow());
    window.addEventListener("hashchange", () => this.refresh().catch(() => null));
  }

  follow() {
    keepTrace("");
    return this.refresh();
  }

  async refresh() {
    await this.list.refresh();
    const chosen = chosenTrace();
    const about = chosen || this.list.newest;
    this.list.choose(about);
    find("follow").hidden = !chosen;
    if (!about) return this.draw({ spans: [], purchase: null }, about);
    const trace = await read(`traces?about=${about}`);
    if (about === (chosenTrace() || this.list.newest)) this.draw(trace, about);
  }

  draw({ spans, purchase, counted }, about) {
    drawCounted(counted);
    this.sides.show(purchase);
    this.waterfall.show(spans, { isNew: about !== this.shown });
    this.shown = about;
    find("trace-of").replaceChildren(...(purchase ? spaced(described(purchase)) : []));
    find("trace-note").replaceChildren(...note(spans, purchase, about));
    find("trace-note").hidden = spans.length > 0;
  }
}

// It is a status, so it changes only when its words do: each change is read aloud.
function drawCounted(counted) {
  const line = find("counted");
  const told = JSON.stringify(counted ?? null);
  if (line.dataset.told === told) return;
  line.dataset.told = told;
  const { verdict, parts, reasons } = counted ?? { verdict: "unpaid", parts: [], reasons: [] };
  line.className = verdict;
  line.hidden = verdict === "unpaid";
  const tag = (part) => (part.is_wrong ? "strong" : "span");
  const texts = parts.map((part) => element(tag(part), {}, part.text));
  const chain = texts.flatMap((text, at) => (at ? [" → ", text] : [text]));
  const why = reasons.length ? [": ", reasons.join(", "), ". Counted: "] : [" by this trace: "];
  line.replaceChildren(element("b", {}, VERDICTS[verdict] ?? ""), ...why, ...chain);
}

const spaced = (parts) => parts.flatMap((part, at) => (at ? [" · ", part] : [part]));

function note(spans, purchase, about) {
  const paragraphs = (...texts) => texts.map((text) => element("p", {}, text));
  if (spans.length) return [];
  if (!about) {
    const promise = "Each step of the payment, from the tap to the key, appears here live.";
    return paragraphs("Buy something in the chat.", promise);
  }
  if (!purchase) return paragraphs("This trace is not known.", "The link may be of another shop.");
  const why = "They have not arrived yet, or the sandbox was started anew since, or newer traces"
    + " took their place.";
  return paragraphs("There are no spans of this purchase.", why);
}
