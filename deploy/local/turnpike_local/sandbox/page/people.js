// The people as tabs. Arrow keys, Home and End go from one to the next.

import { element } from "./api.js";
import { keepFocus } from "./focus.js";

export class PeopleTabs {
  constructor(list, choose) {
    this.list = list;
    this.choose = choose;
    list.addEventListener("keydown", (event) => this.move(event));
  }

  draw(people, chosen, unread) {
    const tabs = people.map((person) => this.tab(person, person.id === chosen, unread));
    const left = this.list.scrollLeft; // A redraw must not change the scroll position.
    keepFocus(() => this.list.replaceChildren(...tabs));
    this.list.scrollLeft = left;
  }

  tab(person, isChosen, unread) {
    const initial = [...person.first_name][0].toUpperCase();
    const face = element("span", { class: "avatar", "aria-hidden": "true" }, initial);
    face.style.setProperty("--hue", (person.id * 137.5) % 360);
    const attributes = {
      role: "tab",
      "aria-selected": String(isChosen),
      "data-part": String(person.id),
      tabindex: isChosen ? "0" : "-1",
      class: unread.has(person.id) ? "unread" : null,
      onclick: () => this.choose(person.id),
    };
    return element("button", attributes, face, element("bdi", {}, person.first_name));
  }

  chosen() {
    return this.list.querySelector("[aria-selected=true]");
  }

  showChosen() {
    this.chosen()?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  move(event) {
    const tabs = [...this.list.children];
    const at = tabs.indexOf(this.chosen());
    const to = {
      ArrowLeft: (at - 1 + tabs.length) % tabs.length,
      ArrowRight: (at + 1) % tabs.length,
      Home: 0,
      End: tabs.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    tabs[to].focus();
    this.choose(Number(tabs[to].dataset.part), { stays: true });
  }
}
