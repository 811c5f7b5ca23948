// The page: people as tabs, the chat of one person, and dialogs for payments and links.

import { chosenPerson, chosenTrace, keepPerson } from "./address.js";
import { act, element, find, read } from "./api.js";
import { ChatView, amount } from "./chat.js";
import { ShopClock } from "./clock.js";
import { openDialog, wireDialogs } from "./dialogs.js";
import { composer, keepFocus } from "./focus.js";
import { PaySheet } from "./pay.js";
import { PeopleTabs } from "./people.js";
import { Sides } from "./sides.js";
import { TraceView } from "./trace.js";

const TYPING_MS = 5000;
const TOAST_MS = 3000;
const STARS_ADDED = 10_000;

const page = {
  people: [],
  chosen: null,
  chat: null,
  bot: null,
  unread: new Set(),
  toastSeen: new Map(),
};

const sides = new Sides({ attempt, told: (text) => toast(text) });
const trace = new TraceView(sides);
const shopClock = new ShopClock();
const tabs = new PeopleTabs(find("people"), choose);
const sheet = new PaySheet({
  pay: (invoice) => attempt(() => act(`people/${page.chosen}/pay`, { invoice })),
  paid: (invoice) => toast(`Paid ${amount(invoice)}`),
  addStars,
});
const view = new ChatView(find("messages"), find("newer"), {
  press,
  link: follow,
  copy,
  command: (text) => say(text),
  tryKey: (key) => attempt(() => act(`people/${page.chosen}/try`, { key })),
  repeat: (charge, as) => attempt(async () => {
    await act(`payments/${charge}/repeat`, { as });
    const sent = { same: "The same update is sent again.", new: "A new update is sent." };
    toast(sent[as]);
  }),
});

// People

async function refreshPeople() {
  page.people = (await read("people")).people;
  const known = page.people.some((person) => person.id === page.chosen);
  if (!known) {
    const linked = page.people.find((person) => person.id === chosenPerson());
    page.chosen = linked?.id ?? page.people[0]?.id ?? null;
  }
  drawPeople();
  if (!known) await refreshChat(); // The events of this chat may have come before.
}

function drawPeople() {
  tabs.draw(page.people, page.chosen, page.unread);
}

// `stays` leaves the focus where it is.
async function choose(personId, { stays = false } = {}) {
  page.chosen = personId;
  page.unread.delete(personId);
  keepPerson(personId);
  keepFocus(() => view.clear());
  find("toasts").replaceChildren();
  drawPeople();
  tabs.showChosen();
  await refreshChat();
  if (!stays) composer()?.focus();
}

async function newPerson(form) {
  return act("people", {
    first_name: form.get("first_name"),
    username: form.get("username") ?? "",
    language_code: form.get("language_code"),
    stars: Number(form.get("stars") ?? 10_000),
  });
}

// The chat

async function refreshChat() {
  const personId = page.chosen;
  if (personId === null) return drawChat(null);
  const chat = await read(`people/${personId}/chat`);
  if (personId === page.chosen) keepFocus(() => drawChat(chat));
}

function drawChat(chat) {
  page.chat = chat;
  const person = chat?.person;
  find("stars").textContent = person ? `★ ${person.stars.toLocaleString("en")}` : "";
  find("add-stars").hidden = !person;
  if (person) sheet.showBalance(person.stars);
  find("block").hidden = !person?.started;
  find("block").textContent = person?.blocked ? "Unblock bot" : "Block bot";
  find("start").hidden = Boolean(person?.started && !person.blocked);
  const start = person?.blocked ? "Restart" : "Start";
  find("start").textContent = person ? start : "Add the first person";
  find("say").hidden = !person?.started || person.blocked;
  find("menu").hidden = !chat?.commands.length;
  find("commands").replaceChildren(...(chat?.commands ?? []).map(command));
  if (chat?.messages.length) view.show(chat.messages);
  else {
    view.clear();
    find("messages").replaceChildren(greeting());
  }
  if (!chat) return;
  showNewToasts(chat);
}

