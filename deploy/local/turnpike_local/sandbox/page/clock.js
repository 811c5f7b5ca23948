// The shop's clock: its time in the bar, and a dialog that moves it ahead.

import { act, find, read } from "./api.js";
import { openDialog } from "./dialogs.js";

const DRAW_EVERY_MS = 5000;
const SHORT = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };
const LONG = { ...SHORT, month: "long", year: "numeric" };
const UTC = { timeZone: "UTC", hourCycle: "h23" };

export class ShopClock {
  constructor() {
    this.offset_ms = 0;
    this.moving = false;
    find("clock").addEventListener("click", () => {
      find("clock-outcome").textContent = "";
      openDialog(find("clock-dialog"));
    });
    for (const button of document.querySelectorAll("[data-ahead]")) {
      button.addEventListener("click", () => this.move(Number(button.dataset.ahead)));
    }
    setInterval(() => this.draw(), DRAW_EVERY_MS);
  }

  async refresh() {
    this.show(await read("clock"));
  }

  // A second press during a move would move twice.
  async move(by_s) {
    if (this.moving) return;
    this.moving = true;
    find("clock-outcome").textContent = "";
    try {
      this.show(await act("clock", { by_s }));
    } catch (error) {
      find("clock-outcome").textContent = error.message;
    } finally {
      this.moving = false;
    }
  }

  show({ now_s, ahead_s, moves }) {
    this.offset_ms = now_s * 1000 - Date.now();
    find("clock").hidden = !moves;
    const hours = Math.round(ahead_s / 3600);
    const [days, rest] = [Math.floor(hours / 24), hours % 24];
    const ahead = [days && `${days} d`, rest && `${rest} h`].filter(Boolean).join(" ");
    find("clock-ahead").textContent = ahead ? `${ahead} ahead` : "The real time";
    this.draw();
  }

  draw() {
    const now = new Date(Date.now() + this.offset_ms);
    find("clock-time").textContent = now.toLocaleString("en-GB", { ...SHORT, ...UTC });
    find("shop-time").textContent = `${now.toLocaleString("en-GB", { ...LONG, ...UTC })} UTC`;
  }
}
