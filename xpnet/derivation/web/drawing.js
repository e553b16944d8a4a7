// The network: columns of units, what each holds at this step, and the weights between them.
const R = 26, TITLE = 48, small = G.nodes.every(n => n.drawn <= 3), UNIT = small ? 100 : 80;   // where there is room, b is above each unit
const drawn = node => upTo(node.drawn);
const source = l => G.nodes[l.from], target = l => G.nodes[l.to];

function width(node) {
  if (node.kind === "loss" || !node.drawn) return Math.max(104, 7.5 * node.label.length + 20);
  return node.kind === "box" ? 92 : 2 * R + 14;
}
function gap(depth) {                                     // between two columns: the labels of a fan of edges need room
  const into = G.links.filter(l => l.kind === "dense" && target(l).depth === depth);
  const fan = Math.max(...into.map(l => Math.min(source(l).drawn, target(l).drawn)));
  return !depth ? 0 : into.length ? Math.min(Math.max(50 * (fan + 1), 120), 250) : 58;
}
const arcs = G.links.some(l => target(l).depth - source(l).depth > 1);
const layout = (() => {
  const columns = [];
  for (const n of G.nodes) {
    (columns[n.depth] ??= []).push(n);
    n.width = width(n);
    n.h = TITLE + Math.max(n.drawn, 1) * UNIT + (n.units > n.drawn ? 34 : 0);
  }
  const height = column => column.reduce((h, n) => h + n.h, 0), tallest = Math.max(0, ...columns.map(height)), above = arcs ? 44 : 6;
  let x = 10;
  columns.forEach((column, depth) => {
    const wide = Math.max(...column.map(n => n.width));
    let y = above + (tallest - height(column)) / 2;
    x += gap(depth) + wide;
    for (const n of column) { n.x = x - wide / 2; n.y = y; y += n.h; }
  });
  return { width: x + 10, height: above + tallest + 6 };
})();
const place = (node, u) => node.y + TITLE + UNIT * (u + .5) + (small ? 6 : -4);
const middle = node => (place(node, 0) + place(node, Math.max(node.drawn, 1) - 1)) / 2;
const spot = (node, u) => u === null ? middle(node) : place(node, u);
const edge = node => node.kind === "box" || !node.drawn ? node.width / 2 : R;

function pairs(l) {                                       // the drawn units that a link joins; null is the whole node
  const a = source(l), b = target(l);
  if (l.kind === "dense") return drawn(a).flatMap(i => drawn(b).map(j => [i, j]));
  if (l.kind === "units") return drawn(a).map(i => [i, i + l.offset]).filter(([, j]) => j < b.drawn);
  return (a.drawn ? drawn(a) : [null]).map(i => [i, null]);
}

// What is known at this step.
const phase = () => E.steps[state.step].phase;
const done = ref => ref && ref[0] <= state.step;
function renewed(l, i) {                                  // where the new weights stand
  const step = i === "b" ? l.newb : l.newW;
  return step == null ? null : [step, E.steps[step].lines.findLastIndex(x => x.result === "p"), null];
}
function shownWeight(l, i, j) {                           // what an edge says: its weight, its gradient, or its new weight
  const gradient = i === "b" ? l.db : l.dW, fresh = renewed(l, i);
  if (phase() === "backward" && done(gradient)) return ["backward", entry(value(gradient), i, j)];
  if (done(fresh)) return ["update", entry(value(fresh), i, j)];
  return ["", entry(value(i === "b" ? l.b : l.W), i, j)];
}
function isNow(node) {
  const step = E.steps[state.step];
  if (node.kind === "input") return false;
  if (step.phase === "forward" || step.phase === "loss") return node.step === state.step;
  if (step.phase === "backward") return node.kind !== "loss" && node.path === step.path;
  return step.phase === "update" && G.links.some(l => target(l) === node && (l.newW === state.step || l.newb === state.step));
}
const nowClass = node => isNow(node) ? `now ${phase()}` : "";

function onward() {                                       // the units that the followed weight acts on, by node
  if (!state.weight) return new Map();
  const { l, j } = state.weight, first = target(l), reach = new Map([[l.to, new Set(first.mixes ? drawn(first) : [j])]]);
  G.nodes.forEach((node, k) => G.links.filter(o => o.to === k && k !== l.to && reach.has(o.from)).forEach(o => {
    const units = reach.get(k) ?? new Set();
    for (const [a, b] of pairs(o)) if (b !== null && reach.get(o.from).has(a)) units.add(b);
    if (node.mixes && units.size) drawn(node).forEach(u => units.add(u));
    reach.set(k, units);
  }));
  return reach;
}

