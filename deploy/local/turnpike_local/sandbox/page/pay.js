// The pay sheet: one invoice, its payment, and the answer of the shop.

import { find } from "./api.js";
import { amount, sign } from "./chat.js";
import { openDialog } from "./dialogs.js";

export class PaySheet {
  // `acts` holds pay(slug), which returns the answer of the sandbox, paid(invoice), and
  // addStars(least), which returns the new balance.
  constructor(acts) {
    this.acts = acts;
    this.invoice = null;
    this.asks = false;
    find("pay-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.asks) this.confirm();
    });
    find("pay-add-stars").addEventListener("click", () => this.addStars());
  }

  get isOpen() {
    return find("pay-dialog").open;
  }

  open(invoice, stars) {
    this.invoice = invoice;
    find("pay-coin").textContent = sign(invoice.currency);
    find("pay-title").textContent = invoice.title;
    find("pay-description").textContent = invoice.description;
    find("pay-price").textContent = amount(invoice);
    this.showBalance(stars);
    find("pay-outcome").textContent = "";
    this.label(`Confirm and pay ${amount(invoice)}`);
    openDialog(find("pay-dialog"));
  }

  showBalance(stars) {
    if (!this.invoice) return;
    const inStars = this.invoice.currency === "XTR";
    const balance = `Balance: ★ ${stars.toLocaleString("en")} test Stars`;
    find("pay-balance").textContent = inStars ? balance : "Test card";
    this.missing = inStars ? this.invoice.total_amount - stars : 0;
    find("pay-add-stars").hidden = this.missing <= 0;
  }

  async addStars() {
    const stars = await this.acts.addStars(this.missing);
    if (stars === null) return;
    this.showBalance(stars);
    find("pay-outcome").textContent = "";
    find("pay-confirm").focus();
  }

  // A button that waits keeps the focus, so it is not disabled.
  label(text, { asks = false } = {}) {
    this.asks = asks;
    find("pay-confirm").setAttribute("aria-disabled", String(asks));
    find("pay-confirm").textContent = text;
  }

  async confirm() {
    const { invoice } = this;
    find("pay-outcome").textContent = "";
    this.label("Asking the shop…", { asks: true });
    const paid = await this.acts.pay(invoice.slug);
    const isShown = this.isOpen && this.invoice === invoice; // Escape closes it meanwhile.
    if (paid?.paid) {
      if (isShown) find("pay-dialog").close();
      this.acts.paid(invoice);
    } else if (isShown) {
      this.label("Try again");
      find("pay-outcome").textContent = paid?.error ?? "";
    }
  }
}
