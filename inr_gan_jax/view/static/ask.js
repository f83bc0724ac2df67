// Asks the server; what goes wrong becomes a sentence at the bottom of the page.
"use strict";

const GONE = "The viewer does not answer: it was stopped, or its machine sleeps. Start it again with the same command, then reload this page.";
let gone = false;

export function say(text) {
  document.getElementById("said").textContent = text;
}

export function complain(text) {
  const shown = document.getElementById("error");
  shown.textContent = text;
  shown.hidden = !text;
}

// Whatever was wrong and has passed.
export function fine() {
  if (gone) complain("");
  gone = false;
}

// What was wrong with what is no longer asked for; that nobody answers stays.
export function forget() {
  if (!gone) complain("");
}

export function isGone() {
  gone = true;
  complain(GONE);
}

export async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    isGone();
    throw new Error(GONE);
  }
  fine();
  const found = await answer.json().catch(() => ({ error: `The viewer answered ${answer.status}.` }));
  if (!answer.ok) throw new Error(found.error || `The viewer answered ${answer.status}.`);
  return found;
}

export const post = (path, what) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what) });
