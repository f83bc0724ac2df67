// The page: a gallery of functions, one of them in the viewer, and the address that says which.

const $ = (id) => document.getElementById(id);
const ABOUT = JSON.parse($("about-functions").textContent); // title, names, size, frame, waves
const asked = new URLSearchParams(location.hash.slice(1));
const evaluator = new Evaluator(
  `"use strict";(${workerSource})()`, $("inr").textContent, ABOUT.waves, asked.get("machine") ?? "",
);
$("inr").remove(); // the worker has it
const snaps = ABOUT.frame === "symmetric" || ABOUT.frame === "unit"; // there are cells
const pyramid = new Pyramid(evaluator, ABOUT.size, snaps ? "edge" : "center", arrived);
const viewer = new Viewer($("picture"), pyramid, moved, notice);
const thumbnails = ABOUT.names.map(thumbnail);
const state = { image: null, other: null, part: 0, cells: "auto" };
let seen = new Set(), opener = null, saving = null;

// For consoles and tests: pixels of any window of any function.
window.inrSite = { about: ABOUT, render: (job) => evaluator.render(job), get machine() { return evaluator.machine; } };

function sentence(error) {
  return `This picture could not be computed: ${error.message}. Reload the page to try again.`;
}

// What is shown, as tiles know it.
function shownOf(image, other = null, part = 0, cells = "auto") {
  const between = other !== null && part > 0;
  const options = { image: between ? { from: image, to: other, t: part } : image };
  if (snaps && cells === "continuous") Object.assign(options, { superresFrom: 1, density: Infinity });
  if (snaps && cells === "native") Object.assign(options, { superresFrom: 1, density: 1 });
  return { of: JSON.stringify(options), options };
}

function thumbnail(name, k) {
  const item = document.createElement("li"), button = document.createElement("button");
  const canvas = document.createElement("canvas"), label = document.createElement("span");
  const tile = pyramid.tile(shownOf(k), 0, 0, 0);
  [canvas.width, canvas.height] = [Math.round(TILE * pyramid.wide), Math.round(TILE * pyramid.high)];
  label.textContent = name;
  button.append(canvas, label);
  button.addEventListener("click", () => {
    opener = button;
    history.pushState(null, "", `#image=${k}`);
    fromAddress();
  });
  item.append(button);
  $("functions").append(item);
  return { canvas, tile, button, drawn: false };
}

function drawGallery() {
  for (const thumb of thumbnails) {
    const made = !thumb.drawn && pyramid.get(thumb.tile);
    if (!made) continue;
    thumb.canvas.getContext("2d").drawImage(made, 0, 0);
    thumb.drawn = true;
  }
  if (state.image === null) pyramid.want([...seen].map((k) => thumbnails[k].tile));
}

function arrived(error) {
  if (error) return notice(sentence(error));
  const by = { webgl: "by WebGL2", cpu: "by the CPU" }[evaluator.machine];
  $("how").textContent = evaluator.note ? `${by} (${evaluator.note})` : by;
  drawGallery();
  if (state.image === null) return;
  viewer.draw();
  status();
}

function problem(text) {
  $("error").textContent = text;
  $("error").hidden = false;
}

let noticeEnds = 0;
function notice(text) {
  if (state.image === null) return problem(text);
  $("notice").textContent = text;
  $("notice").hidden = false;
  clearTimeout(noticeEnds);
  noticeEnds = setTimeout(() => { $("notice").hidden = true; }, 8000);
}

const rounded = (value, digits = 3) => Number(value.toPrecision(digits)).toLocaleString("en");

let saidEnds = 0;
function status() {
  const { missing } = viewer, x = 2 * viewer.x / pyramid.wide - 1, y = 1 - 2 * viewer.y / pyramid.high;
  const where = `${title()}, zoom ${rounded(viewer.zoom)}, middle at ${rounded(x)}, ${rounded(y)}`;
  $("status").textContent = missing ? `${where}; ${missing} tiles to come` : where;
  $("viewer").dataset.missing = missing;
  clearTimeout(saidEnds);
  saidEnds = setTimeout(() => {
    $("said").textContent = missing ? "" : `${where}; sharp`;
    $("picture").setAttribute("aria-label", where);
  }, 600);
}

function title() {
  const morphs = state.other !== null && state.part > 0;
  return ABOUT.names[state.image] + (morphs ? `, ${Math.round(100 * state.part)}% of the way to ${ABOUT.names[state.other]}` : "");
}

let addressed = 0;
function moved() {
  status();
  clearTimeout(addressed);
  addressed = setTimeout(() => {
    if (state.image === null) return;
    const values = new URLSearchParams({ image: state.image });
    if (state.other !== null) values.set("to", state.other);
    if (state.other !== null) values.set("part", state.part);
    if (state.cells !== "auto") values.set("cells", state.cells);
    values.set("x", Number((2 * viewer.x / pyramid.wide - 1).toPrecision(10)));
    values.set("y", Number((1 - 2 * viewer.y / pyramid.high).toPrecision(10)));
    values.set("zoom", Number(viewer.zoom.toPrecision(6)));
    if (asked.get("machine")) values.set("machine", asked.get("machine"));
    history.replaceState(null, "", `#${values}`);
  }, 250);
}

