// Dialogs hold the focus while they are open, and give it back when they close.

import { controls, placeOfFocus, returnTo } from "./focus.js";

export function openDialog(dialog) {
  if (dialog.open) return;
  const place = placeOfFocus() ?? {};
  // The browser gives the focus back, unless its control was drawn again meanwhile.
  dialog.addEventListener("close", () => returnTo(place), { once: true });
  dialog.showModal();
}

// Tab goes round within the dialog.
function goRound(event) {
  if (event.key !== "Tab") return;
  const inside = controls(event.currentTarget);
  const [end, begin] = event.shiftKey ? [inside[0], inside.at(-1)] : [inside.at(-1), inside[0]];
  if (document.activeElement !== end) return;
  event.preventDefault();
  begin.focus();
}

export function wireDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("keydown", goRound);
  }
  for (const closes of document.querySelectorAll("[data-closes]")) {
    closes.addEventListener("click", () => closes.closest("dialog").close());
  }
}
