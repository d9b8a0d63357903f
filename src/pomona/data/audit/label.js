const CODES = [
  ["1", "CC", "correct"], ["2", "CB", "correct, boilerplate"], ["3", "CS", "correct, short"],
  ["4", "X", "wrong translation"], ["5", "WL", "wrong language"], ["6", "NL", "not language"],
];
const get = id => document.getElementById(id);
const token = location.hash.slice(1);
let rows = [], at = 0, busy = false;

async function ask(path, options = {}) {
  const headers = {"X-Pomona-Token": token, "Content-Type": "application/json"};
  let answer;
  try {
    answer = await fetch(path, {...options, headers});
  } catch {
    throw new Error("The server does not answer: is it still running?");
  }
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

function button(where, key, words, act) {
  const made = document.createElement("button"), hint = document.createElement("kbd");
  made.type = "button";
  hint.textContent = key;
  made.append(hint, words);
  made.addEventListener("click", act);
  get(where).append(made);
  return made;
}

function show() {
  const row = rows[at], done = rows.filter(one => one.label).length;
  get("place").textContent = `${at + 1} of ${rows.length}`;
  get("group").textContent = row.group;
  get("done").textContent = `${done} labelled`;
  get("bar").max = rows.length;
  get("bar").value = done;
  for (const name of ["source", "text"]) {
    get(name).textContent = row[name] ?? "";
    get(name).scrollTop = 0;
  }
  get("text").lang = row.group.replaceAll("_", "-");
  for (const [key, code] of CODES) buttons[code].setAttribute("aria-pressed", row.label === code);
  for (const flag of ["offensive", "porn"]) buttons[flag].setAttribute("aria-pressed", row[flag]);
  document.body.dataset.number = row.number;
}

function go(place) {
  if (!rows.length) return;
  at = Math.max(0, Math.min(rows.length - 1, place));
  get("said").textContent = "";
  show();
}

function unlabelled() {
  const later = rows.findIndex((row, place) => place > at && !row.label);
  return later < 0 ? rows.findIndex(row => !row.label) : later;
}

async function save(change, forward) {
  if (busy || !rows.length) return;
  busy = true;
  const place = at, {number, label, offensive, porn} = {...rows[at], ...change};
  try {
    rows[place] = await ask("/label", {method: "POST", body: JSON.stringify({number, label, offensive, porn})});
    get("said").textContent = "";
    const next = forward ? unlabelled() : place;
    if (next >= 0) at = next;
    show();
    if (forward && next < 0) get("said").textContent = "Every text has a label. You may close this page.";
  } catch (error) {
    get("said").textContent = error.message;
  }
  busy = false;
}

const buttons = {}, keys = {};
for (const [key, code, words] of CODES) {
  keys[key] = () => buttons[code].disabled || save({label: code}, true);
  buttons[code] = button("codes", key, `${code} ${words}`, keys[key]);
}
for (const [key, flag] of [["o", "offensive"], ["p", "porn"]]) {
  keys[key] = () => rows.length && save({[flag]: !rows[at][flag]}, false);
  buttons[flag] = button("flags", key, flag, keys[key]);
}
keys.u = () => save({label: ""}, false);
button("moves", "←", "back", keys.ArrowLeft = () => go(at - 1));
button("moves", "→", "on", keys.ArrowRight = () => go(at + 1));
button("moves", "n", "next without a label", keys.n = () => unlabelled() >= 0 && go(unlabelled()));
button("moves", "u", "take the label off", keys.u);

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !rows.length) return;
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

ask("/rows").then(value => {
  rows = value.rows;
  get("parallel").hidden = !value.parallel;
  buttons.X.disabled = !value.parallel;
  at = Math.max(0, rows.findIndex(row => !row.label));
  show();
  document.documentElement.dataset.ready = "yes";
}).catch(error => { get("said").textContent = error.message; });
