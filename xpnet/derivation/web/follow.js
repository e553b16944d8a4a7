// One weight: its product in the forward pass, the paths on to L, the gradients that come back, its gradient, its update.
const pair = (i, j) => G.columns ? [j, i] : [i, j];
const named = (l, i, j) => (i === "b" ? "b" : "w") + superscript(l.path) + (i === "b" ? [j] : pair(i, j)).map(subscript).join(",");
const weightSymbol = (l, i, j, grad = "") => i === "b" ? symbol(["b", l.path, grad], j) : symbol(["W", l.path, grad], ...pair(i, j));
const gradients = new Map(G.slopes.map(g => [g.key, g]));

// The paths from one unit of a gradient to the loss: the slopes on the way and the gradient at its end, and the units passed.
function paths(key, unit, limit = 2000) {
  const made = [], s = state.sample;
  const known = k => gradients.get(k)?.from.every(f => f.slope && known(f.key)) ?? false;
  const walk = (k, u, factors, units) => {
    const g = gradients.get(k), here = g.symbol[3] === null ? [...units, [g.symbol, u]] : units;
    if (made.length > limit) return;
    if (!g.from.length) made.push({ factors: [...factors, at(g.value, s, u)], units: here });
    for (const f of g.from) f.slope[s].forEach((to, v) => {
      if (g.entrywise ? v === u : to[u]) walk(f.key, v, [...factors, to[u]], here);
    });
  };
  if (!known(key)) return null;
  walk(key, unit, [], []);
  return made.length > limit ? null : made;
}
const total = path => path.factors.reduce((t, f) => t * f, 1);
const together = all => all.reduce((t, path) => t + total(path), 0);

// How a unit's gradient came: its rule with the numbers, back to the first that is a sum over units of the next layer.
function arrivals(key, unit) {
  const g = gradients.get(key), s = state.sample;
  if (!g?.from.length || g.from.some(f => !f.slope)) return [];
  const left = symbol(g.symbol, unit) + op("="), result = equals(at(g.value, s, unit));
  if (g.entrywise) return [...g.from.flatMap(f => arrivals(f.key, unit)), math(left, filled(g.value, ref => at(ref, s, unit)), result)];
  const terms = g.from.flatMap(f => f.slope[s].flatMap((to, v) => to[unit] ? [[to[unit], at(gradients.get(f.key).value, s, v)]] : []));
  return terms.length ? [math(left, sum(terms.map((factors, n) => product(factors, n > 0))), result)] : [];
}
function behind(key, found = new Set()) {                 // the gradients that one comes from
  for (const f of gradients.get(key)?.from ?? []) if (!found.has(f.key)) behind(f.key, found.add(f.key));
  return found;
}

function same(a, b, words) {
  const near = Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b)) + 1e-15;
  return `<p class="same ${near ? "" : "not"}">${near ? `✓ ${words}` : `✗ ${digits(a)} is not ${digits(b)}`}</p>`;
}
const quiet = words => `<p class=quiet>${words}</p>`;

// Each part is [phase, title, …lines].
function forwardPart({ l, i, j, s }) {
  const a = source(l), b = target(l), wide = a.units > 8;
  const marked = (u, made) => u === i ? `<mrow class="marked">${made}</mrow>` : made;
  const units = !wide ? upTo(a.units) : i === "b" ? [] : [i], bias = l.b && (!wide || i === "b"), rest = wide ? dots : "";
  const letters = units.map(u => marked(u, row(symbol(a.symbol, u), space, weightSymbol(l, u, j))));
  const figures = units.map((u, n) => marked(u, product([at(l.x, s, u), entry(value(l.W), u, j)], n > 0)));
  if (bias) {
    letters.push(marked("b", weightSymbol(l, "b", j)));
    figures.push(marked("b", num(entry(value(l.b), "b", j), figures.length > 0)));
  }
  const activation = b.z && filled(b.value, ref => at(ref, s, j));
  return ["forward", `Forward, sample ${s + 1}: it is in one sum`, math(symbol(symbolOf(l.z), j), op("="), sum(letters), rest),
    math(sum(figures), rest, equals(at(l.z, s, j))),
    activation ? math(symbol(b.symbol, j), op("="), activation, equals(at(b.value, s, j))) : ""];
}

function pathsPart({ delta, j, s }, all) {
  if (!all) return ["loss", "On to L", quiet("The paths from here to L are not listed one by one: there are too many, or a layer behind " +
    "mixes samples, or its arrays are not kept whole. δ is their sum.")];
  const largest = all.toSorted((p, q) => Math.abs(total(q)) - Math.abs(total(p))).slice(0, 10), several = all.length > 1;
  const lines = largest.map(({ units, factors }) => {
    const way = math(row(units.map(([g, u]) => symbol([g[0], g[1], ""], u)).join(op("→")), op("→"), "<mi>L</mi>"));
    const figures = joined("⋅", factors.map((f, n) => num(f, n > 0)));
    return `<div class="path">${way}${math(figures, factors.length > 1 ? equals(total({ factors })) : "")}</div>`;
  });
  return ["loss", `On to L: ${several ? `${all.length} paths lead from it to L, and they add` : "one path leads from it to L"}`, ...lines,
    all.length > largest.length ? quiet(`and ${all.length - largest.length} more, which are smaller`) : "",
    several ? math(symbol(delta.symbol, j), equals(together(all))) : "",
    same(together(all), at(delta.value, s, j), `${several ? "the paths together are" : "that is"} its δ of the backward pass`)];
}

