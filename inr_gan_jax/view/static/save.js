// Saves what is seen: a file that the server makes, with its progress; and the command for it.
"use strict";

import * as address from "./address.js";
import { ask, complain, post, say } from "./ask.js";
import { seen } from "./picture.js";

const byId = (id) => document.getElementById(id);
let about, key = null, waits;

export function start(model) {
  about = model;
  byId("save").addEventListener("click", save);
  byId("cancel").addEventListener("click", () => { if (key) ask(`api/saves/${key}`, { method: "DELETE" }).catch((error) => complain(error.message)); });
  byId("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(byId("command").value);
      say("Copied.");
    } catch {
      byId("command").select();
      document.execCommand("copy");
    }
  });
  for (const id of ["kind", "what", "width"]) byId(id).addEventListener("change", command);
}

function order() {
  const kind = byId("kind").value, { window, shape } = seen(byId("what").value === "frame");
  let width = Number(byId("width").value), height = Math.max(Math.round(width / shape), 1);
  const film = kind.startsWith(".") ? "" : kind.split(".")[0];
  if (film) [width, height] = [width, height].map((side) => Math.max(2 * Math.round(side / 2), 2));
  const made = { picture: address.picture(), suffix: film ? `.${kind.split(".")[1]}` : kind, width, height, window };
  return film ? { ...made, film } : made;
}

async function save() {
  if (!byId("width").reportValidity()) return;
  byId("file").hidden = true;
  try {
    key = (await post("api/saves", order())).key;
  } catch (error) {
    complain(error.message);
    return;
  }
  complain("");
  for (const id of ["cancel", "progress"]) byId(id).hidden = false;
  byId("save").disabled = true;
  follow();
}

async function follow() {
  let job;
  try {
    job = await ask(`api/saves/${key}`);
  } catch (error) {
    job = { state: "failed", error: error.message, made: 0, tiles: 1, name: "" };
  }
  byId("progress").value = job.made / Math.max(job.tiles, 1);
  if (job.state === "working") {
    setTimeout(follow, 300);
    return;
  }
  for (const id of ["cancel", "progress"]) byId(id).hidden = true;
  byId("save").disabled = false;
  if (job.state === "failed") complain(job.error);
  if (job.state === "cancelled") say("Cancelled.");
  if (job.state === "done") {
    const file = byId("file");
    file.href = `api/saves/${key}/file`;
    file.download = job.name;
    file.textContent = `Download ${job.name}`;
    file.hidden = false;
    file.click();
    say(`${job.name} is saved.`);
  }
}

// The command of what is seen, some time after it has stopped changing.
export function command() {
  clearTimeout(waits);
  waits = setTimeout(async () => {
    if (byId("viewer").hidden) return;
    const { picture, suffix, width, height, window, film } = order();
    if (film || suffix === ".inr") {
      byId("command").value = film ? "Films: python -m inr_gan_jax.video --help" : "";
      if (film) return;
    }
    try {
      const asked = new URLSearchParams({ picture, suffix, width, height, window: window.join(",") });
      byId("command").value = (await ask(`api/command?${asked}`)).command;
    } catch (error) {
      byId("command").value = error.message;
    }
  }, 400);
}
