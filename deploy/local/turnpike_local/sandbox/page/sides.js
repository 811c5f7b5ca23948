// Acts at the sides of Telegram and of the payment providers: money given back, planned faults.

import { act, element, find, read } from "./api.js";

const FAULTS = {
  lost: ["Lose the next answer", "The next invoice is opened, and the shop gets no answer"],
  500: ["Error after success", "The next invoice is opened, and the shop gets error 500"],
  notice: ["Drop the next notice", "The next payment is not reported to the shop"],
};

export class Sides {
  // `attempt` shows the sentence of a refusal, `told` a short sentence.
  constructor({ attempt, told }) {
    this.attempt = attempt;
    this.told = told;
    this.shown = "";
  }

  // The buttons of each provider, once.
  async begin() {
    const { providers } = await read("providers");
    find("faults").hidden = providers.length === 0;
    find("faults-of").replaceChildren(...providers.map((title) => this.faultsOf(title)));
  }

  faultsOf(title) {
    const buttons = Object.entries(FAULTS).map(([fault, [label, why]]) => {
      const plan = () => this.attempt(async () => {
        await act(`providers/${encodeURIComponent(title)}/faults`, { fault });
        this.told(`${title}: ${label.toLowerCase()}.`);
      });
      return element("button", { class: "quiet", title: why, onclick: plan }, label);
    });
    const name = element("span", { class: "provider" }, title);
    return element("div", { role: "group", "aria-label": `Faults of ${title}` }, name, ...buttons);
  }

  // The acts that are left for a purchase. They are kept while they are the same, and so is focus.
  show(purchase) {
    const acts = purchase ? actsOf(purchase) : [];
    const shown = JSON.stringify([purchase?.trace_id, acts]);
    if (shown === this.shown) return;
    this.shown = shown;
    find("acts").hidden = acts.length === 0;
    find("acts").replaceChildren(...acts.map(([path, label]) => {
      const does = () => this.attempt(() => act(`purchases/${purchase.trace_id}/${path}`));
      return element("button", { class: "quiet", onclick: does }, label);
    }));
  }
}

function actsOf({ charges, refunds, provider, charged_back: isChargedBack }) {
  if (!charges || refunds || provider === "Crypto Pay") return [];
  const where = provider ?? "Telegram";
  const acts = [["return", `Give the money back at ${where}`]];
  if (provider && !isChargedBack) acts.push(["charge-back", "Charge back by the bank"]);
  return acts;
}
