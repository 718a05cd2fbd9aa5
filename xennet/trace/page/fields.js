// Which structure of the protocol lies at a place of a shared memory, and what its fields say.

/** The fields of a structure at a byte of a memory, with its union as the bytes choose it. */
function fieldsAt(name, id, at, step) {
  const structure = protocol.structures[name];
  let variant = "-1";
  if (structure.selector) {
    const [offset, size, mask] = structure.selector;
    const chosen = String(Number(numberAt(id, at + offset, size, step)) & mask);
    if (structure.variants[chosen]) variant = chosen;
  }
  return structure.variants[variant];
}

/** A field as text: its number, and the names of its bits or value. */
function fieldText(field, id, at, step) {
  if (field.text) {
    let hex = "";
    for (let k = 0; k < field.size; k++) hex += hexByte(byteAt(id, at + field.at + k, step));
    return hex;
  }
  let value = numberAt(id, at + field.at, field.size, step);
  if (field.signed && value >= 2 ** (8 * field.size - 1)) value -= 2 ** (8 * field.size);
  const said = [];
  if (field.values && field.values[value] !== undefined) said.push(field.values[value]);
  for (const [bit, name] of Object.entries(field.bits || {}))
    if ((BigInt(value) & BigInt(bit)) !== 0n) said.push(name);
  for (const [name, mask] of Object.entries(field.parts || {})) said.push(`${name} ${Number(value) & mask}`);
  return String(value) + (said.length ? ` (${said.join(", ")})` : "");
}

const hexByte = (value) => value.toString(16).padStart(2, "0");

/** How a memory is divided at `step`: {unit, first, count, called, structure(k)}. */
function divisionOf(memory, step) {
  const known = protocol.memories[memory.what] || {};
  if (known.count) return {...known, structure: (k) => slotStructure(memory, k, step)};
  const versions = known.versions || {};
  const name = known.structure || versions[grantVersion(memory.owner, step)] || versions[1];
  const unit = name ? protocol.structures[name].size : known.arrays ? 8 : SMALL;
  const count = Math.floor(memory.bytes / unit);
  return {called: known.called || "bytes", unit, first: 0, count, arrays: known.arrays, structure: () => name || ""};
}

/** The name of place `k` of a memory: "slot 3", "entry 8", "evtchn_pending 0". */
function placeName(division, k) {
  const at = division.first + k * division.unit;
  for (const [name, [start, size]] of Object.entries(division.arrays || {}))
    if (start <= at && at < start + size) return `${name} ${(at - start) / division.unit}`;
  if (division.called === "bytes") return `bytes ${at} to ${at + division.unit - 1}`;
  return `${division.called} ${k}`;
}

/** Whether the owner of a ring wrote the beginning of slot `k` last: then it holds a request. */
function holdsRequest(memory, k, step) {
  const ring = protocol.memories[memory.what], by = writtenBy(memory.id, ring.first + k * ring.unit, step);
  return by === 0 || eventAt(by).dom === memory.owner;
}

/** The structure in slot `k`: what the recording says of its beginning; else a request, a response,
 * or extra info behind one of them that says so. */
function slotStructure(memory, k, step) {
  const ring = protocol.memories[memory.what], by = writtenBy(memory.id, ring.first + k * ring.unit, step);
  const said = by && [ring.request, ring.response, "EXTRA_INFO"].find((one) => protocol.structures[one].name === eventAt(by).structure);
  if (said) return said;
  const kind = holdsRequest(memory, k, step) ? "request" : "response";
  return ring.extra === kind && isExtra(memory, k, step, kind) ? "EXTRA_INFO" : ring[kind];
}

/** The slots before it tell: the first of a packet has the flag extra_info, extra info that is not
 * the last one has the flag more. No packet has more slots than `LONGEST`. */
const LONGEST = 24;
function isExtra(memory, k, step, kind) {
  const ring = protocol.memories[memory.what];
  let extra = false, next = false;
  for (let back = LONGEST; back >= 0; back--) {
    const slot = (k - back + ring.count) % ring.count, at = ring.first + slot * ring.unit;
    const mine = writtenBy(memory.id, at, step) && holdsRequest(memory, slot, step) === (kind === "request");
    extra = mine && next;
    next = mine && hasFlag(extra ? "EXTRA_INFO" : ring[kind], extra ? "more" : "extra_info", memory.id, at, step);
  }
  return extra;
}

function hasFlag(structure, flag, id, at, step) {
  const field = fieldsAt(structure, id, at, step).find((one) => one.name === "flags");
  const bit = Object.entries(field.bits).find(([, name]) => name === flag);
  return (numberAt(id, at + field.at, field.size, step) & Number(bit[0])) !== 0;
}