function backwardPart({ delta, j, s }) {
  const found = behind(delta.key), came = arrivals(delta.key, j);
  const rows = G.slopes.filter(g => found.has(g.key)).map(g => {
    const v = value(g.value), units = v.shape[G.columns ? 0 : 1], kept = Math.min(units, v.array ? 10 : 3);
    const cells = upTo(kept).map(u => `<td>${digits(at(g.value, s, u))}</td>`).join("");
    return `<tr><th scope=row><math>${whole(g.symbol)}</math></th>${cells}${kept < units ? "<td>…</td>" : ""}</tr>`;
  });
  return ["backward", `Backward, sample ${s + 1}: δ comes back to it`,
    rows.length ? `<div class=scroll><table>${rows.join("")}</table></div>` : "",
    ...(came.length ? came : [math(symbol(delta.symbol, j), equals(at(delta.value, s, j)))])];
}

function gradientPart({ l, i, j, delta, x, gradient }) {
  const bias = i === "b", d = n => at(delta.value, n, j);
  const kept = upTo(G.samples).filter(n => x(n) !== undefined && d(n) !== undefined);
  const mean = G.perSample > 1, several = G.samples > 1, complete = kept.length === G.samples;
  const inner = bias ? symbol(delta.symbol, j) : row(symbol(source(l).symbol, i), space, symbol(delta.symbol, j));
  const terms = sum(kept.map((n, k) => bias ? num(d(n), k > 0) : product([x(n), d(n)], k > 0)));
  const check = line(bias ? l.db : l.dW).check, difference = entry(check?.value, i, j);
  return ["backward gradient", `The gradient: ${bias ? "δ" : "what came in times δ"}${several ? ", summed over the samples" : ""}`,
    math(weightSymbol(l, i, j, "L"), op("="), mean ? "<mfrac><mn>1</mn><mi>n</mi></mfrac>" : "",
      several ? "<munder><mo>∑</mo><mi>n</mi></munder>" : "", inner),
    math(mean ? `<mfrac><mn>1</mn><mn>${G.perSample}</mn></mfrac>` : "", mean ? [op("("), ...terms] : terms, complete ? "" : dots,
      mean ? op(")") : "", equals(gradient)),
    complete ? same(chain({ x, d }), gradient, "equal to its entry of the gradient in the backward pass") :
      quiet(`${kept.length} of ${G.samples} samples are kept in this page; the result is of all.`),
    difference !== undefined && !Number.isNaN(difference) ? `<p class=check><b>finite difference</b> ${digits(difference)}</p>` :
      check ? quiet(`finite differences of ${check.entries} entries: largest relative error ${digits(Number(check.error), 1)}`) : ""];
}
const chain = ({ x, d }) => upTo(G.samples).reduce((t, n) => t + x(n) * d(n), 0) / G.perSample;

const HATS = { mhat: "m̂", vhat: "v̂", v_max: "v̄", Delta: "Δ" };

function updatePart({ l, i, j }, step) {
  const lines = E.steps[step].lines.map((made, n) => {
    const [letter, path] = made.names[made.result], out = entry(made.value, i, j);
    const right = filled([step, n, null], (ref, v) => entry(v, i, j));
    const left = made.result === "p" ? weightSymbol(l, i, j) : made.result === "g" ? weightSymbol({ path }, i, j, "L") :
      `<mi>${HATS[letter] ?? escaped(letter)}</mi>`;
    return math(left, op(made.result in made.inputs ? "←" : "="), right, right ? equals(out) : num(out));
  });
  return ["update", "The update", ...lines];
}

function follow() {
  const box = $("follow");
  box.hidden = !state.open;
  $("steps").hidden = state.open;
  if (!state.open) return;
  const { l, i, j } = state.weight, bias = i === "b", delta = gradients.get(l.delta), s = state.sample, x = n => bias ? 1 : at(l.x, n, i);
  const given = bias ? l.db : l.dW, gradient = given ? entry(value(given), i, j) : undefined, all = delta ? paths(delta.key, j) : null;
  const weight = entry(value(bias ? l.b : l.W), i, j), step = bias ? l.newb : l.newW, about = { l, i, j, s, delta, x, gradient };
  const parts = [forwardPart(about), pathsPart(about, all)];
  if (delta) parts.push(backwardPart(about));
  if (delta && gradient !== undefined) parts.push(gradientPart(about));
  if (step != null) parts.push(updatePart(about, step));
  const index = `${l.path ? `${l.path}.` : ""}${bias ? `b[${j}]` : `W[${pair(i, j).join(", ")}]`}`;
  const where = `${index}: ${bias ? "" : `from ${plain(source(l).symbol)}${subscript(i)} `}to ${plain(symbolOf(l.z))}${subscript(j)}`;
  box.innerHTML = `<div class=top><h2>${bias ? "Bias" : "Weight"} <math>${weightSymbol(l, i, j)}</math> = ${digits(weight)}</h2>` +
    `${quiet(escaped(where))}<button type=button class=close>Close</button></div>` +
    parts.map(([kind, title, ...lines]) => `<section class="${kind}" data-part="${kind}"><h3>${title}</h3>${lines.join("")}</section>`)
      .join("");
  box.querySelector(".close").onclick = close;
  const d = n => delta ? at(delta.value, n, j) : NaN;
  Object.assign(box.dataset, { weight, gradient, sum: chain({ x, d }), delta: d(s), paths: all ? together(all) : "" });
}
