// What is shown, and what changes it.
const last = E.steps.length - 1, state = { step: 0, sample: 0, weight: null, open: false };

function show() {
  E.steps.forEach((_, n) => $(`s${n}`).classList.toggle("now", n === state.step));
  for (const button of document.querySelectorAll(".phase")) {
    const count = G.phases.filter(p => button.classList.contains(p)).length, passed = state.step - Number(button.dataset.step) + 1;
    button.style.setProperty("--done", Math.min(1, Math.max(0, passed / count)));
    button.classList.contains(phase()) ? button.setAttribute("aria-current", "step") : button.removeAttribute("aria-current");
  }
  const path = E.steps[state.step].path, words = document.querySelector(`#s${state.step} .eyebrow`).textContent;
  $("where").textContent = `Step ${state.step + 1} of ${last + 1}: ${words}${path ? `, ${path}` : ""}`;
  if (G.nodes.length) draw();
  follow();
  fit();
  remember();
}
function fit() {                                          // a wide line of numbers becomes smaller before it has to be scrolled
  for (const f of document.querySelectorAll(".step.now .filled, #follow .numbers")) {
    f.style.fontSize = "";
    const rate = f.clientWidth / f.scrollWidth, size = parseFloat(getComputedStyle(f).fontSize);
    if (rate < 1) f.style.fontSize = `${Math.max(12, size * rate * .99)}px`;
  }
}
function reveal() {                                       // the beginning of what is shown, below the drawing where that stays in place
  const network = $("network").getBoundingClientRect(), panel = $("panel").getBoundingClientRect();
  const stays = getComputedStyle($("network")).position === "sticky" && network.right > panel.left, above = stays ? network.height + 8 : 8;
  if (panel.top < above || panel.top > innerHeight * .75) window.scrollTo({ top: panel.top + scrollY - above });
}
function go(step) {
  state.step = Math.min(last, Math.max(0, step));
  state.open = false;
  if (state.step === last) play(false);
  show();
  reveal();
}
function pickWeight(l, i, j) {
  Object.assign(state, { weight: { l, i, j }, open: true });
  $("link").value = G.links.indexOf(l);
  choices();
  $("from").value = i;
  $("to").value = j;
  play(false);
  show();
  $("follow").focus({ preventScroll: true });
  reveal();
}
function close() {                                        // first the chain, then the mark in the drawing
  state.open ? state.open = false : state.weight = null;
  show();
}

let timer = null;
function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => go(state.step + 1), 2500) : null;
  const button = document.querySelector('[data-go="play"]');
  button.textContent = on ? "Pause" : "Play";
  button.setAttribute("aria-label", on ? "pause" : "play");
}
function toggle() {
  if (!timer && state.step === last) go(0);
  play(!timer);
}
const actions = { first: () => go(0), back: () => go(state.step - 1), next: () => go(state.step + 1), last: () => go(last), play: toggle };
const keys = { ArrowRight: "next", ArrowLeft: "back", Home: "first", End: "last", " ": "play" };
function act(name) {
  if (name !== "play") play(false);
  actions[name]();
}

// The address remembers the step, the sample and the weight.
function remember() {
  const { l, i, j } = state.weight ?? {}, weight = state.open ? `&weight=${G.links.indexOf(l)}.${i}.${j}` : "";
  const hash = `#step=${state.step + 1}${state.sample ? `&sample=${state.sample + 1}` : ""}${weight}`;
  try { history.replaceState(null, "", hash); } catch { /* a frame without an address of its own */ }
}
function recall() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const index = (name, count) => Math.min(count, Math.max(1, Math.trunc(Number(hash.get(name))) || 1)) - 1;
  state.step = index("step", last + 1);
  state.sample = index("sample", G.shown);
  $("sample").value = state.sample;
  const [k, from, j] = (hash.get("weight") ?? "").split("."), l = G.links[k], i = from === "b" ? from : Number(from);
  const there = l?.kind === "dense" && (i !== "b" || l.b) && entry(value(i === "b" ? l.b : l.W), i, Number(j)) !== undefined;
  there ? pickWeight(l, i, Number(j)) : show();
}

const options = list => list.map(([v, words]) => `<option value="${v}">${escaped(words)}</option>`).join("");
function choices() {                                      // the units that the chosen layer joins
  const l = G.links[$("link").value];
  if (!l) return;
  const kept = node => upTo(value(l.W).array ? node.units : Math.min(3, node.units)), z = symbolOf(l.z);
  const from = kept(source(l)).map(u => [u, plain(source(l).symbol) + subscript(u)]);
  $("from").innerHTML = options(l.b ? [...from, ["b", "bias"]] : from);
  $("to").innerHTML = options(kept(target(l)).map(u => [u, plain(z) + subscript(u)]));
}
const unit = text => text === "b" ? text : Number(text);

document.documentElement.classList.add("js");
document.querySelector("main").classList.toggle("wide", layout.width > 820);
const dense = G.links.filter(l => l.kind === "dense");
$("network").hidden = !G.nodes.length;
$("sample").innerHTML = options(upTo(G.shown).map(n => [n, n + 1]));
$("samples").append(` of ${G.samples}`);
$("samples").hidden = G.samples < 2;
$("sample").onchange = event => { state.sample = Number(event.target.value); show(); };
$("choose").hidden = !dense.length;
$("link").innerHTML = options(dense.map(l => [G.links.indexOf(l), `${l.path} ${target(l).label}`]));
$("link").onchange = choices;
choices();
$("choose").onsubmit = event => {
  event.preventDefault();
  pickWeight(G.links[$("link").value], unit($("from").value), Number($("to").value));
};
$("drawing").onclick = event => {
  const [k, i, j] = event.target.closest("[data-weight]")?.dataset.weight.split(".") ?? [];
  if (k) pickWeight(G.links[k], unit(i), Number(j));
};
for (const b of document.querySelectorAll("[data-go]")) b.onclick = () => act(b.dataset.go);
for (const b of document.querySelectorAll(".phase")) b.onclick = () => { play(false); go(Number(b.dataset.step)); };
document.addEventListener("keydown", event => {
  const held = event.ctrlKey || event.altKey || event.metaKey;
  if (held || event.target.closest("select, input")) return;   // a key that a control needs is left to it
  if (event.key === " " && event.target.closest("button, summary")) return;
  if (event.key === "Escape" && state.weight) close();
  if (!(event.key in keys)) return;
  event.preventDefault();
  act(keys[event.key]);
});
window.addEventListener("hashchange", recall);
window.addEventListener("resize", fit);
recall();
