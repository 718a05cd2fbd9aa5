// What is shown now, what goes to another step, keys, and the address.

const state = {step: 1, memory: 0, slot: 0, byte: 0, place: null, panel: ""};
const PANELS = ["now", "lanes", "ring", "slot", "grants", "store"];

// -- the step -----------------------------------------------------------------------------------------

/** Members of events that are told elsewhere. */
const TOLD = new Set(["n", "t", "d", "dom", "kind", "cause", "text", "rule", "memory", "at", "size", "bytes", "old", "field", "meaning", "initial", "frames", "event_set_by"]);

function now() {
  const {step} = state, e = eventAt(step), facts = [];
  const say = (...parts) => { const p = el("p"); p.append(...parts); facts.push(p); };
  $("scrub").value = step;
  $("count").textContent = `step ${step} of ${events.length}, ${e.t / 1000} µs`;
  $("sentence").textContent = (Number.isInteger(e.dom) ? `domain ${e.dom}: ` : "") + (e.text || e.kind);
  for (const one of checksOf(step)) say(el("b", "Wrong here: ", "wrong"), eventAt(one).text, " (", link(one, "check"), ")");
  lostText(step, say);
  if (e.kind === "notify" || e.kind === "publish") notificationText(e, say);
  for (const id of rulesOf(step)) {
    const rule = protocol.rules[id];
    say(el("b", `Rule ${id}`), rule ? `: ${rule.text} (${rule.source})` : "");
  }
  if (why(step)) say("Why (w): ", link(why(step), "why"), `: ${sentence(why(step))}`);
  const cause = stepOf.get(e.cause);
  if (cause && cause !== why(step)) say("Caused by ", link(cause, "cause"), `: ${sentence(cause)}`);
  const leads = (caused.get(step) || []).filter((one) => eventAt(one).kind !== "check");
  if (leads.length) say("Leads to ", links(leads, "leads"), ` ${sentence(leads[0])}`);
  if (isAccess(e)) accessText(e, step, say);
  const rest = Object.keys(e).filter((name) => !TOLD.has(name) && !EVENT_OF[e.index] && e.kind !== "notify").map((name) => row([name, typeof e[name] === "object" ? JSON.stringify(e[name]) : e[name]]));
  if (rest.length && !isAccess(e)) { const t = el("table"); t.append(...rest); facts.push(t); }
  if (typeof e.bytes === "string" && e.bytes.length > 16) facts.push(dump(bytesOf(e.bytes)));
  $("facts").replaceChildren(...facts);
}

function sentence(step) {
  const e = eventAt(step);
  return (Number.isInteger(e.dom) ? `domain ${e.dom}: ` : "") + (e.text || e.kind);
}

function notificationText(e, say) {
  const published = publicationFor(e), {index} = published, event = EVENT_OF[index];
  if (!event || !Number.isInteger(e.old) || !Number.isInteger(e.event)) return;
  const range = `(${e.old} < n <= ${e.new})`, by = stepOf.get(e.event_set_by);
  say(`${index} went from ${e.old} to ${e.new}, and ${event} was ${e.event}, written by `,
    by ? link(by, "setter") : el("span", SINCE_THE_START), ". ");
  if (passes(e.old, e.new, e.event)) return say(`${e.event} is among the numbers that were passed ${range}: an event was asked for.`);
  say(`${e.event} is not among the numbers that were passed ${range}: nobody had asked for an event. `, ...earlier(e, published));
}

/** Why nobody had asked: the event asked for last was sent before, or is still to come. */
function earlier(e, published) {
  const event = EVENT_OF[published.index];
  if (!reached(e.old, e.event)) return [`${e.event} is still to come.`];
  const memory = memories.get(published.memory), before = memory && publicationOf(memory, published.index, e.event, stepOf.get(published.n) - 1);
  if (!before) return ["It was passed before."];
  return [`${e.event} was passed before, at `, link(before, "passed"), `, and ${event} was not written again since.`];
}

function lostText(step, say) {
  const lost = lostWakeUps.find((one) => one.early === step) || lostAt(step);
  if (!lost) return;
  const event = EVENT_OF[lost.index], to = lost.notify || lost.publish;
  say(el("b", "A lost wake-up. "), `The look at ${lost.index} (`, link(lost.early, "early"), `) came before ${event} was stored (`,
    link(lost.step, "late"), `). In between ${lost.index} was published (`, link(lost.publish, "published"), "), and ",
    link(to, "avoided", `no notification was sent`), `, since nobody had asked. Nobody looks again behind the store of ${event}: the end that sleeps is never woken.`);
}