// SVG.
const text = (kind, x, y, content, more = "") => `<text class="${kind}" x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${content}</text>`;
const rect = (kind, x, y, w, h, more = "") => `<rect class="${kind}" rx="8" x="${x}" y="${y}" width="${w}" height="${h}" ${more}/>`;
const tip = (l, i, j) => `<title>${escaped(named(l, i, j))} = ${digits(entry(value(i === "b" ? l.b : l.W), i, j))}</title>`;
const mark = (l, i, j) => `data-weight="${G.links.indexOf(l)}.${i}.${j}"`;
function short(v) {
  const made = digits(v, 4);
  return made.length < 8 ? made : digits(v, 3);
}

function drawLink(l, reach, edges, labels) {
  const a = source(l), b = target(l), w = state.weight, past = reach.get(l.from);
  const group = inner => edges.push(`<g class="${nowClass(b)}">${inner}</g>`);
  if (b.depth - a.depth > 1) {                            // past the columns between: one arc for all units
    const bend = x => `${x} 16 ${x} 16`;
    const curve = `M${a.x} ${a.y + 6} C${bend(a.x + 30)} ${a.x + 70} 16 H${b.x - 70} C${bend(b.x - 30)} ${b.x} ${b.y + 6}`;
    group(`<path class="edge ${past ? "onward" : ""}" fill="none" stroke-width="3" d="${curve}"/>`);
    labels.push(text("label", (a.x + b.x) / 2, 16, `${escaped(plain(a.symbol))} goes past`));
    return;
  }
  const joins = pairs(l), weight = ([i, j]) => l.kind === "dense" ? entry(value(l.W), i, j) : undefined;
  const largest = Math.max(1e-9, ...joins.map(p => Math.abs(weight(p)) || 0));
  const t = a.drawn < b.drawn ? 1 - 1 / (a.drawn + 1) : 1 / (b.drawn + 1);   // there the fan of edges is evenly spread
  const x1 = a.x + edge(a), x2 = b.x - edge(b);
  for (const [i, j] of joins) {
    const y1 = spot(a, i), y2 = spot(b, j), ends = `x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}"`, v = weight([i, j]);
    const mine = w && w.l === l && w.i === i && w.j === j;
    const on = mine ? "followed" : past && l.to !== w.l.to && (i === null || past.has(i)) ? "onward" : "";
    if (v === undefined) { group(`<line class="edge ${on}" stroke-width="1.5" ${ends}/>`); continue; }
    group(`<line class="edge ${v < 0 ? "negative" : ""} ${on}" stroke-width="${(.8 + 3 * Math.abs(v) / largest).toFixed(2)}" ${ends}/>` +
      `<line class="hit" ${mark(l, i, j)} ${ends}>${tip(l, i, j)}</line>`);
    const [kind, said] = shownWeight(l, i, j);
    if (mine || Math.min(a.drawn, b.drawn) <= 6)
      labels.push(text(`label over ${kind} ${mine ? "followed" : ""}`, x1 + t * (x2 - x1), y1 + t * (y2 - y1), short(said)));
  }
}

function drawNode(node, k, units) {
  const { x, y, width: w } = node, left = x - w / 2, shown = node.kind === "input" || node.step <= state.step, inner = [];
  if (node.kind !== "loss") {
    inner.push(text("name", x, y + 17, escaped(plain(node.symbol))));
    inner.push(text("small", x, y + 34, escaped(node.kind === "input" ? "input" : `${node.path} ${node.label}`)));
  }
  if (!node.drawn) {
    const lines = node.kind === "loss" ? lossLines(node, shown) : [node.shape.join(" × ")], last = lines.length - 1;
    inner.push(rect("unit", left, middle(node) - 37, w, 74));
    lines.forEach((said, n) => inner.push(text(n === last ? "name" : "small", x, middle(node) + 20 * (n - last / 2), escaped(said))));
  } else if (node.kind === "box") {
    inner.push(rect("unit", left, place(node, 0) - R - 6, w, (node.drawn - 1) * UNIT + 2 * R + (node.units > node.drawn ? 52 : 24)));
  }
  drawn(node).forEach(u => drawUnit(node, k, u, shown, units, inner));
  if (node.units > node.drawn) inner.push(text("small", x, place(node, node.drawn - 1) + 58, `⋮ ${node.units} units`));
  return `<g class="${nowClass(node)}">${inner.join("")}</g>`;
}

