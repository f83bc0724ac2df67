// Pixels from the worker, and the pyramid of tiles of which pictures are made.

// The evaluator: requests in, promises of pixels out.
class Evaluator {
  // `source`: the worker's text. `ready` is fulfilled once functions can be asked for.
  constructor(source, data, waves, machine) {
    this.waiting = new Map();
    this.number = 0;
    this.machine = this.note = "";
    this.worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    this.worker.onmessage = ({ data: answer }) => {
      const { done, failed } = this.waiting.get(answer.id);
      this.waiting.delete(answer.id);
      if (answer.error) return failed(new Error(answer.error));
      this.machine = answer.machine;
      this.note = answer.note;
      done(answer.result);
    };
    this.worker.onerror = (event) => {
      for (const { failed } of this.waiting.values()) failed(new Error(event.message || "its worker stopped"));
      this.waiting.clear();
    };
    this.ready = this.ask({ data, waves, machine });
  }

  ask(job) {
    const id = this.number++;
    return new Promise((done, failed) => {
      this.waiting.set(id, { done, failed });
      this.worker.postMessage({ ...job, id });
    });
  }

  // {image, window, width, height, align, superresFrom, density} -> float32 [height, width, channels],
  // about -1 to 1; with `bytes` RGBA. `image`: a number, or {from, to, t}. The rest as in Python's render.
  async render(job) {
    await this.ready;
    return this.ask(job);
  }
}

const TILE = 128; // pixels a side
const MOST = 900; // tiles that are kept

// Tiles of a frame of width x height, in units of its longer side: (0, 0) is its top left corner,
// and tile (i, j) of level z covers 2^-z of it a side.
class Pyramid {
  constructor(evaluator, [height, width], aligned, changed) {
    Object.assign(this, { evaluator, aligned, changed });
    const longer = Math.max(width, height);
    this.wide = width / longer;
    this.high = height / longer;
    this.tiles = new Map(); // key -> canvas, the last used at the end
    this.failed = new Set();
    this.wanted = [];
    this.running = 0;
  }

  windowOf(left, top, right, bottom) {
    return [2 * left / this.wide - 1, 1 - 2 * bottom / this.high, 2 * right / this.wide - 1, 1 - 2 * top / this.high];
  }

  get({ key }) {
    const tile = this.tiles.get(key);
    if (tile) {
      this.tiles.delete(key);
      this.tiles.set(key, tile);
    }
    return tile;
  }

  // A tile of an image, {of, options: what `render` takes}, at level z.
  tile(shown, z, i, j) {
    return { key: `${shown.of}/${z}/${i}/${j}`, shown, z, i, j };
  }

  // What is to be rendered, the most urgent first; what was asked for before is forgotten.
  want(tiles) {
    this.wanted = tiles.filter(({ key }) => !this.tiles.has(key) && !this.failed.has(key));
    this.pump();
    this.pump();
  }

  // Renders, one after the other; twice at once, so that none waits for the page.
  async pump() {
    if (this.running >= 2 || !this.wanted.length) return;
    const tile = this.wanted.shift(), side = 2 ** -tile.z, { i, j } = tile;
    this.running++;
    this.failed.add(tile.key); // until it is there: it is not asked for twice
    try {
      const window = this.windowOf(i * side, j * side, (i + 1) * side, (j + 1) * side);
      const job = { window, width: TILE, height: TILE, bytes: true, align: this.aligned };
      const bytes = await this.evaluator.render({ ...job, ...tile.shown.options });
      const canvas = new OffscreenCanvas(TILE, TILE);
      canvas.getContext("2d").putImageData(new ImageData(bytes, TILE, TILE), 0, 0);
      this.tiles.set(tile.key, canvas);
      this.failed.delete(tile.key);
      for (const [key] of this.tiles) {
        if (this.tiles.size <= MOST) break;
        this.tiles.delete(key);
      }
      this.changed(null);
    } catch (error) {
      this.changed(error);
    } finally {
      this.running--;
      this.pump();
    }
  }

  // Tiles of level z of what lies between two corners, from the middle outwards.
  covering(shown, z, left, top, right, bottom) {
    const n = 2 ** z, found = [];
    for (let j = Math.floor(top * n); j < bottom * n; j++) {
      for (let i = Math.floor(left * n); i < right * n; i++) found.push(this.tile(shown, z, i, j));
    }
    const [x, y] = [(left + right) / 2 * n - 0.5, (top + bottom) / 2 * n - 0.5];
    const far = ({ i, j }) => (i - x) ** 2 + (j - y) ** 2;
    return found.sort((a, b) => far(a) - far(b));
  }

  // Draws those tiles of a level that are there. `at`: (x, y) in units -> pixels of the canvas.
  draw(context, tiles, at) {
    for (const tile of tiles) {
      const canvas = this.get(tile), side = 2 ** -tile.z;
      if (!canvas) continue;
      const [x0, y0] = at(tile.i * side, tile.j * side).map(Math.round);
      const [x1, y1] = at((tile.i + 1) * side, (tile.j + 1) * side).map(Math.round);
      context.clearRect(x0, y0, x1 - x0, y1 - y0);
      context.drawImage(canvas, x0, y0, x1 - x0, y1 - y0);
    }
  }
}