function command({ command: name, description }) {
  const send = () => {
    openMenu(false);
    find("menu").focus();
    say(`/${name}`);
  };
  const label = element("b", {}, `/${name}`);
  const button = element("button", { type: "button", onclick: send }, label, ` ${description}`);
  return element("li", { "data-part": name }, button);
}

function greeting() {
  return element(
    "div",
    { class: "greeting" },
    element("p", {}, "A shop inside a chat, with test money."),
    element("p", {}, page.people.length ? "Press Start." : "Add a person and press Start."),
  );
}

// Toasts from before the chat was opened are not shown again.
function showNewToasts(chat) {
  const newest = chat.toasts.at(-1)?.id ?? 0;
  const seen = page.toastSeen.get(chat.person.id);
  page.toastSeen.set(chat.person.id, newest);
  if (seen === undefined) return;
  for (const one of chat.toasts.filter(({ id }) => id > seen)) {
    if (one.kind === "payment" && sheet.isOpen) continue; // It is on the pay sheet.
    if (one.alert) alertWith(one.text);
    else toast(one.text);
  }
}

function toast(text, ...more) {
  const made = element("div", { class: "toast" }, element("bdi", {}, text), ...more);
  find("toasts").append(made);
  setTimeout(() => made.remove(), TOAST_MS);
}

function alertWith(text) {
  find("alert-text").textContent = text;
  openDialog(find("alert-dialog"));
}

function showTyping() {
  find("status").textContent = "typing…";
  clearTimeout(page.typing);
  page.typing = setTimeout(() => (find("status").textContent = "bot"), TYPING_MS);
}

// Acts

async function attempt(doing) {
  try {
    return await doing();
  } catch (error) {
    alertWith(error.message);
    return null;
  }
}

const say = (text) => attempt(() => act(`people/${page.chosen}/say`, { text }));

// As many as always, or as many as are missing. Returns the new balance, or null.
async function addStars(least = 0) {
  const add = Math.max(STARS_ADDED, least);
  const added = await attempt(() => act(`people/${page.chosen}/stars`, { add }));
  return added?.stars ?? null;
}

async function press(message, button, row, column, pressed) {
  if (button.url && startLink(button.url)) return follow(button.url);
  pressed.classList.add("pressed");
  setTimeout(() => pressed.classList.remove("pressed"), 600);
  // The data of the button as it was seen: the message may have another keyboard by now.
  const seen = button.callback_data ? { data: button.callback_data } : { row, column };
  const body = { message_id: message.message_id, ...seen };
  const opened = await attempt(() => act(`people/${page.chosen}/press`, body));
  return opened && show(opened);
}

function show(opened) {
  if (opened.opens === "invoice") sheet.open(opened.invoice, page.chat.person.stars);
  else if (opened.opens === "copy") copy(opened.text);
  else if (opened.opens === "link") showLink(opened.url);
}

async function follow(url) {
  const link = startLink(url);
  if (link) return askForFollower(link);
  const opened = await attempt(() => act(`people/${page.chosen}/open`, { url }));
  return opened && show(opened);
}

// A link that starts the bot, also one inside Telegram's share link.
function startLink(url) {
  let parts;
  try {
    parts = new URL(url);
  } catch {
    return null;
  }
  if (parts.hostname !== "t.me") return null;
  if (parts.pathname === "/share/url") return startLink(parts.searchParams.get("url") ?? "");
  const isOurs = parts.pathname.slice(1).toLowerCase() === page.bot?.username.toLowerCase();
  return isOurs && parts.searchParams.get("start") ? url : null;
}

function showLink(url) {
  const leads = /^https?:/.test(url);
  const attributes = { href: url, target: "_blank", rel: "noopener noreferrer" };
  toast("This opens ", leads ? element("a", attributes, url) : url);
}

function startBot() {
  const url = `https://t.me/${page.bot.username}`;
  return attempt(() => act(`people/${page.chosen}/open`, { url }));
}

async function copy(text) {
  await navigator.clipboard?.writeText(text).catch(() => null);
  toast("Copied");
}

// Dialogs

