// The focus outlives a redraw: it stays on the same control, or goes to a sensible neighbour.
//
// What is redrawn is marked by data-part. A place names a part, and a control within it.

const CONTROLS = "button, a[href], input, select, textarea, summary, [tabindex='0']";

// The controls within `root` that can have the focus, in their order.
export function controls(root) {
  const all = [...root.querySelectorAll(CONTROLS)];
  return all.filter((one) => !one.disabled && one.checkVisibility({ visibilityProperty: true }));
}

// Draw again without losing the focus.
export function keepFocus(redraw) {
  const place = placeOfFocus();
  redraw();
  returnTo(place);
}

export function placeOfFocus() {
  const focused = document.activeElement;
  if (!focused || focused === document.body) return null;
  const part = focused.closest("[data-part]");
  if (!part) return {};
  const siblings = [...part.parentElement.querySelectorAll(":scope > [data-part]")];
  const at = siblings.indexOf(part);
  const name = (one) => one.dataset.part;
  return {
    list: part.parentElement,
    names: [part, ...siblings.slice(at + 1), ...siblings.slice(0, at).reverse()].map(name),
    label: labelOf(focused),
    index: within(part).indexOf(focused),
  };
}

// Put a lost focus back to its place.
export function returnTo(place) {
  if (place && isLost()) (nearest(place) ?? composer()).focus({ preventScroll: true });
}

// The field of the chat, or the button in its place.
export const composer = () =>
  ["text", "start"].map((id) => document.getElementById(id)).find((one) => one.checkVisibility());

function isLost() {
  const focused = document.activeElement;
  return !focused || focused === document.body || !focused.checkVisibility();
}

function nearest({ list, names = [], label, index }) {
  for (const name of names) {
    const part = list.querySelector(`:scope > [data-part="${CSS.escape(name)}"]`);
    const inside = part ? within(part) : [];
    if (!inside.length) continue;
    if (name !== names[0]) return inside[0];
    const same = inside.filter((one) => labelOf(one) === label);
    const exact = same.includes(inside[index]) ? inside[index] : same[0];
    return exact ?? inside[Math.min(Math.max(index, 0), inside.length - 1)];
  }
  return null;
}

const within = (part) => (part.matches("[role=tab]") ? [part] : controls(part));

const labelOf = (node) => node.getAttribute("aria-label") ?? node.textContent;
