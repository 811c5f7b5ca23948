// [Try this key] beside each key, and what came of it in a sentence.

import { element } from "./api.js";

export class KeyTrials {
  // `ask` tries a key and returns its outcome and sentence, or null. `grown` is called when a
  // message has become longer.
  constructor(list, ask, grown) {
    this.list = list;
    this.ask = ask;
    this.grown = grown;
    this.known = new Map(); // A message that is drawn again shows its outcome again.
  }

  box(key) {
    const button = element("button", { class: "try", onclick: () => this.attempt(key) });
    const sentence = element("span", { class: "sentence", role: "status" });
    const made = element("span", { class: "trial", "data-key": key }, button, sentence);
    this.fill(made);
    return made;
  }

  async attempt(key) {
    if (this.known.get(key)?.asks) return;
    this.keep(key, { asks: true, sentence: "A client fetches a page through it…" });
    this.keep(key, (await this.ask(key)) ?? { sentence: "" });
  }

  keep(key, trial) {
    this.known.set(key, trial);
    for (const made of this.list.querySelectorAll(".trial")) {
      if (made.dataset.key === key) this.fill(made);
    }
    this.grown();
  }

  fill(made) {
    const { asks = false, outcome = "", sentence = "" } = this.known.get(made.dataset.key) ?? {};
    const [button, said] = made.children;
    button.textContent = asks ? "Trying…" : "Try this key";
    button.setAttribute("aria-disabled", String(asks));
    made.dataset.outcome = outcome;
    said.textContent = sentence;
  }
}
