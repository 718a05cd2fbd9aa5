"use strict";
// What a recording says: who wrote and read each byte when, what an index was, what the store held,
// and which step to look at for the reason of another. Nothing here touches the document.
//
// A step is a position in `events` plus 1; an event's own number is n. Step 0 is "at the start".

const {header, events} = JSON.parse(document.getElementById("trace").textContent);
/** What the page knows of the protocol; names of a recording are looked up in it, so that its objects
 * have no members but their own. */
const protocol = JSON.parse(document.getElementById("protocol").textContent, (name, value) =>
  value === null || typeof value !== "object" || Array.isArray(value) ? value : Object.setPrototypeOf(value, null));

const eventAt = (at) => events[at - 1];
const isAccess = (e) => e.kind === "load" || e.kind === "store" || e.kind === "update";
const reads = (e) => e.kind === "load" || e.kind === "update";
const writes = (e) => e.kind === "store" || e.kind === "update";
const covers = (e, at) => e.at <= at && at < e.at + e.size;

function listIn(table, key) {
  let found = table.get(key);
  if (!found) table.set(key, found = []);
  return found;
}

function bytesOf(hex) {
  const bytes = new Uint8Array((hex || "").length >> 1);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** How many of `steps`, which rise, are at most `step`. */
function countUpTo(steps, step) {
  let low = 0, high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle + 1; else high = middle;
  }
  return low;
}

// -- memories -----------------------------------------------------------------------------------

const SMALL = 16, LARGE = 4096; // bytes by which accesses are looked up, short and long ones
const LONG = 256;

/** Position of an event by its number; steps that a step caused; memories by their ids. */
const stepOf = new Map(), caused = new Map(), memories = new Map(), domains = [];
/** Steps of the kinds that panels look for. */
const stepsOf = new Map();

function newMemory(e) {
  return {
    id: e.memory, what: e.what, owner: e.owner, vif: e.vif, queue: e.queue, bytes: e.bytes,
    known: [], written: [], access: {small: new Map(), large: new Map()}, priv: new Map(),
  };
}

function noteAccess(memory, e, step) {
  const [table, unit] = e.size > LONG ? [memory.access.large, LARGE] : [memory.access.small, SMALL];
  for (let k = Math.floor(e.at / unit); k * unit < e.at + e.size; k++) listIn(table, k).push(step);
  if (writes(e)) memory.written.push(step);
}

events.forEach((e, i) => {
  const step = i + 1;
  stepOf.set(e.n, step);
  listIn(stepsOf, e.kind).push(step);
  if (stepOf.has(e.cause)) listIn(caused, stepOf.get(e.cause)).push(step);
  if (Number.isInteger(e.dom) && !domains.includes(e.dom)) domains.push(e.dom);
  if (e.kind === "memory") {
    const memory = memories.get(e.memory) || newMemory(e);
    memories.set(e.memory, memory);
    memory.bytes = e.bytes; // it may have grown
    memory.known.push({step, first: bytesOf(e.initial)});
  }
  const memory = memories.get(e.memory);
  if (memory && isAccess(e)) noteAccess(memory, e, step);
  if (memory && e.kind === "private") listIn(memory.priv, e.index).push(step);
});
domains.sort((a, b) => a - b);

/** The accesses that may cover a byte: two lists of steps that rise. */
function accessesNear(memory, at) {
  const {small, large} = memory.access;
  return [small.get(Math.floor(at / SMALL)) || [], large.get(Math.floor(at / LARGE)) || []];
}

/** The step up to `step` that wrote byte `at` last; 0: it has its first value. */
function writtenBy(id, at, step) {
  const memory = memories.get(id);
  let best = 0;
  for (const steps of memory ? accessesNear(memory, at) : [])
    for (let k = countUpTo(steps, step) - 1; k >= 0 && steps[k] > best; k--) {
      const e = eventAt(steps[k]);
      if (writes(e) && covers(e, at)) best = steps[k];
    }
  return best;
}

/** The steps that read the value that byte `at` has at `step`: those behind the one that wrote it,
 * up to the next one that writes it (which reads it as well if it is an update). */
