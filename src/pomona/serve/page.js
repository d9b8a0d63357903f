const get = id => document.getElementById(id);
let stop = null, timer = null, asked = "", markers = {}, examples = {}, feedback = false;

function say(words, bad = false) {
  get("said").textContent = words;
  get("said").className = bad ? "said bad" : "said";
}

function make(tag, words, kind) {
  const made = document.createElement(tag);
  if (words !== undefined) made.textContent = words;
  if (kind) made.className = kind;
  return made;
}

async function ask(path, options = {}) {
  const headers = {"Content-Type": "application/json"};
  if (get("key").value) headers.Authorization = `Bearer ${get("key").value}`;
  let answer;
  try {
    answer = await fetch(path, {...options, headers});
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error("The server does not answer: is it still running?");
  }
  if (answer.status === 401) get("keyed").hidden = false;
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  return answer;
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    left += value;
    const blocks = left.split("\n\n");
    left = blocks.pop();
    for (const block of blocks) {
      if (!block.startsWith("data: ") || block === "data: [DONE]") continue;
      const event = JSON.parse(block.slice(6));
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

function large(number) {
  if (number < 1e6) return number.toLocaleString("en", {maximumFractionDigits: 2});
  const power = Math.floor(Math.log10(number) / 3) * 3;
  return `${(number / 10 ** power).toPrecision(3)}e${power}`;
}

function fact(name, words) {
  const pair = make("div");
  pair.append(make("dt", name), make("dd", words));
  get("cost").append(pair);
}

function showCost(usage, pomona, seconds) {
  get("cost").replaceChildren();
  fact("prompt tokens", large(usage.prompt_tokens));
  fact("answer tokens", large(usage.completion_tokens));
  if (pomona.spent.flops) fact("FLOPs", large(pomona.spent.flops));
  if (pomona.spent.money) fact("money", pomona.spent.money.toPrecision(3));
  fact("seconds", seconds.toFixed(1));
  if (pomona.stopped_by) fact("stopped by", pomona.stopped_by);
}

function showPool(pomona) {
  const pool = pomona.candidates || [], scores = pool.map(one => one.score).filter(score => score !== null);
  const low = Math.min(...scores), high = Math.max(...scores);
  get("pool").hidden = pool.length < 2;
  const distinct = new Set(pool.map(one => one.text)).size;
  get("about").textContent = `${pool.length} candidates, ${distinct} distinct, chosen by ${pomona.strategy}`;
  get("candidates").replaceChildren(...pool.map((one, place) => {
    const row = make("li"), facts = make("div", undefined, "about"), chosen = place === pomona.chosen;
    if (chosen) { row.className = "chosen"; facts.append(make("b", "chosen")); }
    if (one.score !== null) {
      const meter = make("meter");
      [meter.min, meter.max, meter.value] = [low - (high - low) * 0.1 - 1e-9, high + 1e-9, one.score];
      meter.setAttribute("aria-label", "score");
      facts.append(make("span", `score ${one.score.toPrecision(4)}`), meter);
    }
    facts.append(make("span", `temperature ${large(one.temperature)}`), make("span", `${one.spent.completion_tokens} tokens`));
    if (!chosen && feedback) {
      const better = make("button", "This is better", "small");
      better.type = "button";
      better.addEventListener("click", () => prefer(pomona, one, better));
      facts.append(better);
    }
    const text = make("div", one.text, "quote");
    text.dir = "auto";
    row.append(facts, text);
    return row;
  }));
}

// What the user wrote stays.
function showExample() {
  const prompt = get("prompt");
  if (!prompt.value.trim() || Object.values(examples).includes(prompt.value)) prompt.value = examples[get("model").value] ?? "";
}

// A control for each marker of the model. Empty means that the model infers it, which the control then shows.
function showChips() {
  const known = markers[get("model").value] ?? {};
  get("marked").hidden = true;
  get("chips").replaceChildren(...Object.entries(known).map(([name, marker]) => {
    const chip = make("label", name.replaceAll("_", " "), "chip"), control = make(marker.values ? "select" : "input");
    if (marker.values) control.append(new Option("", ""), ...[...marker.values, ...(marker.auto ? ["auto"] : [])].map(value => new Option(value)));
    else control.autocomplete = "off";
    [control.name, control.dataset.kind] = [name, marker.kind];
    control.addEventListener("input", () => chip.classList.toggle("told", control.value !== ""));
    control.addEventListener("keydown", event => {
      if (event.key === "Enter" && control.tagName === "INPUT") get("form").requestSubmit();
    });
    chip.append(control);
    return chip;
  }));
}

// Numbers as numbers, "auto" and what is none as the text that it is, for the server to judge.
function toldMarkers() {
  const told = [...get("chips").querySelectorAll("select, input")].filter(control => control.value.trim());
  return Object.fromEntries(told.map(control => {
    const text = control.value.trim(), number = ["float", "integer"].includes(control.dataset.kind) && Number.isFinite(Number(text));
    return [control.name, number ? Number(text) : text];
  }));
}

function showMarkers(found, sent) {
  if (!found) return;
  get("marked").hidden = false;
  get("unlisted").textContent = found.inferred ? "" : "The answer did not begin with a list of markers.";
  for (const chip of get("chips").children) {
    const control = chip.querySelector("select, input"), inferred = found.inferred?.[control.name] ?? "not known";
    if (control.tagName === "SELECT") control.options[0].textContent = `inferred: ${inferred}`;
    else control.placeholder = `inferred: ${inferred}`;
    if (!sent && control.name in found.given) control.value = found.given[control.name];
    chip.classList.toggle("told", control.value !== "");
  }
}

async function prefer(pomona, one, button) {
  const said = {prompt: asked, chosen: one.text, rejected: pomona.candidates[pomona.chosen].text, good: true, strategy: pomona.strategy};
  if (pomona.markers) said.markers = pomona.markers[0].given;
  try {
    await ask("/v1/feedback", {method: "POST", body: JSON.stringify(said)});
    button.disabled = true;
    button.textContent = "Noted";
  } catch (error) {
    say(error.message, true);
  }
}

async function run() {
  const strategy = get("strategy").value, started = performance.now();
  asked = get("prompt").value;
  const body = {
    model: strategy ? `${get("model").value}@${strategy}` : get("model").value, messages: [{role: "user", content: asked}],
    max_tokens: Number(get("tokens").value), stream: true, stream_options: {include_usage: true},
  };
  if (get("temperature").value) body.temperature = Number(get("temperature").value);
  // The first time none are sent, so that the user's own defaults hold.
  if (!get("marked").hidden) [body.markers, body.markers_forced] = [toldMarkers(), get("forced").checked];
  get("result").hidden = false;
  get("pool").hidden = true;
  get("answer").textContent = "";
  get("cost").replaceChildren();
  const seconds = () => (performance.now() - started) / 1000;
  let drawn = "";
  timer = setInterval(() => say(`${seconds().toFixed(1)} s${drawn}`), 100);
  const answer = await ask("/v1/chat/completions", {method: "POST", body: JSON.stringify(body), signal: stop.signal});
  for await (const event of events(answer)) {
    get("answer").textContent += event.choices[0]?.delta.content ?? "";
    if (event.pomona?.of) drawn = `, ${event.pomona.drawn} of ${event.pomona.of} drawn`;
    else if (event.pomona) {
      showCost(event.usage, event.pomona, seconds());
      showPool(event.pomona);
      showMarkers(event.pomona.markers?.[0], "markers" in body);
    }
  }
}

get("form").addEventListener("submit", async event => {
  event.preventDefault();
  if (stop) return;
  if (!get("model").length && !await list()) return;
  stop = new AbortController();
  get("go").disabled = true;
  get("stop").disabled = false;
  document.body.dataset.state = "busy";
  let end = ["", false];
  try {
    await run();
  } catch (error) {
    end = error.name === "AbortError" ? ["stopped", false] : [error.message, true];
  }
  clearInterval(timer);
  say(...end);
  stop = null;
  get("go").disabled = false;
  get("stop").disabled = true;
  document.body.dataset.state = "done";
});
get("stop").addEventListener("click", () => stop?.abort());
get("again").addEventListener("click", () => get("form").requestSubmit());
get("model").addEventListener("change", () => {
  showExample();
  showChips();
});
get("key").addEventListener("change", list);
get("prompt").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) get("form").requestSubmit();
});

async function list() {
  try {
    const listed = await (await ask("/v1/models")).json(), data = listed.data, ids = data.map(one => one.id);
    feedback = listed.feedback;
    examples = Object.fromEntries(data.map(one => [one.id, one.example]));
    markers = Object.fromEntries(data.map(one => [one.id, one.markers]));
    const models = ids.filter(id => ids.some(other => other.startsWith(`${id}@`) && !other.slice(id.length + 1).includes("@")));
    const named = ids.filter(id => id.startsWith(`${models[0]}@`) && !models.includes(id)).map(id => id.slice(models[0].length + 1));
    const strategies = named.filter(name => !name.includes("@"));
    get("model").replaceChildren(...models.map(name => new Option(name)));
    get("strategy").replaceChildren(new Option("none: one sample", ""), ...strategies.map(name => new Option(name)));
    if (strategies.includes("hedged5-mbr")) get("strategy").value = "hedged5-mbr";
    showExample();
    showChips();
    say("");
    document.documentElement.dataset.ready = "yes";
    return true;
  } catch (error) {
    say(error.message, true);
    return false;
  }
}
list();
