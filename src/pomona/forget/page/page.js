const get = id => document.getElementById(id);
const step = 40, kinds = ["lost", "gained", "another answer"], colours = ["worse", "better", "unclear"];
const data = get("items") ? JSON.parse(get("items").textContent) : {items: [], groups: []};
let found = [], shown = 0;

function make(tag, words, kind) {
  const made = document.createElement(tag);
  if (words !== undefined) made.textContent = words;
  if (kind) made.className = kind;
  return made;
}

function part(name, words, kind) {
  const side = make("div"), text = make("div", words, kind);
  text.dir = "auto";
  side.append(make("small", name), text);
  return side;
}

function card([kind, group, id, input, reference, a, b]) {
  const box = make("li"), about = make("div", undefined, "about");
  about.append(make("span", kinds[kind], colours[kind]));
  if (group >= 0) about.append(make("span", data.groups[group]));
  about.append(make("span", id));
  const asked = make("div", undefined, "row"), given = make("div", undefined, "row");
  if (input !== null) asked.append(part("input", input, "quote"));
  asked.append(part("reference", reference, "quote"));
  given.append(part("A", a, "quote box"), part("B", b, "quote box"));
  box.append(about, asked, given);
  return box;
}

function more() {
  get("cards").append(...found.slice(shown, shown + step).map(card));
  shown = Math.min(found.length, shown + step);
  get("more").hidden = shown === found.length;
  const words = found.length === 1 ? "1 item" : `${found.length.toLocaleString("en")} items`;
  get("said").textContent = `${words}, ${shown.toLocaleString("en")} shown`;
}

function filter() {
  const kind = get("kind").value, group = get("group")?.value ?? "";
  const wanted = get("search").value.trim().toLocaleLowerCase();
  const held = ([, , ...texts]) => texts.some(text => text?.toLocaleLowerCase().includes(wanted));
  found = data.items.filter(item =>
    (kind === "" || item[0] === Number(kind)) && (group === "" || item[1] === Number(group))
    && (wanted === "" || held(item)));
  shown = 0;
  get("cards").replaceChildren();
  more();
}

if (get("items")) {
  for (const id of ["kind", "group"]) get(id)?.addEventListener("change", filter);
  get("search").addEventListener("input", filter);
  get("more").addEventListener("click", more);
  filter();
}
document.documentElement.dataset.charts = "drawn";
