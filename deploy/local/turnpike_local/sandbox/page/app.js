// The page: people as tabs, the chosen one's chat, and dialogs for paying and for following links.

import { act, element, find, read } from "./api.js";
import { ChatView, amount } from "./chat.js";
import { StoryView } from "./story.js";

const TYPING_MS = 5000;
const TOAST_MS = 3000;

const page = { people: [], chosen: null, chat: null, bot: null, unread: new Set(), toastSeen: new Map() };

const story = new StoryView();
const view = new ChatView(find("messages"), {
  press,
  link: follow,
  copy,
  command: (text) => say(text),
  repeat: (charge, as) => attempt(async () => {
    await act(`payments/${charge}/repeat`, { as });
    toast(as === "same" ? "The same update is on its way again." : "A new update about this charge is on its way.");
  }),
});

// People

async function refreshPeople() {
  page.people = (await read("people")).people;
  const known = page.people.some((person) => person.id === page.chosen);
  if (!known) page.chosen = page.people.find((person) => `#${person.id}` === location.hash)?.id ?? page.people[0]?.id ?? null;
  drawPeople();
}

function drawPeople() {
  const tabs = page.people.map((person) => {
    const isChosen = person.id === page.chosen;
    const face = element("span", { class: "avatar", "aria-hidden": "true" }, [...person.first_name][0].toUpperCase());
    face.style.setProperty("--hue", (person.id * 137.5) % 360);
    const attributes = { role: "tab", "aria-selected": String(isChosen), class: page.unread.has(person.id) ? "unread" : null };
    return element("button", { ...attributes, onclick: () => choose(person.id) }, face, person.first_name);
  });
  const tablist = find("people");
  const left = tablist.scrollLeft; // Drawing anew must not move what somebody scrolled.
  tablist.replaceChildren(...tabs);
  tablist.scrollLeft = left;
}

