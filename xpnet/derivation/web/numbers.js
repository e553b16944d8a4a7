// The numbers of the explanation, and how they are written.
const read = id => JSON.parse(document.getElementById(id).textContent);
const E = read("explanation"), G = read("graph"), $ = id => document.getElementById(id);

// A reference is [step, line, name of an input, or null for the result].
const line = ref => E.steps[ref[0]].lines[ref[1]];
const value = ref => ref[2] === null ? line(ref).value : line(ref).inputs[ref[2]];
const symbolOf = ref => line(ref).names[line(ref).result];
const numbers = v => v.array ?? v.corner;                 // of a large array the first entries

function pick(array, ...index) {                          // JSON has no infinity, so it is a word there
  for (const i of index) array = array?.[i];
  return array === undefined ? undefined : Number(String(array).replace("inf", "Infinity"));
}
// A sample's unit of an array; an entry of a weight matrix, from unit i to unit j, or of a bias where i is "b".
const at = (ref, sample, unit) => G.columns ? pick(numbers(value(ref)), unit, sample) : pick(numbers(value(ref)), sample, unit);
function entry(v, i, j) {
  if (!v) return undefined;
  if (i === "b") return v.shape.length > 1 ? pick(numbers(v), j, 0) : pick(numbers(v), j);
  return G.columns ? pick(numbers(v), j, i) : pick(numbers(v), i, j);
}
const upTo = n => [...Array(n).keys()];

// As Python's format(v, ".6g") writes it.
function digits(v, d = G.digits) {
  if (v === undefined) return "…";
  if (!Number.isFinite(v)) return String(v).replace("Infinity", "∞").replace("-", "−");
  if (Number.isInteger(v) && Math.abs(v) < 10 ** Math.min(d, 15)) return String(v).replace("-", "−");
  const power = Number(v.toExponential(d - 1).split("e")[1]);
  const text = power < -4 || power >= d ? v.toExponential(d - 1) : v.toFixed(Math.max(0, d - 1 - power));
  const [m, e] = text.split("e");
  return ((m.includes(".") ? m.replace(/\.?0+$/, "") : m) + (e ? "e" + Number(e) : "")).replaceAll("-", "−");
}

// As text.
const escaped = text => String(text).replace(/[&<>"]/g, c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const lowered = text => text.replace(/\d/g, d => "₀₁₂₃₄₅₆₇₈₉"[d]);
const subscript = i => lowered(String(i + 1));
const raised = { "(": "⁽", ")": "⁾", ".": "·", ...Object.fromEntries([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].map((c, i) => [i, c])) };
const superscript = path => path && [...`(${path})`].map(c => raised[c] ?? c).join("");
const plain = ([letter, path]) => lowered(letter) + superscript(path);

// As MathML.
const op = s => `<mo>${s}</mo>`, infix = s => `<mo form="infix">${s}</mo>`, row = (...parts) => `<mrow>${parts.join("")}</mrow>`;
const space = '<mspace width="0.2em"/>', dots = infix("+") + "<mi>…</mi>";
const signed = text => text.startsWith("−") ? op("−") + `<mn>${text.slice(1)}</mn>` : `<mn>${text}</mn>`;

function num(v, closed = false) {                         // closed: in parentheses where it is negative
  const [m, e] = digits(v).split("e");
  const made = row(signed(m), e ? `${op("⋅")}<msup><mn>10</mn>${row(signed(e))}</msup>` : "");
  return closed && m.startsWith("−") ? row(op("("), made, op(")")) : made;
}
function symbol([letter, path, grad], ...index) {         // one entry of an array
  const name = grad && letter === "z" ? "δ" : letter === "W" ? "w" : lowered(letter);
  const below = row(index.map(i => `<mn>${i + 1}</mn>`).join(op(",")));
  const inner = `<mi>${name}</mi>${below}`;
  const made = path ? `<msubsup>${inner}<mtext>(${escaped(path)})</mtext></msubsup>` : `<msub>${inner}</msub>`;
  return grad && letter !== "z" ? `<mfrac>${row(op("∂"), `<mi>${grad}</mi>`)}${row(op("∂"), made)}</mfrac>` : made;
}
function whole([letter, path, grad, via]) {               // a gradient, on one line
  const base = name => path ? `<msup><mi>${name}</mi><mtext>(${escaped(path)})</mtext></msup>` : `<mi>${name}</mi>`;
  const made = letter === "z" ? base("δ") : row(op("∂"), `<mi>${grad}</mi><mo>/</mo>`, op("∂"), base(lowered(letter)));
  return via === null ? made : `<msub>${made}<mtext>${escaped(via || "0")}</mtext></msub>`;
}
const product = (factors, inside = false) => row(factors.map((f, i) => num(f, inside || i > 0)).join(op("⋅")));

// A line of mathematics. What is given as a list may go onto a new line between its parts: browsers break no formula by themselves.
function math(...parts) {
  const pieces = [""];
  for (const part of parts) Array.isArray(part) ? pieces.push(...part, "") : pieces[pieces.length - 1] += part;
  return `<div class="formula numbers">${pieces.filter(Boolean).map(p => `<math display="block">${row(p)}</math>`).join("")}</div>`;
}
const joined = (sign, terms) => terms.map((t, n) => (n ? infix(sign) : "") + t);
const sum = terms => joined("+", terms), equals = v => [infix("=") + num(v)];

// A formula that holds entry by entry, with the numbers of one entry: ⟦name⟧ is where each goes. Empty where there is none.
function filled(ref, get) {
  const text = G.entries[`${ref[0]},${ref[1]}`] ?? "";
  return text.replace(/<mi>⟦(\w+)⟧<\/mi>/g, (_, name, where) => {
    const v = line(ref).inputs[name];
    const first = /(^|<mfrac>|<msqrt>|<mo[^>]*>\(<\/mo>|<mo>,<\/mo>)(<mrow>)*$/.test(text.slice(0, where));
    return num(v.shape.length ? get([ref[0], ref[1], name], v) : pick(v.array), !first);
  });
}