function askForFollower(url) {
  find("link-address").textContent = url;
  const others = page.people.map((person) => {
    const attributes = { type: "button", class: "quiet", onclick: () => followAs(person.id, url) };
    return element("button", attributes, element("bdi", {}, person.first_name));
  });
  find("link-people").replaceChildren(...others);
  find("link-form").reset();
  find("link-form").dataset.url = url;
  openDialog(find("link-dialog"));
}

async function followAs(personId, url) {
  find("link-dialog").close();
  await refreshPeople();
  await choose(personId);
  await attempt(() => act(`people/${personId}/open`, { url }));
}

function openMenu(opened) {
  find("commands").hidden = !opened;
  find("menu").setAttribute("aria-expanded", String(opened));
}

function askForPerson() {
  find("person-form").reset();
  openDialog(find("person-dialog"));
}

// Wiring

find("add-person").addEventListener("click", askForPerson);
find("start").addEventListener("click", () => {
  if (page.chosen === null) askForPerson();
  else startBot();
});
find("add-stars").addEventListener("click", () => addStars());
find("block").addEventListener("click", () =>
  attempt(() => act(`people/${page.chosen}/${page.chat.person.blocked ? "unblock" : "block"}`)),
);
find("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = find("text").value.trim();
  find("text").value = "";
  if (text) say(text);
});
find("menu").addEventListener("click", () => openMenu(find("commands").hidden));
find("commands").addEventListener("focusout", ({ relatedTarget: next }) => {
  if (next && !next.closest(".menu")) openMenu(false); // Tab left the list.
});
document.addEventListener("click", (event) => {
  if (!event.target.closest(".menu")) openMenu(false);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || find("commands").hidden) return;
  openMenu(false);
  find("menu").focus();
});
find("person-form").addEventListener("submit", (event) => {
  const form = new FormData(event.currentTarget);
  attempt(async () => {
    const person = await newPerson(form);
    await refreshPeople();
    await choose(person.id);
  });
});
find("link-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const { currentTarget: form } = event;
  const wanted = new FormData(form);
  if (!wanted.get("first_name").trim()) return;
  attempt(async () => followAs((await newPerson(wanted)).id, form.dataset.url));
});
wireDialogs();
for (const button of document.querySelectorAll("[data-shows]")) {
  button.addEventListener("click", () => showView(button.dataset.shows));
}

// On a narrow page one of the two is shown.
function showView(name) {
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll("[data-shows]")) {
    button.setAttribute("aria-pressed", String(button.dataset.shows === name));
  }
}

// Events

// Many events within a short time cause one read.
function soon(doing, pause_ms) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    setTimeout(() => {
      waits = false;
      doing().catch(() => null); // The sandbox is away. The stream reconnects and reads all again.
    }, pause_ms);
  };
}

const chatSoon = soon(refreshChat, 20);
const peopleSoon = soon(refreshPeople, 20);
const traceSoon = soon(() => trace.refresh(), 250);
const clockSoon = soon(() => shopClock.refresh(), 20);

function receive(event) {
  if (event.kind === "everything" || event.kind === "people") peopleSoon();
  if (event.kind === "everything" || event.kind === "clock") clockSoon();
  if (event.kind !== "typing") traceSoon(); // A payment shows in its chat before its spans arrive.
  if (event.kind === "everything" || event.kind === "people") chatSoon();
  if (event.kind === "typing" && event.person === page.chosen) showTyping();
  if (event.kind !== "chat") return;
  if (event.person === page.chosen) {
    find("status").textContent = "bot";
    chatSoon();
  } else {
    page.unread.add(event.person);
    drawPeople();
  }
}

async function begin() {
  if (chosenTrace()) showView("trace");
  page.bot = (await read("health")).bot;
  find("bot-name").textContent = page.bot.first_name;
  await refreshPeople();
  if (page.chosen !== null) await choose(page.chosen);
  else drawChat(null);
  await sides.begin();
  await trace.refresh();
  const stream = new EventSource("/sandbox/events");
  stream.addEventListener("message", ({ data }) => receive(JSON.parse(data)));
  stream.addEventListener("open", () => receive({ kind: "everything" }));
  stream.addEventListener("error", () => {
    find("status").textContent = "the sandbox is away";
  });
}

begin().catch((error) => alertWith(error.message));
