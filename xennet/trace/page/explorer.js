"use strict";
(() => {
  const {header, events} = JSON.parse(document.getElementById("trace").textContent);
  const $ = (id) => document.getElementById(id);
  const CHUNK = 16, RINGS = {"tx ring": 12, "rx ring": 8}, INDICES = ["req_prod", "req_event", "rsp_prod", "rsp_event"];
  const DECODED = {
    "tx ring": [["gref", 0, 4], ["offset", 4, 2], ["flags", 6, 2], ["id", 8, 2], ["size", 10, 2]],
    "rx ring": [["id or gref of a response's id", 0, 2], ["offset", 2, 2], ["flags or gref's low half", 4, 2], ["status or gref's high half", 6, 2]],
  };
  const place = new Map(), memories = new Map(), domains = [];
  const list = (table, key) => { let found = table.get(key); if (!found) table.set(key, found = []); return found; };
  const bytesOf = (hex) => { const b = new Uint8Array((hex || "").length >> 1); for (let i = 0; i < b.length; i++) b[i] = parseInt(hex.substr(2 * i, 2), 16); return b; };

  // What was accessed when: for every 16 bytes of a memory the steps that did, in order. A step is a
  // position in `events` plus 1; an event's own number is n.
  events.forEach((e, i) => {
    place.set(e.n, i + 1);
    if (e.dom !== null && e.dom !== undefined && !domains.includes(e.dom)) domains.push(e.dom);
    if (e.kind === "memory" && memories.has(e.memory)) Object.assign(memories.get(e.memory), {bytes: e.bytes, frames: e.frames}); // it grew
    else if (e.kind === "memory") memories.set(e.memory, {...e, step: i + 1, first: bytesOf(e.initial), writes: new Map(), reads: new Map()});
    const m = ["store", "load", "update"].includes(e.kind) && memories.get(e.memory);
    if (!m) return;
    for (let c = Math.floor(e.at / CHUNK); c * CHUNK < e.at + e.size; c++) {
      if (e.kind !== "load") list(m.writes, c).push(i + 1);
      if (e.kind !== "store") list(m.reads, c).push(i + 1);
    }
  });
  domains.sort((a, b) => a - b);
  const covers = (e, at) => e.at <= at && at < e.at + e.size;
  const last = (steps, step, fits) => { // the last of `steps` up to `step` that fits
    let low = 0, high = steps.length;
    while (low < high) { const mid = (low + high) >> 1; if (steps[mid] <= step) low = mid + 1; else high = mid; }
    for (let k = low - 1; k >= 0; k--) if (fits(events[steps[k] - 1])) return steps[k];
    return 0;
  };
  function writtenBy(memory, at, step) {
    const m = memories.get(memory);
    return m ? last(m.writes.get(Math.floor(at / CHUNK)) || [], step, (e) => covers(e, at)) : 0;
  }
  function byteAt(memory, at, step) {
    const by = writtenBy(memory, at, step);
    if (by) { const e = events[by - 1]; return parseInt(e.bytes.substr(2 * (at - e.at), 2), 16); }
    return memories.get(memory).first[at] || 0;
  }
  function readBy(memory, at, step) { // up to `step`, since it was last written
    const by = writtenBy(memory, at, step), m = memories.get(memory);
    return (m.reads.get(Math.floor(at / CHUNK)) || []).filter((s) => s > by && s <= step && covers(events[s - 1], at));
  }
  const number = (memory, at, size, step) => { let v = 0; for (let k = size - 1; k >= 0; k--) v = v * 256 + byteAt(memory, at + k, step); return v; };

  const el = (tag, text, cls) => { const x = document.createElement(tag); if (text !== undefined) x.textContent = text; if (cls) x.className = cls; return x; };
  const link = (text, step) => { const b = el("button", text, "why"); b.type = "button"; b.addEventListener("click", () => go(step)); return b; };
  const row = (...cells) => { const tr = el("tr"); for (const c of cells) { const td = el("td"); td.append(c instanceof Node ? c : String(c)); tr.append(td); } return tr; };
  const links = (steps) => { const s = el("span"); steps.slice(-6).forEach((n) => s.append(link(String(n), n))); if (!steps.length) s.append("nobody yet"); return s; };
  const writer = (memory, at, step) => { const by = writtenBy(memory, at, step); return by ? link("step " + by, by) : el("span", "at the start", "faint"); };

  let step = 1, memory = 0, slot = 0, panel = "";
  const trail = [], rings = [...memories.values()].filter((m) => m.what in RINGS);

  // Why: the one step to look at next. An avoided notification leads to the store of the event field
  // that it was compared with; that store leads to the last look at the index it is about.
  function why(at) {
    const e = events[at - 1];
    if (e.event_set_by) return place.get(e.event_set_by) || 0;
    const index = {req_event: "req_prod", rsp_event: "rsp_prod"}[e.field];
    if (index && e.kind !== "load")
      for (let s = at - 1; s > 0; s--) { const x = events[s - 1]; if (x.kind === "load" && x.memory === e.memory && x.field === index && x.dom === e.dom) return s; }
    if (e.cause) return place.get(e.cause) || 0;
    return e.kind === "load" ? writtenBy(e.memory, e.at, at) : 0;
  }
  function go(to, keep) {
    to = Math.max(1, Math.min(events.length, Math.round(to) || 1));
    if (!keep && to !== step) trail.push(step);
    step = to;
    const e = events[step - 1], m = memories.get(e.memory);
    if (m && m.what in RINGS) {
      memory = m.memory;
      if (e.at >= 64) slot = Math.floor((e.at - 64) / RINGS[m.what]);
    }
    show();
  }
  function show() {
    const e = events[step - 1];
    if (!e) { $("sentence").textContent = "The trace has no events."; return; }
    $("scrub").value = step;
    $("count").textContent = `step ${step} of ${events.length}, ${e.t / 1000} µs`;
    $("sentence").textContent = (e.dom === null || e.dom === undefined ? "" : `domain ${e.dom}: `) + (e.text || e.kind) + (e.rule ? ` [${e.rule}]` : "");
    const l = $("links"); l.replaceChildren();
    if (why(step)) l.append("why (w): ", link("step " + why(step), why(step)));
    if (e.kind === "publish" || e.kind === "notify") {
      l.append(`index went from ${e.old} to ${e.new}, compared with event ${e.event}`);
      if (place.has(e.event_set_by)) l.append(", set by ", link("step " + place.get(e.event_set_by), place.get(e.event_set_by)));
    }
    lanes(); ring(); bits(e); store();
    history.replaceState(null, "", `#step=${step}&memory=${memory}&slot=${slot}` + (panel ? `&panel=${panel}` : ""));
  }
  function lanes() {
    const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), height = 42, from = Math.max(1, step - 40), to = Math.min(events.length, from + 80);
    const add = (tag, attrs, text) => { const x = document.createElementNS(ns, tag); for (const k in attrs) x.setAttribute(k, attrs[k]); if (text) x.textContent = text; svg.append(x); return x; };
    const x = (s) => 90 + (s - from) * 13, y = (d) => 24 + Math.max(0, domains.indexOf(d)) * height;
    svg.setAttribute("viewBox", `0 0 1150 ${Math.max(1, domains.length) * height + 8}`);
    svg.setAttribute("role", "img"); svg.setAttribute("aria-label", `Steps ${from} to ${to} of ${domains.length} domains`);
    domains.forEach((d) => { add("text", {x: 4, y: y(d) + 4}, "domain " + d); add("line", {x1: 86, y1: y(d), x2: 1140, y2: y(d)}); });
    for (let s = from; s <= to; s++) {
      const e = events[s - 1], c = place.get(e.cause);
      if (["upcall", "begin", "post"].includes(e.kind) && c >= from && events[c - 1].dom !== e.dom)
        add("line", {x1: x(c), y1: y(events[c - 1].dom), x2: x(s), y2: y(e.dom), class: "arrow"});
    }
    for (let s = from; s <= to; s++) {
      const e = events[s - 1], kind = e.kind === "notify" ? (e.sent ? "notify" : "avoided") : "";
      const dot = add("circle", {cx: x(s), cy: y(e.dom), r: e.kind === "notify" || s === step ? 6 : 4, class: kind + (s === step ? " here" : "")});
      dot.addEventListener("click", () => go(s)); dot.append(Object.assign(document.createElementNS(ns, "title"), {textContent: `${s}: ${e.text || e.kind}`}));
    }
    $("lanes").replaceChildren(el("h2", "Time line"), svg);
  }
  function ring() {
    const m = memories.get(memory);
    if (!m || !(m.what in RINGS)) { $("ring").replaceChildren(el("h2", "Ring"), "no ring is known yet"); $("slot").replaceChildren(); return; }
    const size = RINGS[m.what], table = el("table"), here = events[step - 1], value = {};
    table.append(row("field", "value", "written by", "read by"));
    INDICES.forEach((name, k) => {
      value[name] = number(memory, 4 * k, 4, step);
      const tr = row(name, value[name], writer(memory, 4 * k, step), links(readBy(memory, 4 * k, step)));
      if (here.memory === memory && covers(here, 4 * k)) tr.className = "changed";
      table.append(tr);
    });
    const pending = (value.req_prod - value.rsp_prod) >>> 0, slots = el("div"); slots.id = "slots";
    for (let k = 0; k < 256; k++) {
      const b = el("button"), mine = ((k - value.rsp_prod) & 255) < Math.min(256, pending);
      b.type = "button"; b.tabIndex = k === slot ? 0 : -1; b.title = `slot ${k}: ${mine ? "the backend's" : "the frontend's"}`; b.setAttribute("aria-label", b.title);
      b.className = (mine ? "backend" : writtenBy(memory, 64 + k * size, step) ? "frontend" : "") + (k === slot ? " chosen" : "");
      b.addEventListener("click", () => { slot = k; show(); }); slots.append(b);
    }
    $("ring").replaceChildren(el("h2", `${m.vif || ""} ${m.what}` + (pending > 256 ? `: ${pending} requests in a ring of 256: damaged` : "")), table, slots, el("p", "orange: the backend's; blue: written, the frontend's; empty: never written", "faint"));
    const t = el("table"); t.append(row("byte", "hex", "written by", "read by"));
    for (let k = 0; k < size; k++) {
      const at = 64 + slot * size + k, tr = row(at, byteAt(memory, at, step).toString(16).padStart(2, "0"), writer(memory, at, step), links(readBy(memory, at, step)));
      if (here.memory === memory && here.kind !== "load" && covers(here, at)) tr.className = "changed";
      t.append(tr);
    }
    const by = writtenBy(memory, 64 + slot * size, step), meaning = by && events[by - 1].meaning, d = el("table");
    if (meaning) for (const k of Object.keys(meaning)) d.append(row(k, typeof meaning[k] === "object" ? JSON.stringify(meaning[k]) : meaning[k]));
    else for (const [k, off, n] of DECODED[m.what]) d.append(row(k, number(memory, 64 + slot * size + off, n, step)));
    const both = el("div", undefined, "row"); both.append(t, d); $("slot").replaceChildren(el("h2", `Slot ${slot}`), both);
  }
  function bits(here) {
    const parts = [];
    for (const m of memories.values()) {
      if (RINGS[m.what] || m.step > step || !["grant table", "shared info", "event array"].includes(m.what)) continue;
      const t = el("table"), seen = new Set();
      for (let s = step; s > 0 && seen.size < 24 && step - s < 4000; s--) {
        const e = events[s - 1];
        if (e.memory !== m.memory || (e.kind !== "store" && e.kind !== "update") || seen.has(e.field)) continue;
        seen.add(e.field);
        const tr = row(e.field || `byte ${e.at}`, e.bytes, e.meaning ? JSON.stringify(e.meaning) : "", link("step " + s, s));
        if (e === here) tr.className = "changed";
        t.append(tr);
      }
      parts.push(el("h2", `${m.what} of domain ${m.owner}`), t);
    }
    $("grants").replaceChildren(...(parts.length ? parts : [el("h2", "Grants and events"), "nothing yet"]));
  }
  function store() {
    const nodes = new Map();
    for (let s = 1; s <= step; s++) {
      const e = events[s - 1], op = String(e.op || "").toLowerCase();
      if (e.kind !== "xenstore" || e.error) continue;
      if (op === "write") nodes.set(e.path, [e.value, s]);
      else if (op === "mkdir") nodes.has(e.path) || nodes.set(e.path, ["", s]);
      else if (op === "rm") for (const p of [...nodes.keys()]) if (p === e.path || p.startsWith(e.path + "/")) nodes.delete(p);
    }
    const t = el("table");
    for (const p of [...nodes.keys()].sort()) { const [v, s] = nodes.get(p), tr = row(p, v === null || v === undefined ? "" : v, link("step " + s, s)); if (s === step) tr.className = "changed"; t.append(tr); }
    $("store").replaceChildren(el("h2", "XenStore"), t);
  }
  function find(text) {
    const want = text.toLowerCase();
    for (let k = 1; want && k <= events.length; k++) { const s = (step - 1 + k) % events.length; if (JSON.stringify(events[s]).toLowerCase().includes(want)) return go(s + 1); }
  }
  const theme = () => { const r = document.documentElement, dark = r.dataset.theme ? r.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches; r.dataset.theme = dark ? "light" : "dark"; };
  const turn = (by) => { slot = (slot + by + 256) % 256; show(); };
  const nextRing = () => { if (rings.length) { memory = rings[(rings.findIndex((m) => m.memory === memory) + 1) % rings.length].memory; show(); } };
  const KEYS = {
    ArrowLeft: () => go(step - 1), ArrowRight: () => go(step + 1), PageUp: () => go(step - 50), PageDown: () => go(step + 50), Home: () => go(1), End: () => go(events.length),
    w: () => why(step) && go(why(step)), Backspace: () => trail.length && go(trail.pop(), true), "[": () => turn(-1), "]": () => turn(1), m: nextRing,
    "/": () => $("find").focus(), "?": () => $("help").showModal(), t: theme,
  };
  addEventListener("keydown", (k) => {
    if (k.target.id === "find") { if (k.key === "Enter") find(k.target.value); else if (k.key === "Escape") k.target.blur(); return; }
    if (k.ctrlKey || k.altKey || k.metaKey || $("help").open || !Object.hasOwn(KEYS, k.key)) return;
    k.preventDefault(); KEYS[k.key]();
  });
  $("back").addEventListener("click", KEYS.ArrowLeft); $("on").addEventListener("click", KEYS.ArrowRight);
  $("theme").addEventListener("click", theme); $("ask").addEventListener("click", KEYS["?"]);
  $("scrub").max = events.length; $("scrub").addEventListener("input", () => go(+$("scrub").value));
  for (const id of ["ring", "slot", "grants", "store"]) $(id).addEventListener("focus", () => { panel = id; });
  function restore() {
    const f = new URLSearchParams(location.hash.slice(1));
    const broken = events.find((e) => e.kind === "check" && place.has(e.cause));
    memory = rings.length ? rings[0].memory : 0;
    go(f.has("step") ? +f.get("step") : broken ? place.get(broken.cause) : 1, true);
    if (f.has("memory") && memories.has(+f.get("memory"))) memory = +f.get("memory");
    if (f.has("slot")) slot = Math.min(255, Math.max(0, +f.get("slot") || 0));
    show();
    if (["ring", "slot", "grants", "store"].includes(f.get("panel"))) $(f.get("panel")).focus();
  }
  addEventListener("hashchange", restore);
  $("command").textContent = "xennet " + ((header.run && header.run.command) || []).join(" ");
  globalThis.explorer = {go, why, writtenBy, readBy, byteAt, get step() { return step; }};
  restore();
})();