function readBy(id, at, step) {
  const memory = memories.get(id), from = writtenBy(id, at, step), found = [];
  let end = Infinity;
  for (const steps of memory ? accessesNear(memory, at) : [])
    for (let k = countUpTo(steps, from); k < steps.length && steps[k] <= end; k++) {
      const e = eventAt(steps[k]);
      if (!covers(e, at)) continue;
      if (reads(e)) found.push(steps[k]);
      if (writes(e)) end = steps[k];
    }
  return found.filter((one) => one <= end).sort((a, b) => a - b);
}

function byteAt(id, at, step) {
  const memory = memories.get(id), by = writtenBy(id, at, step);
  const known = memory.known.filter((one) => one.step <= step).pop() || memory.known[0];
  if (by > known.step) {
    const e = eventAt(by), within = 2 * (at - e.at);
    return parseInt(e.bytes.slice(within, within + 2), 16);
  }
  return known.first[at] || 0;
}

/** A little-endian number; a BigInt if it may not fit a Number. */
function numberAt(id, at, size, step) {
  let value = 0n;
  for (let k = size - 1; k >= 0; k--) value = value * 256n + BigInt(byteAt(id, at + k, step));
  return size > 6 ? value : Number(value);
}

const rings = () => [...memories.values()].filter((one) => (protocol.memories[one.what] || {}).count);

function memoryTitle(memory) {
  const vif = memory.vif ? `${memory.vif} ` : "", queue = Number.isInteger(memory.queue) ? ` of queue ${memory.queue}` : "";
  const whose = Number.isInteger(memory.owner) ? ` of domain ${memory.owner}` : "";
  const same = (one) => one !== memory && one.what === memory.what && one.owner === memory.owner && one.vif === memory.vif && one.queue === memory.queue;
  const which = [...memories.values()].some(same) ? ` (memory ${memory.id})` : "";
  return `${vif}${memory.what}${queue}${whose}${which}`;
}

/** Version of a domain's grant table: what its last GNTTABOP_set_version asked for; without one it
 * is 2 if there is a table of states, which only that has. */
function grantVersion(domid, step) {
  const steps = stepsOf.get("hypercall") || [];
  for (let k = countUpTo(steps, step) - 1; k >= 0; k--) {
    const e = eventAt(steps[k]);
    if (e.op === "GNTTABOP_set_version" && e.dom === domid && e.result === 0) return e.args[0];
  }
  const states = [...memories.values()].some((one) => one.what === "grant status" && one.owner === domid && one.known[0].step <= step);
  return states ? 2 : 1;
}

// -- indices, notifications and reasons ------------------------------------------------------------

const INDICES = ["req_prod", "req_event", "rsp_prod", "rsp_event"];
const PRIVATE = ["req_prod_pvt", "rsp_cons", "rsp_prod_pvt", "req_cons"];
const EVENT_OF = {__proto__: null, req_prod: "req_event", rsp_prod: "rsp_event"};
const INDEX_OF = {__proto__: null, req_event: "req_prod", rsp_event: "rsp_prod"};
const headerAt = (name) => 4 * INDICES.indexOf(name);

/** Whether index `value` has reached `event`, modulo 2^32. */
const reached = (value, event) => ((value - event) >>> 0) < 0x80000000;
/** RING_PUSH_*_AND_CHECK_NOTIFY: whether an index that goes from `before` to `after` passes `event`. */
const passes = (before, after, event) => ((after - event) >>> 0) < ((after - before) >>> 0);

/** Whether an access to an event field is of the end that asks for the event; who else writes it
 * makes a new ring. */
const isConsumer = (e, memory) => (INDEX_OF[e.field] === "req_prod") === (e.dom !== memory.owner);

const headerAccesses = (memory) => memory.access.small.get(0) || [];

/** The last load of an index by `dom` before a step, or the first one behind it in delivery `d`. */
function lookBefore(memory, index, dom, step) {
  const steps = headerAccesses(memory);
  for (let k = countUpTo(steps, step - 1) - 1; k >= 0; k--) {
    const e = eventAt(steps[k]);
    if (e.kind === "load" && e.dom === dom && covers(e, headerAt(index))) return steps[k];
  }
  return 0;
}

