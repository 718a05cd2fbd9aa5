// The panels below the time line: ring, slot, grants and events, store.

// -- a ring -----------------------------------------------------------------------------------------

/** Marks of slots: what an index points at. */
const MARKS = {req_prod: "P", rsp_prod: "R", req_cons: "C", rsp_cons: "c"};
const NAMES = Object.fromEntries(Object.entries(MARKS).map(([name, mark]) => [mark, name]));

/** The indices of a ring at `step`: the four shared ones, and of the private ones those recorded. */
function indicesAt(memory, step) {
  const found = {};
  for (const name of INDICES) found[name] = {value: numberAt(memory.id, headerAt(name), 4, step)};
  for (const name of PRIVATE) {
    const known = privateIndex(memory, name, step);
    if (known) found[name] = known;
  }
  return found;
}

function ring(panel) {
  const memory = memories.get(state.memory), division = memory && protocol.memories[memory.what];
  if (!division) return panel.replaceChildren(el("h2", "Ring"), "no ring is known in this recording");
  const {step} = state, here = eventAt(step), at = indicesAt(memory, step), rows = [];
  for (const name of INDICES) {
    const from = "i" + name;
    const tr = row([name, at[name].value, at[name].value % division.count,
      writers(memory.id, headerAt(name), 4, step, from), readers(memory.id, headerAt(name), 4, step, from)]);
    if (here.memory === memory.id && isAccess(here) && covers(here, headerAt(name))) tr.className = "changed";
    rows.push(tr);
  }
  for (const name of PRIVATE.filter((one) => at[one])) {
    const one = at[name], end = /^req_prod|^rsp_cons/.test(name) ? "frontend" : "backend";
    const tr = row([`${name} (${end})`, one.value, one.value % division.count,
      one.step ? link(one.step, "p" + name, String(one.step)) : el("span", SINCE_THE_START, "faint"),
      el("span", "itself", "faint")]);
    if (one.step === step) tr.className = "changed";
    rows.push(tr);
  }
  const unknown = PRIVATE.filter((one) => !at[one]);
  panel.replaceChildren(
    ringChoice(memory),
    table(["index", "value", "slot", "written by", "read by"], rows),
    el("p", unknown.length ? `Private indices that have not moved, or are not recorded: ${unknown.join(", ")}.` : "", "faint"),
    el("p", occupation(at, division.count)),
    slots(memory, division, at),
    el("p", "orange: the backend's; blue: written, the frontend's; empty: never written. " +
      "P req_prod, R rsp_prod, C req_cons, c rsp_cons: the slot that the index will use next.", "faint"),
  );
}

function ringChoice(memory) {
  const head = el("h2", "Ring "), list = el("select");
  list.dataset.key = "rings";
  list.setAttribute("aria-label", "which ring (m)");
  for (const one of rings()) {
    const option = el("option", memoryTitle(one));
    option.value = one.id;
    option.selected = one === memory;
    list.append(option);
  }
  list.addEventListener("change", () => choose({memory: +list.value, slot: 0, byte: 0}));
  head.append(list);
  return head;
}

function occupation(at, count) {
  const waiting = (at.req_prod.value - at.rsp_prod.value) >>> 0;
  if (waiting > count) return `${waiting} requests in a ring of ${count}: damaged.`;
  let text = `Requests without an answer: ${waiting}`;
  if (at.req_cons) text += `, not taken yet: ${(at.req_prod.value - at.req_cons.value) >>> 0}`;
  if (at.rsp_cons) text += `; responses not taken yet: ${(at.rsp_prod.value - at.rsp_cons.value) >>> 0}`;
  return text + ".";
}

function slots(memory, division, at) {
  const pending = Math.min(division.count, (at.req_prod.value - at.rsp_prod.value) >>> 0);
  const marks = new Map();
  for (const [name, mark] of Object.entries(MARKS))
    if (at[name]) marks.set(at[name].value % division.count, (marks.get(at[name].value % division.count) || "") + mark);
  const group = el("div", undefined, "slots");
  group.dataset.moves = "slot";
  for (let k = 0; k < division.count; k++) {
    const backends = ((k - at.rsp_prod.value) >>> 0) % division.count < pending;
    const touched = writtenBy(memory.id, division.first + k * division.unit, state.step);
    const one = button(marks.get(k) || "", "s" + k, () => choose({slot: k, byte: 0}));
    one.className = (backends ? "backend" : touched ? "frontend" : "") + (k === state.slot ? " chosen" : "") + (one.textContent.length > 2 ? " many" : "");
    one.title = `slot ${k}: ${backends ? "the backend's" : "the frontend's"}` + [...one.textContent].map((mark) => `, ${NAMES[mark]}`).join("");
    one.setAttribute("aria-label", one.title);
    one.tabIndex = k === state.slot ? 0 : -1;
    group.append(one);
  }
  return group;
}

function slot(panel) {
  const memory = memories.get(state.memory), division = memory && protocol.memories[memory.what];
  if (!division) return panel.replaceChildren();
  const {step} = state, at = division.first + state.slot * division.unit, name = slotStructure(memory, state.slot, step);
  const parts = [el("h2", `Slot ${state.slot}: struct ${protocol.structures[name].name}`)];
  if (!writtenBy(memory.id, at, step)) parts.push(el("p", "never written", "faint"));
  parts.push(structureView(memory, at, name, step, "slot"));
  if (name === division.response && protocol.structures[name].size < division.unit)
    parts.push(el("p", "The rest of the slot holds what the request left there.", "faint"));
  panel.replaceChildren(...parts);
}

