// What is seen, as the part of the address after #: a link shows the same, and history is undo.
"use strict";

const PLAIN = {
  seeds: "", u: "0", v: "0", space: "weights", psi: "1", class: "", mix: "", layers: "",
  level: "", density: "", tables: "clamp", // the picture (view/picture.py)
  at: "", picked: "", from: "0", outline: "1", // the page's own
};
const OWN = ["at", "picked", "from", "outline"];
let state = { ...PLAIN };
let unknown = []; // names that mean nothing here, until the address is written anew
let depth = 0; // of our own history
const listeners = [];

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = { ...PLAIN };
  unknown = [...given.keys()].filter((name) => !(name in PLAIN));
  for (const [name, value] of given) if (name in PLAIN) state[name] = value;
  depth = (history.state && history.state.depth) || 0;
}

function text(values) {
  const given = new URLSearchParams();
  for (const [name, plain] of Object.entries(PLAIN)) {
    if (values[name] !== plain) given.set(name, values[name]);
  }
  return given.toString().replaceAll("%2C", ",");
}

export const get = () => state;
export const strange = () => unknown;
export const undoable = () => depth > 0;

// The picture's part: what the server parses.
export function picture(changes = {}) {
  const values = { ...state, ...changes };
  for (const name of OWN) values[name] = PLAIN[name];
  return text(values);
}

// Changes it. A step that `counts` can be undone; others are on the way to one that does.
export function set(changes, counts = true) {
  const before = state;
  unknown = [];
  state = { ...state };
  for (const [name, value] of Object.entries(changes)) state[name] = String(value);
  const hash = "#" + text(state), same = hash === (location.hash || "#");
  if (same && !counts) return;
  if (counts && !same) history.pushState({ depth: ++depth }, "", hash);
  else history.replaceState({ depth }, "", hash);
  for (const listener of listeners) listener(state, before);
}

// A step from `before` to `changes`: what was seen on the way is forgotten.
export function step(before, changes) {
  state = { ...state, ...before };
  history.replaceState({ depth }, "", "#" + text(state));
  set(changes);
}

export function onChange(listener) {
  listeners.push(listener);
}

export function undo() {
  if (depth > 0) history.back();
}

addEventListener("popstate", () => {
  const before = state;
  read();
  for (const listener of listeners) listener(state, before);
});
read();