function accessText(e, step, say) {
  const memory = memories.get(e.memory), name = memory ? memoryTitle(memory) : `memory ${e.memory}`;
  if (memory && e.kind === "load") say(`${name}, bytes ${e.at} to ${e.at + e.size - 1}; written by `, writers(e.memory, e.at, Math.min(e.size, 64), step, "load"), ".");
  else if (memory) say(`${name}, bytes ${e.at} to ${e.at + e.size - 1}; read by `, readers(e.memory, e.at, Math.min(e.size, 64), step, "store"), ".");
  if (e.bytes && e.bytes.length <= 16) say(`It holds ${numberText(e.bytes)}`, e.old ? `, before that ${numberText(e.old)}` : "", e.by ? `; by ${e.by}.` : ".");
}

/** Up to eight bytes as a little-endian number, and as they are. */
function numberText(hex) {
  const digits = hex.match(/../g).reverse().join("");
  return `${BigInt("0x" + digits)} (bytes ${hex})`;
}

// -- going and showing --------------------------------------------------------------------------------

const DRAW = {now, lanes, ring, slot, grants, store};

function show() {
  const key = (document.activeElement && document.activeElement.dataset.key) || "";
  for (const id of PANELS) draw(id);
  const changed = $("store").querySelector(".changed");
  if (changed) $("store").scrollTop = changed.offsetTop - $("store").clientHeight / 3;
  const again = key && document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (again) again.focus({preventScroll: true});
}

/** A panel; what it cannot show of a damaged recording keeps no other panel from its own. */
function draw(id) {
  try {
    DRAW[id]($(id));
  } catch (error) {
    console.error(error);
    const where = id === "now" ? $("facts") : $(id);
    where.replaceChildren(el("p", `This panel cannot show this step of the recording: ${error.message}`, "wrong"));
  }
}

/** Go to a step; a jump is one that the browser's way back undoes. */
function go(to, jump = true) {
  const step = Math.max(1, Math.min(events.length, Math.round(to) || 1));
  if (step === state.step && jump) return;
  state.step = step;
  const e = eventAt(step), memory = memories.get(ringOf(e)), division = memory && protocol.memories[memory.what];
  if (division && division.count) {
    state.memory = memory.id;
    if (e.at >= division.first) {
      state.slot = Math.min(division.count - 1, Math.floor((e.at - division.first) / division.unit));
      state.byte = (e.at - division.first) % division.unit;
    }
  }
  show();
  address(jump);
}

/** The ring that an event is about: it says so, its publication does, or there is one of that name. */
function ringOf(e) {
  const id = e.memory || publicationFor(e).memory;
  if (id) return id;
  const named = e.ring ? rings().filter((one) => one.what === `${e.ring} ring`) : [];
  return named.length === 1 ? named[0].id : 0;
}

/** Show something else of the same step. */
function choose(what) {
  Object.assign(state, what);
  show();
  address(false);
}

let shown = "", later = 0;

/** The address of what is shown. While somebody steps quickly it follows when they pause. */
function address(jump) {
  const before = shown;
  shown = `#step=${state.step}&memory=${state.memory}&slot=${state.slot}&byte=${state.byte}` +
    (state.place ? `&place=${state.place.join(".")}` : "") + (state.panel ? `&panel=${state.panel}` : "");
  clearTimeout(later);
  if (jump) {
    history.replaceState(null, "", before);
    history.pushState(null, "", shown);
  } else later = setTimeout(() => history.replaceState(null, "", shown), 150);
}

/** Show what the address says; without one, what is wrong, or the first step. */
function restore() {
  const said = new URLSearchParams(location.hash.slice(1)), number = (name) => Math.max(0, +said.get(name) || 0);
  clearTimeout(later);
  state.memory = rings().length ? rings()[0].id : 0;
  state.place = null;
  go(said.has("step") ? number("step") : said.has("n") ? stepOf.get(number("n")) : firstStep(), false);
  clearTimeout(later);
  if (rings().some((one) => one.id === number("memory"))) state.memory = number("memory");
  const division = protocol.memories[(memories.get(state.memory) || {}).what];
  if (said.has("slot") && division) state.slot = Math.min(division.count - 1, Math.floor(number("slot")));
  if (said.has("byte")) state.byte = Math.floor(number("byte"));
  const [id, place] = (said.get("place") || "").split(".").map(Number);
  const memory = memories.get(id);
  if (memory && Number.isInteger(place) && place * divisionOf(memory, state.step).unit < memory.bytes) state.place = [id, place];
  state.panel = PANELS.includes(said.get("panel")) ? said.get("panel") : "";
  show();
  if (state.panel) $(state.panel).focus();
  address(false);
}

function firstStep() {
  const check = (stepsOf.get("check") || [])[0];
  return check ? stepOf.get(eventAt(check).cause) || check : lostWakeUps.length ? lostWakeUps[0].step : 1;
}

// -- searching ----------------------------------------------------------------------------------------

let searched = "", texts = null;