function looksBehind(memory, index, dom, step, d) {
  const steps = headerAccesses(memory);
  return steps.slice(countUpTo(steps, step)).some((one) => {
    const e = eventAt(one);
    return e.d === d && e.kind === "load" && e.dom === dom && covers(e, headerAt(index));
  });
}

/** The lost wake-ups: {memory, index, step: where an event is asked for that the index has passed,
 * behind which nobody looks again; early: the look before; publish and notify: of the index}. */
function findLostWakeUps() {
  const found = [], ended = new Set((stepsOf.get("end") || []).map((one) => eventAt(one).d));
  for (const memory of rings())
    for (const step of headerAccesses(memory)) {
      const e = eventAt(step), index = INDEX_OF[e.field];
      if (e.kind !== "store" || !index || !isConsumer(e, memory) || !ended.has(e.d)) continue;
      const asked = numberAt(memory.id, headerAt(e.field), 4, step);
      if (!reached(numberAt(memory.id, headerAt(index), 4, step), asked)) continue;
      const early = lookBefore(memory, index, e.dom, step), publish = publicationOf(memory, index, asked, step);
      if (!publish || early > publish || looksBehind(memory, index, e.dom, step, e.d)) continue;
      const notify = (caused.get(publish) || []).find((one) => eventAt(one).kind === "notify") || 0;
      if (notify && eventAt(notify).sent) continue;
      found.push({memory, index, step, early, publish, notify});
    }
  return found;
}

/** The last "publish" before `step` by which an index passed the event `asked`. */
function publicationOf(memory, index, asked, step) {
  const steps = stepsOf.get("publish") || [];
  for (let k = countUpTo(steps, step) - 1; k >= 0; k--) {
    const e = eventAt(steps[k]);
    if (e.memory === memory.id && e.index === index && passes(e.old, e.new, asked)) return steps[k];
  }
  return 0;
}

const lostWakeUps = findLostWakeUps();
const lostAt = (step) => lostWakeUps.find((one) => step === one.step || step === one.notify || step === one.publish);

/** The publication that a "notify" is about, and its event; {} if there is none. */
function publicationFor(e) {
  const step = e.kind === "publish" ? stepOf.get(e.n) : stepOf.get(e.cause);
  const published = step ? eventAt(step) : null;
  return published && published.kind === "publish" ? published : {};
}

/** Why: the one step to look at next, 0 if there is none. */
function why(step) {
  const e = eventAt(step), lost = lostAt(step), memory = memories.get(e.memory);
  if (lost) return step === lost.step ? lost.early : lost.step;
  if (stepOf.has(e.event_set_by)) return stepOf.get(e.event_set_by);
  if (INDEX_OF[e.field] && writes(e)) {
    const look = lookBefore(memory, INDEX_OF[e.field], e.dom, step);
    if (look) return look;
  }
  if (e.kind === "load") {
    const by = writtenBy(e.memory, e.at, step);
    if (by) return by;
  }
  return stepOf.get(e.cause) || 0;
}

/** The last value of a private index up to `step`: {value, step}; null if it is not recorded. */
function privateIndex(memory, name, step) {
  const steps = memory.priv.get(name) || [], count = countUpTo(steps, step);
  if (count) return {value: eventAt(steps[count - 1]).new, step: steps[count - 1]};
  return steps.length ? {value: eventAt(steps[0]).old, step: 0} : null;
}

/** Steps that something is wrong at: {step, text}, in order. */
function findProblems() {
  const found = lostWakeUps.map((one) => ({step: one.step, text: "lost wake-up"}));
  for (const step of stepsOf.get("check") || []) {
    const e = eventAt(step);
    found.push({step: stepOf.get(e.cause) || step, text: `${e.verdict} ${e.rule || ""}`});
  }
  for (const step of stepsOf.get("packet") || [])
    if (eventAt(step).rule) found.push({step, text: `refused: ${eventAt(step).rule}`});
  return found.sort((a, b) => a.step - b.step);
}
const problems = findProblems();