function drawUnit(node, k, u, shown, units, inner) {
  const { x } = node, y = place(node, u), w = state.weight, n = state.sample;
  const mine = w && ((w.l.from === k && w.i === u) || (w.l.to === k && w.j === u)) ? "followed" : units?.has(u) ? "onward" : "";
  if (node.kind !== "box") inner.push(`<circle class="unit ${mine}" cx="${x}" cy="${y}" r="${R}"/>`);
  else if (mine) inner.push(rect(`unit ${mine}`, x - 36, y - 14, 72, 28));
  inner.push(text("value", x, y, shown ? short(at(node.value, n, u)) : "", `data-unit="${k}.${u}"`));
  if (node.z && shown) inner.push(text("small", x, y - R - 7, `z ${short(at(node.z, n, u))}`));
  const gradient = [node.zGradient, node.gradient].find(done);
  if (gradient) {
    const letter = symbolOf(gradient)[0] === "z" ? "δ" : "∂";
    inner.push(text("small grad", x, y + (node.kind === "box" ? 22 : R + 9), `${letter} ${short(at(gradient, n, u))}`));
  }
  const into = G.links.find(l => l.kind === "dense" && l.b && target(l) === node);
  const followed = into && w?.l === into && w.i === "b" && w.j === u;
  if (into && (small || followed)) {
    const [kind, b] = shownWeight(into, "b", u), said = `${tip(into, "b", u)}${kind === "backward" ? "∂b" : "b"} ${short(b)}`;
    inner.push(text(`label small bias ${kind} ${followed ? "followed" : ""}`, x, y - R - (node.z ? 20 : 8), said, mark(into, "b", u)));
  }
}

function lossLines(node, shown) {                         // the loss's name, the sample's target where it is short, and L
  const t = node.target && value(node.target);
  let aim = [];
  if (t?.array && t.shape.length < 2) aim = t.shape.length ? [t.array[state.sample]] : [];
  else if (t?.array && t.shape.length === 2) aim = G.columns ? t.array.map(r => r[state.sample]) : t.array[state.sample] ?? [];
  const said = aim.length && aim.length <= 4 ? [`t = ${aim.map(v => digits(Number(v), 3)).join(", ")}`] : [];
  return [node.label, ...said, shown ? `L = ${digits(pick(value(node.value).array), 5)}` : "L"];
}

const ONEDGE = { backward: "the weight, or ∂L/∂w once it is known", update: "the weight, or its new value", after: "its new weight" };

function draw() {
  const step = E.steps[state.step], reach = onward(), edges = [], labels = [], { width: w, height: h } = layout;
  G.links.forEach(l => drawLink(l, reach, edges, labels));
  const nodes = G.nodes.map((node, k) => drawNode(node, k, reach.get(k)));
  const band = (n, k) => rect("band", n.x - n.width / 2 - 8, n.y + 2, n.width + 16, n.h - 2, `data-now="${k}"`);
  const bands = G.nodes.map((n, k) => isNow(n) ? band(n, k) : "");
  const label = escaped(`The network, sample ${state.sample + 1}. Now: ${step.phase}, ${step.title}`), box = $("drawing");
  box.innerHTML = `<svg role="img" aria-label="${label}" viewBox="0 0 ${w} ${h}" ` +
    `style="width: clamp(${.8 * w}px, min(100%, var(--tall) * ${w / h}), ${2 * w}px)">` +
    `<g class="${step.phase}">${bands.join("")}</g>${edges.join("")}${labels.join("")}${nodes.join("")}</svg>`;
  const now = G.nodes.find(isNow), scale = box.firstChild.clientWidth / w;
  if (now) box.scrollTo({ left: now.x * scale - box.clientWidth * .6, top: (now.y + now.h / 2) * scale - box.clientHeight / 2 });
  $("legend").textContent = `On an edge: ${ONEDGE[step.phase] ?? "its weight"}; dashed where the weight is negative. ` +
    "In a unit: its value; below: its gradient. Click an edge to follow its weight.";
}
