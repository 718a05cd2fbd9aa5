// Elements of the document. Text of a recording gets into it as text nodes and nowhere else.

const $ = (id) => document.getElementById(id);

function el(tag, text, cls) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (cls) made.className = cls;
  return made;
}

/** A cell for each of `cells`, which are nodes or text. */
function row(cells, tag = "td") {
  const tr = el("tr");
  for (const one of cells) {
    const cell = el(tag);
    cell.append(one instanceof Node ? one : String(one));
    tr.append(cell);
  }
  return tr;
}

function table(head, rows) {
  const made = el("table");
  made.append(row(head, "th"), ...rows);
  return made;
}

/** A button that keeps the focus, by its key, when its panel is drawn again. */
function button(text, key, pressed, cls) {
  const made = el("button", text, cls);
  made.type = "button";
  made.dataset.key = key;
  made.addEventListener("click", pressed);
  return made;
}

/** A link to a step; `from` says where it stands, so that it is found again. */
const link = (step, from, text) => button(text || `step ${step}`, `${from}>${step}`, () => go(step), "why");

const SINCE_THE_START = "nobody since the start";
const MOST_LINKS = 6;
function links(steps, from, none) {
  const span = el("span");
  for (const step of steps.slice(0, MOST_LINKS)) span.append(link(step, from, String(step)), " ");
  if (steps.length > MOST_LINKS) span.append(`and ${steps.length - MOST_LINKS} more, the last `, link(steps[steps.length - 1], from, String(steps[steps.length - 1])));
  if (!steps.length) span.append(el("span", none || "nobody", "faint"));
  return span;
}

/** A link to the step that gave a byte its value. */
function writer(id, at, step, from) {
  const by = writtenBy(id, at, step);
  return by ? link(by, from + "w") : el("span", SINCE_THE_START, "faint");
}

/** Links to the steps that wrote any of `size` bytes, and that read them. */
function writers(id, at, size, step, from) {
  const found = new Set();
  for (let k = 0; k < size; k++) found.add(writtenBy(id, at + k, step));
  found.delete(0);
  return links([...found].sort((a, b) => a - b), from + "w", SINCE_THE_START);
}

function readers(id, at, size, step, from) {
  const found = new Set();
  for (let k = 0; k < size; k++) for (const one of readBy(id, at + k, step)) found.add(one);
  return links([...found].sort((a, b) => a - b), from + "r");
}

/** Bytes as a dump of hexadecimal numbers and ASCII. */
function dump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const part = [...bytes.slice(at, at + 16)];
    const hex = part.map(hexByte).join(" ").padEnd(47);
    const ascii = part.map((one) => one >= 32 && one < 127 ? String.fromCharCode(one) : ".").join("");
    lines.push(`${String(at).padStart(5)}  ${hex}  ${ascii}`);
  }
  return el("pre", lines.join("\n"));
}

/** A structure in memory: its bytes, each of which shows the field that it is of, and its fields. */
function structureView(memory, at, name, step, from) {
  const structure = protocol.structures[name];
  const size = structure ? structure.size : SMALL;
  const fields = structure ? fieldsAt(name, memory.id, at, step) : [{name: "bytes", at: 0, size, text: true}];
  const chosen = Math.min(state.byte, size - 1), here = eventAt(step);
  const fieldOf = (k) => fields.findIndex((one) => one.at <= k && k < one.at + one.size);
  const changed = (first, bytes) => here.memory === memory.id && isAccess(here) && here.kind !== "load"
    && here.at < at + first + bytes && at + first < here.at + here.size;
  const group = el("div", undefined, "bytes");
  group.dataset.moves = "byte";
  for (let k = 0; k < size; k++) {
    const one = button(hexByte(byteAt(memory.id, at + k, step)), `${from}b${k}`, () => choose({byte: k}));
    one.className = (k === chosen ? "chosen " : fieldOf(k) === fieldOf(chosen) ? "same " : "") + (changed(k, 1) ? "changed" : "");
    one.tabIndex = k === chosen ? 0 : -1;
    one.setAttribute("aria-label", `byte ${at + k}: ${one.textContent}, ${(fields[fieldOf(k)] || {name: "padding"}).name}`);
    group.append(one);
  }
  const rows = fields.map((field, k) => {
    const tr = row([
      field.name, field.at, field.size, fieldText(field, memory.id, at, step),
      writers(memory.id, at + field.at, field.size, step, `${from}f${k}`),
      readers(memory.id, at + field.at, field.size, step, `${from}f${k}`),
    ]);
    tr.className = (k === fieldOf(chosen) ? "same " : "") + (changed(field.at, field.size) ? "changed" : "");
    tr.addEventListener("click", (click) => { if (click.target.tagName === "TD") choose({byte: field.at}); });
    return tr;
  });
  const about = el("p", `Byte ${at + chosen} of the page: written by `);
  about.append(writer(memory.id, at + chosen, step, from + "1"), ", read by ", readers(memory.id, at + chosen, 1, step, from + "1"), ".");
  const all = el("div");
  all.append(group, about, table(["field", "offset", "size", "value", "written by", "read by"], rows));
  return all;
}
