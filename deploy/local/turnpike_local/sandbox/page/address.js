// What the reader chose, kept in the address: #<person>&trace=<trace id>, either part alone too.
// A new tab without an address, as after a payment, shows the person that was chosen last.

const LAST = "person";

const parts = () => new URLSearchParams(location.hash.slice(1));

export function chosenPerson() {
  const found = [...parts().keys()].find((key) => /^\d+$/.test(key));
  return Number(found ?? localStorage.getItem(LAST)) || null;
}

export function chosenTrace() {
  const found = (parts().get("trace") ?? "").toLowerCase();
  return /^[0-9a-f]{32}$/.test(found) ? found : "";
}

export function keepPerson(person) {
  localStorage.setItem(LAST, person);
  keep(hashOf(person, chosenTrace()));
}

export const keepTrace = (trace) => keep(linkTo(trace));

// The address with this trace chosen, as a link of the page.
export const linkTo = (trace) => hashOf(chosenPerson(), trace);

function keep(hash) {
  history.replaceState(null, "", hash);
}

function hashOf(person, trace) {
  return `#${[person, trace && `trace=${trace}`].filter(Boolean).join("&")}`;
}
