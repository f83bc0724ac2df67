// All images: a grid of seeds that fills as it renders, and the picks for what lies between.
"use strict";

import * as address from "./address.js";
import { complain, forget, isGone } from "./ask.js";

const FEW = 24;
const byId = (id) => document.getElementById(id);
let about, shown = "", count = 0;

export function start(model) {
  about = model;
  byId("more").addEventListener("click", () => more());
  new IntersectionObserver((seen) => {
    if (seen[0].isIntersecting && !byId("gallery").hidden) more();
  }).observe(byId("more"));
  byId("from").max = about.count - 1;
  byId("from").addEventListener("change", (event) => {
    address.set({ from: first({ from: event.target.value }) });
  });
  const psi = byId("gallery-psi");
  psi.addEventListener("change", () => address.set({ psi: psi.value }));
  psi.addEventListener("input", () => { byId("gallery-psi-is").textContent = psi.value; });
  byId("gallery-class").addEventListener("change", (event) => address.set({ class: event.target.value }));
  byId("between").addEventListener("click", () => {
    address.set({ seeds: address.get().picked, u: 0.5, v: 0.5, mix: "", layers: "", at: "" });
  });
  for (const id of ["psi", "truncation"]) if (about.off[id]) psi.closest("label").hidden = true;
  if (about.off.blend) byId("how-to-pick").textContent = about.off.blend;
}

const first = (state) => Math.min(Math.max(Math.floor(Number(state.from)) || 0, 0), about.count - 1);

export function show(state) {
  byId("told").textContent = about.told;
  byId("from").value = first(state);
  byId("gallery-psi").value = state.psi;
  byId("gallery-psi-is").textContent = state.psi;
  byId("gallery-class").value = state.class;
  const key = [about.version, state.from, state.psi, state.class].join();
  if (key !== shown) {
    shown = key;
    count = 0;
    byId("images").replaceChildren();
    more();
  }
  picks();
}

// To where the keyboard was before one image was opened.
export function focus(seed) {
  const pick = document.querySelector(`#images [data-seed="${CSS.escape(seed)}"]`);
  if (pick) pick.closest("li").querySelector("button").focus();
}

function more() {
  const state = address.get(), from = first(state);
  const last = Math.min(from + count + FEW, about.count);
  for (let seed = from + count; seed < last; seed++) byId("images").append(item(seed, state));
  count = Math.max(last - from, 0);
  byId("more").hidden = from + count >= about.count;
  picks();
}

function item(seed, state) {
  const made = document.createElement("li");
  const open = document.createElement("button");
  const image = new Image();
  const name = about.layers ? `seed ${seed}` : `image ${seed}`;
  image.alt = name;
  [image.width, image.height] = about.size;
  image.loading = "lazy";
  const picture = new URLSearchParams({ seeds: seed });
  if (state.psi !== "1") picture.set("psi", state.psi);
  if (state.class) picture.set("class", state.class);
  image.src = `tiles/${about.version}/whole.png?${picture}`;
  image.addEventListener("error", () => fetch(image.src).then(
    async (answer) => { if (!answer.ok) complain((await answer.json()).error); }, isGone), { once: true });
  open.append(image);
  open.setAttribute("aria-label", `Zoom into ${name}`);
  open.addEventListener("click", () => address.set({ seeds: seed, at: "", u: 0, v: 0 }));
  const label = document.createElement("label");
  const pick = document.createElement("input");
  pick.type = "checkbox";
  pick.dataset.seed = seed;
  pick.setAttribute("aria-label", `Pick ${name}`);
  pick.hidden = Boolean(about.off.blend);
  pick.addEventListener("change", () => {
    const picked = address.get().picked.split(",").filter((one) => one && one !== String(seed));
    if (pick.checked) picked.push(seed);
    if (picked.length > 4) complain(`Four at most: ${picked[0]} is no longer picked.`);
    else forget();
    address.set({ picked: picked.slice(-4).join(",") }, false);
  });
  label.append(pick, name);
  made.append(open, label);
  return made;
}

function picks() {
  const picked = address.get().picked.split(",").filter(Boolean);
  for (const pick of document.querySelectorAll("#images input")) {
    pick.checked = picked.includes(pick.dataset.seed);
    pick.closest("li").classList.toggle("picked", pick.checked);
  }
  const between = byId("between");
  between.disabled = ![2, 4].includes(picked.length);
  between.textContent = picked.length ? `Between the ${picked.length} picked` : "Between the picked";
  between.hidden = Boolean(about.off.blend);
}
