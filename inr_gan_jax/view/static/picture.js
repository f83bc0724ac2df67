// One image, as deep as float32 goes: OpenSeadragon over tiles that the server renders.
"use strict";

import * as address from "./address.js";
import { complain, forget, isGone } from "./ask.js";

const byId = (id) => document.getElementById(id);
let viewer, about, shown = "", moving = false, ended = false, outline;

export function start(model) {
  about = model;
  viewer = OpenSeadragon({
    element: byId("deep"), drawer: "canvas", showNavigationControl: false,
    loadTilesWithAjax: true, imageLoaderLimit: 4, maxTilesPerFrame: 4, crossOriginPolicy: false,
    maxZoomPixelRatio: 1, minPixelRatio: 0.51, minZoomImageRatio: 0.5, visibilityRatio: 0.3,
    animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.35,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    zoomPerScroll: 1.35, immediateRender: false, imageSmoothingEnabled: true,
    preserveImageSizeOnResize: true, tabIndex: -1, // #deep has the keyboard
    subPixelRoundingForTransparency: OpenSeadragon.SUBPIXEL_ROUNDING_OCCURRENCES.ALWAYS,
  });
  viewer.addHandler("tile-load-failed", (event) => failed(event));
  viewer.addHandler("animation-finish", settled);
  viewer.addHandler("animation", status);
  viewer.addHandler("zoom", atTheEnd);
  viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; });
  for (const [id, act] of Object.entries({ in: () => zoomBy(2), out: () => zoomBy(0.5), whole, one })) {
    byId(id).addEventListener("click", act);
  }
  new ResizeObserver(() => status()).observe(byId("deep"));
}

const source = (picture) => ({
  width: about.width, height: about.height, tileSize: about.tile, minLevel: 0,
  maxLevel: about.levels - 1,
  getTileUrl: (level, x, y) => `tiles/${about.version}/${level}/${x}_${y}.png?${picture}`,
});

// The frame of training, in OpenSeadragon's units: the world is 1 wide.
function frame() {
  const side = 1 / about.reach, high = about.height / about.width;
  const first = (about.reach - 1) / 2;
  return new OpenSeadragon.Rect(first * side, first * side * high, side, side * high);
}

// `before`: the state before this one, if there was one.
export function show(state, before) {
  const picture = address.picture(), key = about.version + picture;
  if (key !== shown) {
    const stay = shown !== "" && before && before.at === state.at, { world } = viewer;
    shown = key;
    viewer.addTiledImage({
      tileSource: source(picture),
      success: ({ item }) => {
        if (key !== shown) { // another one is on its way already
          world.removeItem(item);
          return;
        }
        // An older one must not stay under a newer one that is transparent, nor load any more;
        // only what is seen, the first one, does until the new one is there.
        while (world.getItemCount() > 2) world.removeItem(world.getItemAt(1));
        const old = world.getItemAt(0);
        const gone = () => { if (old !== item && world.getIndexOfItem(old) >= 0) world.removeItem(old); };
        if (item.getFullyLoaded()) gone();
        else item.addOnceHandler("fully-loaded-change", gone);
        if (!stay) place(address.get(), true);
      },
    });
  } else place(state, false);
  outlined(state.outline === "1");
}

export function hide() {
  shown = "";
  if (viewer) {
    viewer.world.removeAll();
    outlined(false);
  }
}

function outlined(wanted) {
  if (wanted && !outline) {
    outline = document.createElement("div");
    outline.className = "frame-of-training";
    viewer.addOverlay({ element: outline, location: frame() });
  } else if (!wanted && outline) {
    viewer.removeOverlay(outline);
    outline = undefined;
  }
}

// Goes to where the address says: x, y in the frame (-1 to 1), and how much of it is seen.
function place(state, at_once) {
  const box = frame(), at = state.at.split(",").map(Number);
  moving = true;
  if (at.length !== 3 || !at.every(Number.isFinite) || at[2] <= 0) {
    const margin = 0.04 * Math.max(box.width, box.height);
    viewer.viewport.fitBounds(new OpenSeadragon.Rect(
      box.x - margin, box.y - margin, box.width + 2 * margin, box.height + 2 * margin), at_once);
  } else {
    const middle = new OpenSeadragon.Point(
      box.x + (box.width * (at[0] + 1)) / 2, box.y + (box.height * (1 - at[1])) / 2);
    viewer.viewport.zoomTo(at[2] / box.width / 1, null, at_once);
    viewer.viewport.panTo(middle, at_once);
  }
  moving = false;
  if (at_once) viewer.viewport.applyConstraints(true);
  status();
}