// Takes up what the address says; what it says wrongly is as if it were not there.
function fromAddress() {
  const values = new URLSearchParams(location.hash.slice(1));
  const index = (name) => {
    const text = values.get(name), known = text !== null && /^\d+$/.test(text) && Number(text) < ABOUT.names.length;
    if (text !== null && !known) problem(`The address asks for image ${text}: there are 0 to ${ABOUT.names.length - 1}.`);
    return known ? Number(text) : null;
  };
  const number = (name, usual) => {
    const value = Number(values.get(name) ?? NaN);
    return Number.isFinite(value) ? value : usual;
  };
  clearTimeout(addressed);
  state.image = index("image");
  state.other = index("to");
  state.part = Math.max(0, Math.min(number("part", 0), 1));
  state.cells = ["continuous", "native"].includes(values.get("cells")) ? values.get("cells") : "auto";
  const open = state.image !== null;
  if (!open && saving) saving.stopped = true;
  $("viewer").hidden = !open;
  $("gallery").inert = open;
  document.title = open ? `${ABOUT.names[state.image]} - ${ABOUT.title}` : ABOUT.title;
  if (!open) {
    viewer.shown = viewer.before = null;
    drawGallery();
    opener?.focus();
    return;
  }
  $("other").value = state.other ?? "";
  $("part").value = state.part;
  $("cells").value = state.cells;
  $("part").disabled = state.other === null;
  viewer.show(shownOf(state.image, state.other, state.part, state.cells), {
    x: (number("x", 0) + 1) / 2 * pyramid.wide,
    y: (1 - number("y", 0)) / 2 * pyramid.high,
    zoom: number("zoom", 1),
  });
  if (!$("viewer").contains(document.activeElement)) $("picture").focus();
}

function close() {
  history.pushState(null, "", asked.get("machine") ? `#machine=${asked.get("machine")}` : "#");
  fromAddress();
}

async function save() {
  if (saving) return;
  const mine = saving = { stopped: false };
  try {
    const name = `${title()}-zoom-${rounded(viewer.zoom)}.png`.replace(/[^\w.-]+/g, "-");
    const picture = await viewer.picture((part) => {
      if (mine.stopped) throw null;
      $("save").textContent = `Saving: ${Math.round(100 * part)}%`;
    });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await picture.convertToBlob({ type: "image/png" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    notice(`${name}: ${picture.width} by ${picture.height} pixels.`);
  } catch (error) {
    if (error) notice(`The picture was not saved: ${error.message}.`);
  } finally {
    saving = null;
    $("save").textContent = "Save PNG";
  }
}

function change(values) {
  Object.assign(state, values);
  $("part").disabled = state.other === null;
  viewer.show(shownOf(state.image, state.other, state.part, state.cells));
}

const KEYS = {
  "+": () => viewer.zoomBy(1.5), "=": () => viewer.zoomBy(1.5),
  "-": () => viewer.zoomBy(1 / 1.5), _: () => viewer.zoomBy(1 / 1.5),
  ArrowLeft: () => viewer.step(-0.15, 0), ArrowRight: () => viewer.step(0.15, 0),
  ArrowUp: () => viewer.step(0, -0.15), ArrowDown: () => viewer.step(0, 0.15),
  0: () => viewer.whole(), Home: () => viewer.whole(), Escape: close,
};

document.addEventListener("keydown", (event) => {
  const taken = event.target.matches("input, select") && event.key !== "Escape";
  if (state.image === null || taken || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
$("back").addEventListener("click", close);
$("in").addEventListener("click", KEYS["+"]);
$("out").addEventListener("click", KEYS["-"]);
$("whole").addEventListener("click", KEYS[0]);
$("save").addEventListener("click", save);
$("finer").hidden = !snaps;
$("cells").addEventListener("change", ({ target }) => change({ cells: target.value }));
$("other").append(...ABOUT.names.map((name, k) => new Option(name, k)));
$("other").addEventListener("change", ({ target }) => {
  const other = target.value === "" ? null : Number(target.value);
  change({ other, part: other === null ? 0 : state.part || 0.5 });
  $("part").value = state.part;
});
$("part").addEventListener("input", ({ target }) => change({ part: Number(target.value) }));
for (const one of document.querySelectorAll(".morph")) one.hidden = ABOUT.names.length < 2;
window.addEventListener("popstate", fromAddress);
window.addEventListener("hashchange", fromAddress);
const watch = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const k = thumbnails.findIndex(({ button }) => button === target);
    if (isIntersecting) seen.add(k);
    else seen.delete(k);
  }
  drawGallery();
}, { rootMargin: "200px" });
for (const { button } of thumbnails) watch.observe(button);
fromAddress();
evaluator.ready.catch((error) => problem(`This page's functions cannot be read: ${error.message}.`));