/** Go to the next step, or with -1 the one before, that has the text; "#12" is step 12. */
function search(text, way = 1) {
  searched = text;
  texts = texts || events.map((e) => JSON.stringify(e, (name, value) => name === "initial" || name === "frames" ? undefined : value).toLowerCase());
  const want = text.toLowerCase(), count = events.length;
  $("found").textContent = "";
  if (/^#\d+$/.test(text)) return go(+text.slice(1));
  for (let k = 1; want && k <= count; k++) {
    const at = (state.step - 1 + way * k + count * 2) % count;
    if (texts[at].includes(want)) return go(at + 1);
  }
  $("found").textContent = want ? "nothing has that" : "";
}

// -- keys ---------------------------------------------------------------------------------------------

function nextProblem() {
  const next = problems.find((one) => one.step > state.step) || problems[0];
  if (next) go(next.step);
}

function nextRing() {
  const all = rings(), at = all.findIndex((one) => one.id === state.memory);
  if (all.length) choose({memory: all[(at + 1) % all.length].id, slot: 0, byte: 0});
}

function turn(by) {
  const division = protocol.memories[(memories.get(state.memory) || {}).what];
  if (division) choose({slot: (state.slot + by + division.count) % division.count, byte: 0});
}

const THEMES = ["", "dark", "light"]; // as the system has it, or one of both
function theme() {
  const root = document.documentElement;
  root.dataset.theme = THEMES[(THEMES.indexOf(root.dataset.theme || "") + 1) % THEMES.length];
  $("theme").textContent = `theme: ${root.dataset.theme || "auto"} (t)`;
}

let size = 100;
function larger(by) {
  size = by ? Math.max(50, Math.min(300, size + by)) : 100;
  document.documentElement.style.fontSize = `${size}%`;
}

/** Within a group of buttons of which one is chosen (slots, bytes): the one before or behind it. */
function within(by) {
  const group = document.activeElement && document.activeElement.closest("[data-moves]");
  if (!group) return false;
  const all = [...group.children], at = all.indexOf(document.activeElement), to = all[Math.max(0, Math.min(all.length - 1, at + by))];
  to.focus();
  to.click();
  return true;
}

const panelKeys = Object.fromEntries(PANELS.map((id, k) => [String(k + 1), () => { state.panel = id; $(id).focus(); address(false); }]));
const KEYS = {
  ArrowLeft: () => go(state.step - 1, false), ArrowRight: () => go(state.step + 1, false),
  PageUp: () => go(state.step - 50, false), PageDown: () => go(state.step + 50, false),
  Home: () => go(1), End: () => go(events.length),
  ArrowUp: () => within(-1), ArrowDown: () => within(1),
  w: () => why(state.step) && go(why(state.step)), Backspace: () => history.back(),
  "[": () => turn(-1), "]": () => turn(1), m: nextRing, p: nextProblem,
  n: () => search(searched), N: () => search(searched, -1), "/": () => { $("find").focus(); $("find").select(); },
  "+": () => larger(25), "-": () => larger(-25), 0: () => larger(0), t: theme, "?": () => $("help").showModal(),
  ...panelKeys,
};

addEventListener("keydown", (pressed) => {
  const {target, key} = pressed;
  if (target.id === "find") {
    if (key === "Enter") search(target.value);
    if (key === "Enter" || key === "Escape") target.blur();
    return;
  }
  if (pressed.ctrlKey || pressed.altKey || pressed.metaKey || $("help").open || target.tagName === "SELECT") return;
  if (Object.hasOwn(KEYS, key) && KEYS[key]() !== false) pressed.preventDefault();
});

// -- the beginning ------------------------------------------------------------------------------------

function problemLinks() {
  const said = $("problems");
  if (!problems.length) return;
  said.append(el("b", `${problems.length} wrong (p): `));
  for (const one of problems.slice(0, 8)) said.append(link(one.step, "problem", `step ${one.step}: ${one.text}`), " ");
}

function begin() {
  const run = header.run || {};
  const command = Array.isArray(run.command) && run.command.length ? ["xennet", ...run.command] : ["a recording"];
  $("command").textContent = command.join(" ") + (run.choices ? `, choices ${run.choices}` : "");
  if (!events.length) { $("sentence").textContent = "The trace has no events."; return; }
  $("back").addEventListener("click", KEYS.ArrowLeft);
  $("on").addEventListener("click", KEYS.ArrowRight);
  $("theme").addEventListener("click", theme);
  $("ask").addEventListener("click", KEYS["?"]);
  $("scrub").max = events.length;
  $("scrub").addEventListener("input", () => go(+$("scrub").value, false));
  addEventListener("resize", () => draw("lanes"));
  addEventListener("hashchange", restore);
  addEventListener("popstate", restore);
  problemLinks();
  restore();
}

begin();
