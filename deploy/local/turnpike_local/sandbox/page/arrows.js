// A list or a table with one tab stop: arrows, Home and End move the focus within it.

const STEPS = {
  ArrowDown: (at) => at + 1,
  ArrowUp: (at) => at - 1,
  Home: () => 0,
  End: (_, last) => last,
};

export function moveWithKeys(container, selector) {
  const items = () => [...container.querySelectorAll(selector)];
  container.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement);
    const step = STEPS[event.key];
    if (at < 0 || !step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    all[Math.min(Math.max(step(at, all.length - 1), 0), all.length - 1)].focus();
  });
  container.addEventListener("focusin", ({ target }) => stopAt(items(), target));
}

// Tab reaches this item of them, or the first one.
export function stopAt(items, wanted) {
  const stop = items.includes(wanted) ? wanted : items[0];
  for (const item of items) item.tabIndex = item === stop ? 0 : -1;
}
