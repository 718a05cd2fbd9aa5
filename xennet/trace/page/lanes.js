// The time line: a lane for each domain, deliveries as bars, steps as dots, causes as arrows.

const NAMESPACE = "http://www.w3.org/2000/svg";
const LANE = 46, LEFT = 96, BESIDE = 40, LEAST = 8, APART = 13;

function lanes(panel) {
  const {step} = state, beside = shownBeside(panel);
  const from = Math.max(1, step - beside), to = Math.min(events.length, from + 2 * beside);
  const drawn = connections(step), ends = drawn.flatMap(([one, other]) => [eventAt(one), eventAt(other)]);
  const outside = [...events.slice(from - 1, to), ...ends].some((e) => !domains.includes(e.dom));
  const lanesOf = outside ? [...domains, null] : domains;
  const x = (s) => LEFT + (Math.min(Math.max(s, from - 1), to + 1) - from) * APART;
  const y = (s) => 22 + lanesOf.indexOf(domains.includes(eventAt(s).dom) ? eventAt(s).dom : null) * LANE;
  const svg = shape("svg", {viewBox: `0 0 ${LEFT + (2 * beside + 1) * APART} ${lanesOf.length * LANE}`, role: "img"});
  svg.setAttribute("aria-label", `Steps ${from} to ${to} in ${lanesOf.length} lanes`);
  svg.append(arrowHead());
  lanesOf.forEach((one, k) => {
    const name = shape("text", {x: 4, y: 26 + k * LANE});
    name.textContent = one === null ? "machine" : `domain ${one}`;
    const role = shape("text", {x: 4, y: 39 + k * LANE, class: "role"});
    role.textContent = roles.get(one) || "";
    svg.append(name, role, shape("line", {x1: LEFT - 6, y1: 22 + k * LANE, x2: LEFT + 2 * beside * APART, y2: 22 + k * LANE}));
  });
  svg.append(...bars(from, to, x, y));
  for (let s = from; s <= to; s++) {
    const cause = stepOf.get(eventAt(s).cause);
    if (["upcall", "begin", "post"].includes(eventAt(s).kind) && cause >= from && y(cause) !== y(s))
      svg.append(arrow(cause, s, "arrow", x, y));
  }
  svg.append(...drawn.map(([one, other, cls]) => arrow(one, other, cls, x, y)));
  for (let s = from; s <= to; s++) svg.append(dot(s, x, y));
  panel.replaceChildren(el("h2", "Time line"), svg, legend());
}

/** How many steps on either side of the one at hand: fewer where the panel is narrow, so that names stay legible. */
function shownBeside(panel) {
  const {paddingLeft, paddingRight} = getComputedStyle(panel);
  const width = panel.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
  return Math.min(BESIDE, Math.max(LEAST, Math.floor((width - LEFT) / (2 * APART))));
}

function shape(tag, attributes) {
  const made = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function arrowHead() {
  const head = shape("marker", {id: "head", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto"});
  head.append(shape("path", {d: "M0 0L8 4L0 8z"}));
  return head;
}

/** What the step follows from and leads to: [from, to, class]. Values are data, all else causes. */
function connections(step) {
  const e = eventAt(step), found = [];
  if (stepOf.has(e.cause)) found.push([stepOf.get(e.cause), step, "cause"]);
  for (const one of caused.get(step) || []) found.push([step, one, "cause"]);
  if (e.kind === "load" && writtenBy(e.memory, e.at, step)) found.push([writtenBy(e.memory, e.at, step), step, "data"]);
  if (isAccess(e) && e.kind !== "load") for (const one of readBy(e.memory, e.at, step)) found.push([step, one, "data"]);
  if (stepOf.has(e.event_set_by)) found.push([stepOf.get(e.event_set_by), step, "data"]);
  return found.slice(0, 40);
}

function arrow(one, other, cls, x, y) {
  const [x1, y1, x2, y2] = [x(one), y(one), x(other), y(other)];
  const bend = y1 === y2 ? -Math.min(16, Math.abs(x2 - x1) / 3) : 0, middle = (x1 + x2) / 2;
  const path = shape("path", {d: `M${x1} ${y1}Q${middle} ${(y1 + y2) / 2 + bend} ${x2} ${y2}`, class: cls, "marker-end": "url(#head)"});
  path.dataset.from = one;
  path.dataset.to = other;
  return path;
}

/** All deliveries: {begin, end, level}; they nest, and level says in how many others one lies. */
const deliveries = [];

function findDeliveries() {
  const open = [];
  events.forEach((e, i) => {
    if (e.kind === "begin") {
      deliveries.push({begin: i + 1, end: events.length, level: open.length});
      open.push(deliveries[deliveries.length - 1]);
    } else if (e.kind === "end" && open.length) open.pop().end = i + 1;
  });
}

findDeliveries();

/** Deliveries that are in sight, as bars behind their dots. */
function bars(from, to, x, y) {
  return deliveries.filter((one) => one.begin <= to && one.end >= from)
    .map((one) => bar(one.begin, one.end, one.level, x, y));
}

function bar(begin, end, level, x, y) {
  const left = x(begin) - 6;
  const made = shape("rect", {x: left, y: y(begin) - 11 + 3 * level, width: Math.max(12, x(end) + 6 - left), height: Math.max(8, 22 - 6 * level), rx: 4, class: "delivery"});
  return titled(made, eventAt(begin).name || eventAt(begin).delivery || "delivery");
}

function titled(made, text) {
  const title = document.createElementNS(NAMESPACE, "title");
  title.textContent = text;
  made.append(title);
  return made;
}

function dot(s, x, y) {
  const e = eventAt(s), kind = e.kind === "notify" ? (e.sent ? "notify" : "avoided") : e.kind === "check" ? "wrong" : isAccess(e) ? "access" : "";
  const wrong = problems.some((one) => one.step === s) ? " wrong" : "";
  const made = shape("circle", {cx: x(s), cy: y(s), r: e.kind === "notify" || s === state.step || wrong ? 6 : 4, class: kind + wrong + (s === state.step ? " here" : "")});
  made.addEventListener("click", () => go(s));
  return titled(made, `${s}: ${e.text || e.kind}`);
}

function legend() {
  const made = el("p", undefined, "faint legend");
  for (const [cls, text] of [["access", "memory accessed"], ["", "other step"], ["notify", "notification sent"], ["avoided", "avoided"], ["wrong", "something is wrong"]])
    made.append(el("i", undefined, cls), text + " ");
  made.append("— bar: a delivery; arrow: a cause; dashed: a value that is read");
  return made;
}
