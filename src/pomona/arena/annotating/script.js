// Sends answers without leaving the page, and again for as long as nobody has taken them; keys.
"use strict";

const FIRST = 1000, MOST = 30000, PATIENCE = 20000; // milliseconds
const LATER = new Set([408, 425, 429, 502, 503, 504]);
const SETTLED = 300; // milliseconds: the second half of a double click is no answer to the next task
let busy = false, since = performance.now(), waiting = null, spare = null;

const said = () => document.getElementById("said");

function tell(words, bad = false) {
  said().textContent = words;
  said().className = bad ? "said bad" : "said";
  said().lang = bad ? "en" : document.documentElement.lang;
}

function kept(value) {
  const name = `kept:${said().dataset.person}`;
  if (value !== undefined) {
    spare = value;
    try {
      if (value) localStorage.setItem(name, JSON.stringify(value));
      else localStorage.removeItem(name);
    } catch { /* a browser without storage keeps it as long as the page is open */ }
    return value;
  }
  try {
    return JSON.parse(localStorage.getItem(name)) || spare;
  } catch {
    return spare;
  }
}

function setBusy(on) {
  busy = on;
  delete document.documentElement.dataset.ready;
  document.querySelector("main").setAttribute("aria-busy", on);
  for (const button of document.querySelectorAll("form.sent button")) button.disabled = on;
}

const pause = time => new Promise(done => {
  waiting = done;
  setTimeout(done, time);
});

async function post(sent) {
  for (let wait = FIRST; ; wait = Math.min(2 * wait, MOST)) {
    let answer = null;
    try {
      const body = new URLSearchParams(sent.fields);
      body.set("csrf", said().dataset.csrf);
      answer = await fetch(sent.action, {method: "POST", body, signal: AbortSignal.timeout(PATIENCE)});
      if (!LATER.has(answer.status)) return answer;
    } catch { /* no connection */ }
    const asked = 1000 * Number(answer?.headers.get("retry-after") ?? 0) || 0;
    tell(answer ? `The server is busy (${answer.status}). Your answer is kept and is sent again.`
      : "No connection. Your answer is kept and is sent again as soon as there is one.", true);
    await pause(Math.max(wait, asked));
  }
}

function swap(text, focus = true) {
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const name of ["lang", "dir"]) document.documentElement.setAttribute(name, page.documentElement.getAttribute(name));
  document.title = page.title;
  document.body.replaceChildren(...page.body.childNodes);
  ready();
  if (!focus) return;
  scrollTo(0, 0);
  document.getElementById("start")?.focus({preventScroll: true});
}

async function send(sent) {
  setBusy(true);
  kept(sent);
  tell(said().dataset.saving);
  const answer = await post(sent);
  const text = await answer.text();
  // Who is logged out, or has another session, sends it again when they are back: once.
  const refused = [401, 403, 500].includes(answer.status);
  kept(refused && !sent.refused ? {...sent, refused} : null);
  busy = false;
  swap(text);
  if (answer.redirected && new URL(answer.url).pathname === "/") history.replaceState(null, "", answer.url);
}

function edited(fields) {
  const areas = [...document.querySelectorAll("textarea[data-shown]")];
  const changed = areas.filter(area => area.value !== area.dataset.shown.replace(/\r\n?/g, "\n"));
  const side = fields.get("outcome");
  return changed.find(area => area.dataset.side === side || !["a", "b"].includes(side));
}

function gather(form, button) {
  const fields = new URLSearchParams(new FormData(form, button));
  const comment = document.querySelector("textarea[name=comment]"), edit = edited(fields);
  if (comment) fields.set("comment", comment.value);
  fields.delete("edit");
  if (edit) {
    fields.set("edit", edit.value);
    fields.set("edited", edit.dataset.side);
  }
  fields.set("seconds", Math.round((performance.now() - since) / 100) / 10);
  return [...fields];
}

document.addEventListener("submit", event => {
  const form = event.target, button = event.submitter;
  if (form.dataset.sure && !confirm(said().dataset.sure)) event.preventDefault();
  if (!form.classList.contains("sent")) return;
  event.preventDefault();
  if (busy || performance.now() - since < SETTLED) return;
  const action = button?.hasAttribute("formaction") ? button.getAttribute("formaction") : form.getAttribute("action");
  send({action, fields: gather(form, button)});
});

document.addEventListener("click", async event => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  const input = document.getElementById(button.dataset.copies);
  input.select();
  try {
    await navigator.clipboard.writeText(input.value);
  } catch {
    document.execCommand("copy"); // where the page has no secure address
  }
  tell(said().dataset.copied);
});

function keyOf(event) {
  const arrows = document.documentElement.dir === "rtl" ? {ArrowRight: "1", ArrowLeft: "2"} : {ArrowLeft: "1", ArrowRight: "2"};
  if (event.key in arrows) return document.querySelector("button[name=outcome]") ? arrows[event.key] : "";
  // Other scripts have other signs on the same keys.
  if (/^[a-z0-9]$/i.test(event.key)) return event.key.toLowerCase();
  return /^(?:Digit|Numpad|Key)(.)$/.exec(event.code)?.[1].toLowerCase() ?? "";
}

document.addEventListener("keydown", event => {
  const typing = event.target.closest?.("textarea, input:not([type=checkbox]), select, [contenteditable]");
  if (typing && event.key === "Escape") event.target.blur();
  if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!keysOn()) return;
  const key = keyOf(event);
  const comment = key === "c" && document.querySelector("main textarea[name=comment]");
  const button = /^[a-z0-9]$/.test(key) && document.querySelector(`button[data-key="${key}"]`);
  if (!comment && !button) return;
  event.preventDefault();
  if (comment) comment.focus();
  else button.click();
});

function keysOn() {
  try {
    return localStorage.getItem("shortcuts") !== "off";
  } catch {
    return true;
  }
}

document.addEventListener("change", event => {
  if (event.target.id !== "shortcuts") return;
  try {
    localStorage.setItem("shortcuts", event.target.checked ? "on" : "off");
  } catch { /* for this page only */ }
});

addEventListener("beforeunload", event => {
  const areas = [...document.querySelectorAll("form.sent textarea")];
  if (!busy && areas.some(area => area.value !== area.defaultValue)) event.preventDefault();
});
addEventListener("online", () => waiting?.());

async function live() {
  const board = document.querySelector("[data-live]");
  if (!board || document.hidden) return;
  try {
    const answer = await fetch(location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("board");
    if (answer.ok && fresh && fresh.textContent !== board.textContent) board.replaceWith(fresh);
  } catch { /* the next time */ }
}
setInterval(live, 20000);

function ready() {
  since = performance.now();
  delete document.documentElement.dataset.ready;
  const box = document.getElementById("shortcuts");
  if (box) box.checked = keysOn();
  setTimeout(() => { document.documentElement.dataset.ready = "yes"; }, SETTLED);
}

ready();
const left = kept();
if (left && said().dataset.person) send(left);
