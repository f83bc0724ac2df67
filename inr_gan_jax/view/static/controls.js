// The panel: every control changes the address, and shows what the address says.
"use strict";

import * as address from "./address.js";
import * as picture from "./picture.js";

const byId = (id) => document.getElementById(id);
let about;

export function start(model) {
  about = model;
  for (const id of ["class", "gallery-class"]) {
    byId(id).append(new Option("drawn", ""), ...about.classes.map((name, k) => new Option(name, k)));
    byId(id).closest("label").hidden = !about.classes.length;
  }
  const levels = Array.from({ length: about.cells + 1 }, (_, k) => new Option(k === about.cells ? "none" : `level ${k}`, k));
  byId("level").append(new Option("as the size needs", ""), ...levels);
  byId("seed").max = byId("mix").max = about.count - 1;
  byId("first").max = byId("last").max = about.layers - 1;
  off();
  for (const id of ["class", "space", "level", "density", "tables"]) {
    byId(id).addEventListener("change", (event) => address.set({ [id]: event.target.value }));
  }
  byId("seed").addEventListener("change", (event) => {
    if (event.target.reportValidity() && event.target.value !== "") address.set({ seeds: event.target.value });
  });
  for (const id of ["psi", "u"]) slider(id);
  for (const id of ["mix", "first", "last"]) byId(id).addEventListener("change", mixed);
  byId("outline").addEventListener("change", (event) => address.set({ outline: event.target.checked ? 1 : 0 }));
  pad();
  byId("panel").addEventListener("submit", (event) => event.preventDefault());
  byId("panel-open").addEventListener("click", () => opened(byId("panel").hidden));
  opened(innerWidth >= 620);
  byId("back").addEventListener("click", gallery);
  byId("undo").addEventListener("click", address.undo);
  addEventListener("keydown", key);
}

function opened(is) {
  byId("panel").hidden = !is;
  byId("viewer").classList.toggle("with-panel", is);
  byId("panel-open").setAttribute("aria-expanded", is);
}

// Says why a control does nothing, in its place.
function off() {
  const sets = { blend: "set-blend", mix: "set-mix", cells: "set-cells", tables: "set-tables", truncation: "label-psi" };
  for (const [name, id] of Object.entries(sets)) {
    if (!about.off[name]) continue;
    const set = byId(id), why = document.createElement("p");
    why.className = "why";
    why.textContent = about.off[name];
    if (set.tagName === "FIELDSET") {
      set.replaceChildren(set.querySelector("legend"), why, ...[...set.children].slice(1).map((part) => {
        part.hidden = true;
        return part;
      }));
    } else set.hidden = true;
  }
  for (const space of ["style", "latent"]) {
    if (about.off[space]) byId("space").querySelector(`[value=${space}]`).disabled = true;
  }
  if (about.off.inr) { // there are only pixels to write
    for (const kind of [".jpg", ".webp", ".tif", ".inr"]) byId("kind").querySelector(`[value="${kind}"]`).disabled = true;
  }
  if (about.off.blend) for (const one of byId("kind").querySelectorAll('[value^="morph"]')) one.disabled = true;
}

// While it is dragged the picture follows; letting go is a step that can be undone.
function slider(id) {
  let before = null;
  byId(id).addEventListener("input", (event) => {
    if (before === null) before = address.get()[id];
    address.set({ [id]: event.target.value }, false);
  });
  byId(id).addEventListener("change", (event) => {
    address.step(before === null ? {} : { [id]: before }, { [id]: event.target.value });
    before = null;
  });
}

function mixed() {
  const seed = byId("mix").value, first = byId("first"), last = byId("last");
  if (![byId("mix"), first, last].every((one) => one.reportValidity())) return;
  if (Number(last.value) < Number(first.value)) last.value = first.value;
  address.set(seed === "" ? { mix: "", layers: "" } : { mix: seed, layers: `${first.value || 0}-${last.value || 0}` });
}

// The square between four images.
function pad() {
  const box = byId("pad");
  let before = null;
  const at = (event) => {
    const area = box.getBoundingClientRect(), clip = (v) => Math.min(Math.max(v, 0), 1).toFixed(3);
    return { u: Number(clip((event.clientX - area.left) / area.width)), v: Number(clip((event.clientY - area.top) / area.height)) };
  };
  box.addEventListener("pointerdown", (event) => {
    box.setPointerCapture(event.pointerId);
    before = { u: address.get().u, v: address.get().v };
    address.set(at(event), false);
  });
  box.addEventListener("pointermove", (event) => { if (before) address.set(at(event), false); });
  const end = (event) => {
    if (!before) return;
    address.step(before, at(event));
    before = null;
  };
  box.addEventListener("pointerup", end);
  box.addEventListener("pointercancel", end);
  box.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.05, 0], ArrowRight: [0.05, 0], ArrowUp: [0, -0.05], ArrowDown: [0, 0.05] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const clip = (v) => Number(Math.min(Math.max(v, 0), 1).toFixed(3));
    address.set({ u: clip(Number(address.get().u) + step[0]), v: clip(Number(address.get().v) + step[1]) });
  });
}

function gallery() {
  address.set({ seeds: "", at: "", mix: "", layers: "", u: 0, v: 0, level: "", density: "", tables: "clamp" });
}

function key(event) {
  if (byId("viewer").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest && event.target.closest("input, select, textarea") && event.key !== "Escape") return;
  const acts = {
    "+": () => picture.zoomBy(2), "=": () => picture.zoomBy(2), "-": () => picture.zoomBy(0.5),
    0: picture.whole, 1: picture.one, Escape: gallery, z: address.undo, Z: address.undo,
    ArrowLeft: () => picture.move(-1, 0), ArrowRight: () => picture.move(1, 0),
    ArrowUp: () => picture.move(0, -1), ArrowDown: () => picture.move(0, 1),
  };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
}

export function show(state) {
  const seeds = state.seeds.split(",");
  byId("seed").value = seeds[0];
  byId("seed").disabled = seeds.length > 1;
  byId("picked-are").textContent = seeds.length > 1 ? `Seeds ${seeds.join(", ")}` : "Pick two or four images in the gallery.";
  for (const id of ["class", "space", "level", "density", "tables", "psi", "u"]) byId(id).value = state[id];
  for (const id of ["psi", "u"]) document.querySelector(`output[for=${id}]`).textContent = state[id];
  if (!about.off.blend) {
    byId("label-u").hidden = seeds.length !== 2;
    byId("pad").hidden = seeds.length !== 4;
    byId("space").disabled = seeds.length < 2;
  }
  byId("pad").firstElementChild.style.left = `${100 * Number(state.u)}%`;
  byId("pad").firstElementChild.style.top = `${100 * Number(state.v)}%`;
  byId("pad").setAttribute("aria-valuenow", state.u);
  byId("pad").setAttribute("aria-valuetext", `${state.u} to the right, ${state.v} down`);
  byId("set-mix").disabled = seeds.length > 1;
  byId("mix").value = state.mix;
  const [first, last] = (state.layers || "0-0").split("-");
  byId("first").value = first;
  byId("last").value = last;
  byId("outline").checked = state.outline === "1";
  byId("undo").disabled = !address.undoable();
}