// -- grants, events and other memory ----------------------------------------------------------------

const ALWAYS_SHOWN = ["grant table", "event array", "shared info"];
const MOST_PLACES = 8;

function grants(panel) {
  const {step} = state, here = eventAt(step), parts = [];
  for (const memory of memories.values()) {
    const touched = isAccess(here) && here.memory === memory.id;
    const ring = (protocol.memories[memory.what] || {}).count;
    if (ring || memory.known[0].step > step || !(touched || ALWAYS_SHOWN.includes(memory.what))) continue;
    const part = places(memory, step, here);
    if (touched) parts.unshift(...part); else parts.push(...part);
  }
  panel.replaceChildren(...(parts.length ? parts : [el("h2", "Grants and events"), "no such memory is known yet"]));
}

/** The places of a memory that were written last, and the chosen one byte by byte. */
function places(memory, step, here) {
  const division = divisionOf(memory, step), seen = new Set(), rows = [];
  const divide = (at) => Math.floor((at - division.first) / division.unit);
  if (isAccess(here) && here.memory === memory.id) seen.add(divide(here.at));
  for (let i = countUpTo(memory.written, step) - 1; i >= 0 && seen.size < MOST_PLACES; i--) seen.add(divide(eventAt(memory.written[i]).at));
  const chosen = state.place && state.place[0] === memory.id ? state.place[1] : -1;
  for (const k of seen) {
    const at = division.first + k * division.unit, from = `g${memory.id}.${k}`, name = division.structure(k);
    const pick = button(placeTitle(memory, division, k, step), from, () => choose({place: k === chosen ? null : [memory.id, k], byte: 0}), "why");
    pick.setAttribute("aria-expanded", k === chosen);
    const tr = row([pick, placeText(memory, at, name, division.unit, step), writers(memory.id, at, division.unit, step, from), readers(memory.id, at, division.unit, step, from)]);
    if (here.memory === memory.id && isAccess(here) && here.at < at + division.unit && at < here.at + here.size) tr.className = "changed";
    rows.push(tr);
  }
  const head = el("h2", memoryTitle(memory)), body = rows.length ? table(["", "what it holds", "written by", "read by"], rows) : el("p", "not written yet", "faint");
  if (chosen < 0) return [head, body];
  const at = division.first + chosen * division.unit;
  return [head, body, el("h3", placeTitle(memory, division, chosen, step)), structureView(memory, at, division.structure(chosen), step, "place")];
}

/** The name of a place; of one that is no structure what the recording calls its last write. */
function placeTitle(memory, division, k, step) {
  const by = writtenBy(memory.id, division.first + k * division.unit, step);
  return (!division.structure(k) && by && eventAt(by).field) || placeName(division, k);
}

function placeText(memory, at, name, unit, step) {
  if (name) return fieldsAt(name, memory.id, at, step).map((one) => `${one.name} ${fieldText(one, memory.id, at, step)}`).join(", ");
  let text = "";
  for (let k = 0; k < unit; k++) text += hexByte(byteAt(memory.id, at + k, step)) + " ";
  return text;
}

// -- the store --------------------------------------------------------------------------------------

function store(panel) {
  const {step} = state, {nodes, gone, open} = storeAt(step), rows = [], told = new Set();
  const shown = new Map([...nodes].map(([path, node]) => [path, {...node, cls: node.done === step ? "changed" : ""}]));
  for (const [path, when] of gone) if (when === step) shown.set(path, {value: "removed", step: when, cls: "changed gone"});
  const inOrder = (path) => path.replaceAll("/", "\0");
  for (const path of [...shown.keys()].sort((a, b) => (inOrder(a) < inOrder(b) ? -1 : 1))) {
    const parts = path.split("/").filter(Boolean);
    for (let depth = 0; depth < parts.length; depth++) {
      const prefix = "/" + parts.slice(0, depth + 1).join("/");
      if (told.has(prefix)) continue;
      told.add(prefix);
      rows.push(nodeRow(parts[depth], depth, shown.get(prefix), prefix));
    }
  }
  const parts = [el("h2", "XenStore"), rows.length ? table(["node", "value", "written by"], rows) : el("p", "nothing was written yet", "faint")];
  if (open.length) {
    parts.push(el("h3", "Within transactions that have not ended: not in the store"));
    parts.push(table(["node", "", "step"], open.map((one) => row([absolute(eventAt(one)), `${eventAt(one).op} ${eventAt(one).value || ""}`, link(one, "o" + one)]))));
  }
  panel.replaceChildren(...parts);
}

function nodeRow(name, depth, node, path) {
  const label = el("span", name);
  label.style.paddingLeft = `${depth}em`;
  label.title = path;
  const known = protocol.states[node && name === "state" ? node.value : ""];
  const tr = row([label, node ? (known ? `${node.value} (${known})` : node.value) : "", node && node.step ? link(node.step, "x" + path) : ""]);
  tr.className = node ? node.cls : "";
  return tr;
}