// What is seen: left, bottom, right, top in the frame.
export function seen(whole_frame = false) {
  if (whole_frame) return { window: [-1, -1, 1, 1], shape: about.size[0] / about.size[1] };
  const box = frame(), bounds = viewer.viewport.getBounds(true);
  const x = (v) => (2 * (v - box.x)) / box.width - 1, y = (v) => 1 - (2 * (v - box.y)) / box.height;
  return {
    window: [x(bounds.x), y(bounds.y + bounds.height), x(bounds.x + bounds.width), y(bounds.y)],
    shape: bounds.width / bounds.height,
  };
}

function where() {
  const box = frame(), middle = viewer.viewport.getCenter(true);
  return [
    (2 * (middle.x - box.x)) / box.width - 1, 1 - (2 * (middle.y - box.y)) / box.height,
    viewer.viewport.getZoom(true) * box.width,
  ];
}

function settled() {
  if (!shown) return;
  const at = where().map((v) => Number(v.toPrecision(9))).join(",");
  address.set({ at }, false);
  status();
}

function status() {
  if (!shown || !viewer.world.getItemCount()) return;
  const [x, y, zoom] = where(), { window } = seen();
  const side = viewer.container.clientWidth, each = (window[2] - window[0]) / side;
  const native = 2 / about.size[0] / each;
  byId("status").textContent =
    `x ${place_of(x, each)}, y ${place_of(y, each)} · ${short(native)} pixels per trained pixel · ${short(zoom)} times the width`;
}

// A place in the frame, to a pixel of the screen.
const place_of = (value, each) =>
  value.toFixed(Math.min(Math.max(Math.ceil(-Math.log10(each)), 2), 9)).replace(/^-(0\.?0*)$/, "$1");
const short = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3))));

function atTheEnd(event) {
  if (moving || !viewer.world.getItemCount()) return;
  if (event.zoom >= viewer.viewport.getMaxZoom() * 0.999) {
    complain("Closer, float32 could not tell neighbouring pixels apart: the zoom ends here.");
    ended = true;
  } else if (ended) {
    ended = false;
    forget();
  }
}

function failed(event) {
  if (!event.tileRequest && /abort/i.test(event.message || "")) return;
  const url = event.tile && (typeof event.tile.getUrl === "function" ? event.tile.getUrl() : event.tile.url);
  const key = shown, item = event.tiledImage, { world } = viewer;
  const seen = () => key === shown && world.getIndexOfItem(item) >= 0;
  if (!url || !seen()) return;
  fetch(url).then(async (answer) => {
    if (answer.ok || !seen()) return;
    if (answer.status === 400) world.removeItem(item); // no tile of it can be
    complain((await answer.json()).error);
  }, isGone);
}

export function zoomBy(factor) {
  viewer.viewport.zoomBy(factor);
  viewer.viewport.applyConstraints();
}

export function move(x, y) {
  const bounds = viewer.viewport.getBounds(true);
  viewer.viewport.panBy(new OpenSeadragon.Point((x * bounds.width) / 4, (y * bounds.height) / 4));
  viewer.viewport.applyConstraints();
}

export function whole() {
  place({ at: "" }, false);
}

// A pixel of the screen for a pixel of the nearest level, on its very places.
export function one() {
  const width = viewer.container.clientWidth, high = viewer.container.clientHeight;
  const pixels = width * viewer.viewport.getZoom(true); // of the whole world
  const level = Math.min(Math.max(Math.round(Math.log2(pixels / about.width)), 1 - about.levels), 0);
  const across = about.width * 2 ** level, middle = viewer.viewport.getCenter(true);
  const left = Math.round(middle.x * across - width / 2), top = Math.round(middle.y * across - high / 2);
  viewer.viewport.fitBounds(new OpenSeadragon.Rect(left / across, top / across, width / across, high / across), true);
  settled();
}

// Whether all that is seen is there.
export function loaded() {
  const item = viewer && viewer.world.getItemCount() === 1 && viewer.world.getItemAt(0);
  return Boolean(item && item.getFullyLoaded());
}