function showChosenTab() {
  find("people").querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

async function choose(personId) {
  page.chosen = personId;
  page.unread.delete(personId);
  history.replaceState(null, "", `#${personId}`);
  view.clear();
  find("toasts").replaceChildren();
  drawPeople();
  showChosenTab();
  await refreshChat();
  find("text").focus();
}

async function newPerson(form) {
  const stars = Number(form.get("stars") ?? 10_000);
  const body = { first_name: form.get("first_name"), username: form.get("username") ?? "", language_code: form.get("language_code"), stars };
  return act("people", body);
}

// The chat

async function refreshChat() {
  const personId = page.chosen;
  if (personId === null) return drawChat(null);
  const chat = await read(`people/${personId}/chat`);
  if (personId === page.chosen) drawChat(chat);
}

function drawChat(chat) {
  page.chat = chat;
  const person = chat?.person;
  find("stars").textContent = person ? `★ ${person.stars.toLocaleString("en")}` : "";
  find("block").hidden = !person?.started;
  find("block").textContent = person?.blocked ? "Unblock bot" : "Block bot";
  find("start").hidden = Boolean(person?.started && !person.blocked);
  find("start").textContent = person ? (person.blocked ? "Restart" : "Start") : "Add the first person";
  find("say").hidden = !person?.started || person.blocked;
  find("menu").hidden = !chat?.commands.length;
  find("commands").replaceChildren(...(chat?.commands ?? []).map(command));
  if (!chat) return find("messages").replaceChildren(greeting());
  if (chat.messages.length) view.show(chat.messages);
  else find("messages").replaceChildren(greeting());
  showNewToasts(chat);
}

function command({ command: name, description }) {
  const choose_ = () => {
    openMenu(false);
    say(`/${name}`);
  };
  return element("li", {}, element("button", { type: "button", onclick: choose_ }, element("b", {}, `/${name}`), ` ${description}`));
}

function greeting() {
  return element("div", { class: "greeting" }, element("p", {}, "A shop inside a chat, with test money."), element("p", {}, page.people.length ? "Press Start." : "Add a person and press Start."));
}

// Notices that were there before the chat was opened are history.
function showNewToasts(chat) {
  const newest = chat.toasts.at(-1)?.id ?? 0;
  const seen = page.toastSeen.get(chat.person.id);
  page.toastSeen.set(chat.person.id, newest);
  if (seen === undefined) return;
  for (const one of chat.toasts.filter(({ id }) => id > seen)) {
    if (one.kind === "payment" && find("pay-dialog").open) continue; // The pay sheet shows it.
    if (one.alert) alertWith(one.text);
    else toast(one.text);
  }
}

function toast(text, ...more) {
  const made = element("div", { class: "toast" }, text, ...more);
  find("toasts").append(made);
  setTimeout(() => made.remove(), TOAST_MS);
}

function alertWith(text) {
  find("alert-text").textContent = text;
  if (!find("alert-dialog").open) find("alert-dialog").showModal();
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

async function press(message, button, row, column, pressed) {
  if (button.url && startLink(button.url)) return follow(button.url);
  pressed.classList.add("pressed");
  setTimeout(() => pressed.classList.remove("pressed"), 600);
  // What was seen is what is pressed: by now another keyboard may stand in its place.
  const seen = button.callback_data ? { data: button.callback_data } : { row, column };
  const opened = await attempt(() => act(`people/${page.chosen}/press`, { message_id: message.message_id, ...seen }));
  return opened && show(opened);
}

function show(opened) {
  if (opened.opens === "invoice") openPaySheet(opened.invoice);
  else if (opened.opens === "copy") copy(opened.text);
  else if (opened.opens === "link") showLink(opened.url);
}

async function follow(url) {
  const link = startLink(url);
  if (link) return askWhoFollows(link);
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
  if (parts.hostname === "t.me" && parts.pathname === "/share/url") return startLink(parts.searchParams.get("url") ?? "");
  const isOurs = parts.hostname === "t.me" && parts.pathname.slice(1).toLowerCase() === page.bot?.username.toLowerCase();
  return isOurs && parts.searchParams.get("start") ? url : null;
}

function showLink(url) {
  const leads = /^https?:/.test(url);
  toast("This opens ", leads ? element("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, url) : url);
}

async function copy(text) {
  await navigator.clipboard?.writeText(text).catch(() => null);
  toast("Copied");
}

// Dialogs

function openPaySheet(invoice) {
  page.invoice = invoice;
  const balance = `★ ${page.chat.person.stars.toLocaleString("en")} test Stars`;
  find("pay-title").textContent = invoice.title;
  find("pay-description").textContent = invoice.description;
  find("pay-price").textContent = amount(invoice);
  find("pay-balance").textContent = invoice.currency === "XTR" ? `Balance: ${balance}` : "Test card";
  find("pay-outcome").textContent = "";
  find("pay-confirm").textContent = `Confirm and pay ${amount(invoice)}`;
  find("pay-confirm").disabled = false;
  find("pay-dialog").showModal();
}

async function confirmPayment(event) {
  event.preventDefault();
  const button = find("pay-confirm");
  button.disabled = true;
  find("pay-outcome").textContent = "";
  button.textContent = "Asking the shop…";
  const paid = await attempt(() => act(`people/${page.chosen}/pay`, { invoice: page.invoice.slug }));
  if (paid?.paid) {
    find("pay-dialog").close();
    toast(`Paid ${amount(page.invoice)}`);
    return;
  }
  button.disabled = false;
  button.textContent = "Try again";
  find("pay-outcome").textContent = paid?.error ?? "";
}

function askWhoFollows(url) {
  find("link-address").textContent = url;
  const others = page.people.map((person) =>
    element("button", { type: "button", class: "quiet", onclick: () => followAs(person.id, url) }, person.first_name),
  );
  find("link-people").replaceChildren(...others);
  find("link-form").reset();
  find("link-form").dataset.url = url;
  find("link-dialog").showModal();
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
  find("person-dialog").showModal();
}

// Wiring

find("add-person").addEventListener("click", askForPerson);
find("start").addEventListener("click", () => {
  if (page.chosen === null) askForPerson();
  else attempt(() => act(`people/${page.chosen}/open`, { url: `https://t.me/${page.bot.username}` }));
});
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
find("pay-form").addEventListener("submit", confirmPayment);
for (const closes of document.querySelectorAll("[data-closes]")) {
  closes.addEventListener("click", () => closes.closest("dialog").close());
}
for (const button of document.querySelectorAll("[data-shows]")) {
  button.addEventListener("click", () => {
    document.body.dataset.view = button.dataset.shows;
    for (const other of document.querySelectorAll("[data-shows]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  });
}

// What happens

// Many events within a moment are one reading.
function soon(doing, pause_ms) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    setTimeout(() => {
      waits = false;
      doing().catch(() => null); // The sandbox is away; the stream comes back and everything is read again.
    }, pause_ms);
  };
}

const chatSoon = soon(refreshChat, 20);
const peopleSoon = soon(refreshPeople, 20);
const storySoon = soon(() => story.refresh(), 250);

function hear(event) {
  if (event.kind === "everything" || event.kind === "people") peopleSoon();
  if (event.kind === "everything" || event.kind === "traces") storySoon();
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
  page.bot = (await read("health")).bot;
  find("bot-name").textContent = page.bot.first_name;
  await refreshPeople();
  if (page.chosen !== null) await choose(page.chosen);
  else drawChat(null);
  await story.refresh();
  const stream = new EventSource("/sandbox/events");
  stream.addEventListener("message", ({ data }) => hear(JSON.parse(data)));
  stream.addEventListener("open", () => hear({ kind: "everything" }));
  stream.addEventListener("error", () => (find("status").textContent = "the sandbox is away"));
}

begin().catch((error) => alertWith(error.message));