/** Whether a store of an event field is one by which a ring becomes usable (SHARED_RING_INIT): both
 * event fields are 1 then, and nothing was published. */
function isNewRing(e) {
  const memory = memories.get(e.memory), step = stepOf.get(e.n);
  return Boolean(memory) && e.dom === memory.owner && !publicationsBefore(memory, step);
}

function publicationsBefore(memory, step) {
  return (stepsOf.get("publish") || []).some((one) => one < step && eventAt(one).memory === memory.id);
}

/** The frontend, which owns the page of a ring, or the backend; "" for another domain. */
const roles = new Map();
for (const memory of rings()) {
  roles.set(memory.owner, "frontend");
  for (const step of headerAccesses(memory)) {
    const {dom} = eventAt(step);
    if (domains.includes(dom) && !roles.has(dom)) roles.set(dom, "backend");
  }
}

/** The steps that say that something is wrong with a step. */
const checksOf = (step) => (caused.get(step) || []).filter((one) => eventAt(one).kind === "check");

/** The ids of the rules that a step follows, or that it is about. */
function rulesOf(step) {
  const e = eventAt(step), lost = lostAt(step), follows = protocol.step_rules;
  const broken = checksOf(step).map((one) => eventAt(one).rule).filter(Boolean);
  if (broken.length || e.rule) return broken.length ? broken : [e.rule];
  if (lost && step === lost.step) return follows["lost " + lost.index];
  if (e.kind === "notify") return follows[`${e.sent ? "sent" : "avoided"} ${publicationFor(e).index}`] || [];
  if (e.kind === "publish") return follows[`publish ${e.index}`] || [];
  if (INDEX_OF[e.field] && writes(e) && isNewRing(e)) return follows["new " + e.field];
  if (e.kind === "load" && /^slot /.test(e.field || "")) return follows["load slot"];
  return follows[e.kind] || follows[`${e.kind} ${e.field}`] || [];
}

// -- the store ---------------------------------------------------------------------------------------

/** The requests that change the store, in order: {step, op, path, value, who, tx}. */
const storeSteps = (stepsOf.get("xenstore") || []).filter((step) => !eventAt(step).error || eventAt(step).op === "TRANSACTION_END");

const absolute = (e) => String(e.path || "").startsWith("/") ? e.path : `/local/domain/${e.dom}/${e.path || ""}`;

function change(nodes, gone, e, step) {
  const path = absolute(e);
  if (e.op === "WRITE" || (e.op === "MKDIR" && !nodes.has(path))) {
    nodes.set(path, {value: e.op === "WRITE" ? e.value : "", step});
    gone.delete(path);
  }
  if (e.op !== "RM") return;
  for (const one of [...nodes.keys()])
    if (one === path || one.startsWith(path + "/")) { nodes.delete(one); gone.set(one, step); }
}

/** The store at `step`: {nodes: path -> {value, step, done}, gone: path -> step, open: changes of
 * transactions that have not ended}. What a transaction did is there when it ends well, not before;
 * `done` is the step of that end. */
function storeAt(step) {
  const nodes = new Map(), gone = new Map(), open = new Map();
  for (const one of storeSteps) {
    if (one > step) break;
    const e = eventAt(one), key = `${e.who} ${e.tx}`;
    if (e.op === "TRANSACTION_START") open.set(key, []);
    else if (e.op === "TRANSACTION_END") {
      if (e.ended ? e.ended === "committed" : e.value === "T" && !e.error)
        for (const each of open.get(key) || []) commit(nodes, gone, each, one);
      open.delete(key);
    } else if (!["WRITE", "MKDIR", "RM"].includes(e.op)) continue;
    else if (e.tx) listIn(open, key).push(one);
    else commit(nodes, gone, one, one);
  }
  return {nodes, gone, open: [...open.values()].flat()};
}

function commit(nodes, gone, at, done) {
  const e = eventAt(at), path = absolute(e);
  change(nodes, gone, e, at);
  if (nodes.has(path)) nodes.get(path).done = done;
  if (e.op === "RM") for (const [one, when] of gone) if (when === at) gone.set(one, done);
}
