// A run that is watched: its curves, and pictures of its newest checkpoint.
"use strict";

import { ask } from "./ask.js";

const SECONDS = 5;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

// Looks from time to time; `newer` is called with what the page must know of a new checkpoint.
export function start(about, newer) {
  let version = about.version;
  const look = async () => {
    try {
      const found = await ask("api/model");
      if (found.version !== version) {
        version = found.version;
        newer(found);
      }
      if (about.run && !byId("gallery").hidden) draw(await ask("api/curves"));
    } catch { /* ask has said it */ }
    setTimeout(look, SECONDS * 1000);
  };
  look();
}

function draw(curves) {
  const place = byId("curves");
  place.hidden = false;
  place.replaceChildren(...Object.entries(curves).filter(([, points]) => points.length > 1).map(([name, points]) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const last = points[points.length - 1];
    const is = last[1] === null ? "not finite" : Number(last[1].toPrecision(4));
    caption.textContent = `${name}: ${is} at ${(last[0] / 1000).toLocaleString("en")} kimg`;
    const svg = document.createElementNS(SVG, "svg"), line = document.createElementNS(SVG, "polyline");
    svg.setAttribute("viewBox", "0 0 100 100");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", caption.textContent);
    const values = points.map((point) => point[1]).filter(Number.isFinite);
    const low = Math.min(...values), high = Math.max(...values), end = last[0] || 1;
    line.setAttribute("points", points.filter((point) => Number.isFinite(point[1])).map(([images, value]) =>
      `${(100 * images) / end},${95 - (90 * (value - low)) / (high - low || 1)}`).join(" "));
    svg.append(line);
    figure.append(svg, caption);
    return figure;
  }));
}
