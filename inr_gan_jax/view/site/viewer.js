// One image, zoomed and dragged. Places are in units of the frame's longer side, from its top left.

const FINEST = 17; // level of tiles whose pixels are 2^-23 of the frame apart: float32's own steps
const ENDS = "Zoom ends here: float32 numbers no longer tell neighbouring pixels apart.";
const OUT = 0.25; // the frame is not shown smaller, beside the window
const FAR = 2; // from the frame's middle, in frames

class Viewer {
  // `canvas` to draw on; `moved` is called after every change, `notice` with a sentence.
  constructor(canvas, pyramid, moved, notice) {
    Object.assign(this, { canvas, pyramid, moved, notice });
    this.shown = this.before = null; // see Pyramid.tile; `before`: what was shown, until this is
    this.x = this.y = 0;
    this.zoom = 1;
    this.pointers = new Map();
    new ResizeObserver(() => this.change()).observe(canvas);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 30 : 1;
      this.zoomBy(2 ** (-Math.max(-200, Math.min(200, event.deltaY * lines)) / 240), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    });
    canvas.addEventListener("pointermove", (event) => this.dragged(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("dblclick", (event) => this.zoomBy(2, event.offsetX, event.offsetY));
  }

  get size() {
    return [this.canvas.clientWidth || 1, this.canvas.clientHeight || 1];
  }

  // CSS pixels per unit.
  get scale() {
    const { wide, high } = this.pyramid, [w, h] = this.size;
    return this.zoom * Math.min(w / wide, h / high) * 0.92;
  }

  get most() {
    return this.zoom * TILE * 2 ** FINEST / devicePixelRatio / this.scale;
  }

  // Left, top, right, bottom of what is seen.
  get corners() {
    const [w, h] = this.size.map((side) => side / 2 / this.scale);
    return [this.x - w, this.y - h, this.x + w, this.y + h];
  }

  show(shown, { x, y, zoom } = {}) {
    this.before = this.shown && this.shown.of !== shown.of ? this.shown : this.before;
    this.shown = shown;
    if (x !== undefined) Object.assign(this, { x, y, zoom });
    this.change();
  }

  whole() {
    this.x = this.pyramid.wide / 2;
    this.y = this.pyramid.high / 2;
    this.zoom = 1;
    this.change();
  }

  // Zooms about a place of the canvas, which stays where it is (the middle by default).
  zoomBy(factor, px = this.size[0] / 2, py = this.size[1] / 2) {
    const wanted = this.zoom * factor, zoom = Math.max(OUT, Math.min(wanted, this.most));
    if (wanted > zoom * (1 + 1e-9) && factor > 1) this.notice(ENDS);
    const [dx, dy] = [px - this.size[0] / 2, py - this.size[1] / 2], before = this.scale;
    this.zoom = zoom;
    this.x += dx / before - dx / this.scale;
    this.y += dy / before - dy / this.scale;
    this.change();
  }

  // Moves by a part of the window.
  step(across, down) {
    this.x += across * this.size[0] / this.scale;
    this.y += down * this.size[1] / this.scale;
    this.change();
  }

  dragged(event) {
    const before = this.pointers.get(event.pointerId), now = [event.offsetX, event.offsetY];
    if (!before) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    this.pointers.set(event.pointerId, now);
    if (others.length) { // two fingers: the other one stays where it is
      const apart = (at) => Math.hypot(at[0] - others[0][0], at[1] - others[0][1]) || 1;
      this.x -= (now[0] - before[0]) / 2 / this.scale;
      this.y -= (now[1] - before[1]) / 2 / this.scale;
      this.zoomBy(apart(now) / apart(before), ...others[0].map((v, k) => (v + now[k]) / 2));
      return;
    }
    this.x -= (now[0] - before[0]) / this.scale;
    this.y -= (now[1] - before[1]) / this.scale;
    this.change();
  }

  change() {
    const { wide, high } = this.pyramid;
    this.x = Math.max(wide * (0.5 - FAR), Math.min(this.x, wide * (0.5 + FAR)));
    this.y = Math.max(high * (0.5 - FAR), Math.min(this.y, high * (0.5 + FAR)));
    this.zoom = Math.max(OUT, Math.min(this.zoom, this.most));
    if (!this.shown) return;
    this.wantTiles();
    this.draw();
    this.moved();
  }

  // The level whose pixels are those of the screen, magnified by a fifth at most.
  get level() {
    return Math.min(FINEST, Math.ceil(Math.log2(this.scale * devicePixelRatio / TILE) - 0.26));
  }

  wantTiles() {
    const z = this.level, coarse = [z - 5, z - 2].filter((level) => level >= -2);
    const levels = [...coarse, z].map((level) => this.pyramid.covering(this.shown, level, ...this.corners));
    this.sharp = levels.at(-1);
    this.pyramid.want(levels.flat());
  }

  // Tiles that are still to come.
  get missing() {
    return this.sharp.filter((tile) => !this.pyramid.get(tile)).length;
  }

  // Draws at the next frame: what is there of all levels, the right one last.
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (!this.shown) return;
      const { canvas, pyramid } = this, [w, h] = this.size, ratio = devicePixelRatio;
      if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
        [canvas.width, canvas.height] = [Math.round(w * ratio), Math.round(h * ratio)];
      }
      const context = canvas.getContext("2d"), z = this.level;
      context.imageSmoothingQuality = "high";
      context.clearRect(0, 0, canvas.width, canvas.height);
      const at = (x, y) => [((x - this.x) * this.scale + w / 2) * ratio, ((y - this.y) * this.scale + h / 2) * ratio];
      const levels = Array.from({ length: Math.max(z + 2, 0) }, (_, k) => k - 2); // up to z - 1
      for (const shown of [this.before, this.shown]) {
        if (!shown) continue;
        for (const level of [...levels, z + 1, z]) {
          pyramid.draw(context, pyramid.covering(shown, level, ...this.corners), at);
        }
      }
      this.dim(context, at);
      if (!this.missing) this.before = null;
    });
  }

  // What lies beyond the frame is the function's own guess: nobody trained it there.
  dim(context, at) {
    const { width, height } = context.canvas, frame = new Path2D();
    const [x0, y0] = at(0, 0).map(Math.round), [x1, y1] = at(this.pyramid.wide, this.pyramid.high).map(Math.round);
    frame.rect(0, 0, width, height);
    frame.rect(x0, y0, x1 - x0, y1 - y0);
    context.save();
    context.globalAlpha = 0.35;
    context.fillStyle = getComputedStyle(document.body).backgroundColor;
    context.fill(frame, "evenodd");
    context.restore();
  }

  // What is seen, pixel by pixel, as a canvas; `progress` is told the part that is done.
  async picture(progress) {
    const { canvas, pyramid } = this, { width, height } = canvas, [left, top, right, bottom] = this.corners;
    const out = new OffscreenCanvas(width, height), SIDE = 256, { options } = this.shown;
    const pieces = [];
    for (let y = 0; y < height; y += SIDE) for (let x = 0; x < width; x += SIDE) pieces.push([x, y]);
    for (const [k, [x, y]] of pieces.entries()) {
      const w = Math.min(SIDE, width - x), h = Math.min(SIDE, height - y);
      const across = (v) => left + (right - left) * v / width, down = (v) => top + (bottom - top) * v / height;
      const window = pyramid.windowOf(across(x), down(y), across(x + w), down(y + h));
      const job = { window, width: w, height: h, bytes: true, align: pyramid.aligned };
      const bytes = await pyramid.evaluator.render({ ...job, ...options });
      out.getContext("2d").putImageData(new ImageData(bytes, w, h), x, y);
      progress((k + 1) / pieces.length);
    }
    return out;
  }
}
