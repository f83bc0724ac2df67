// Starts the page: asks what there is, then shows what the address says.
"use strict";

import * as address from "./address.js";
import { ask, complain, forget, say } from "./ask.js";
import * as controls from "./controls.js";
import * as curves from "./curves.js";
import * as gallery from "./gallery.js";
import * as picture from "./picture.js";
import * as save from "./save.js";

const byId = (id) => document.getElementById(id);

let asked = null;

function show(state, before) {
  const one = state.seeds !== "";
  if (asked !== address.picture()) forget();
  asked = address.picture();
  const names = address.strange();
  if (names.length) complain(`The address says ${names.join(", ")}, which means nothing here.`);
  byId("gallery").hidden = one;
  byId("viewer").hidden = !one;
  if (one) {
    picture.show(state, before);
    controls.show(state);
    save.command();
    if (before && !before.seeds) byId("deep").focus();
  } else {
    picture.hide();
    gallery.show(state);
    if (before && before.seeds) gallery.focus(before.seeds.split(",")[0]);
  }
}

async function start() {
  const about = await ask("api/model");
  document.title = about.title;
  byId("title").textContent = about.title;
  for (const part of [controls, gallery, save]) part.start(about);
  byId("viewer").hidden = false; // it has a size only then
  picture.start(about);
  address.onChange(show);
  show(address.get());
  curves.start(about, (newer) => {
    Object.assign(about, newer);
    say(`A newer checkpoint: ${about.told}.`);
    show(address.get(), address.get());
  });
}

start().catch((error) => complain(error.message));
globalThis.inrViewer = { picture, address }; // for tests, and the curious
