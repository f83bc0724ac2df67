// The walk through a network, once for all machines, and the machine that is the CPU.
//
// A machine holds features and has: embed, layer, free, read. A place is a level's rows and columns.

const SLOPES = { lrelu: [Math.SQRT2, 0.2 * Math.SQRT2], relu: [1, 0], none: [1, 1] };

// RGB planes of the last level's positions, as `machine` keeps features, and its place.
function walk(network, plan, machine) {
  const { activation } = network.spec, last = network.spec.levels.length - 1;
  let h = null, rgb = null, below = null, place = null;
  for (const block of network.blocks) {
    if (block.grows) below = place;
    place = { rows: plan.rows.levels[block.level], columns: plan.columns.levels[block.level] };
    const weakened = network.spec.frame === "nodes" && block.level === last;
    const footprint = weakened ? [plan.columns.footprint, plan.rows.footprint] : null;
    const e = block.embedding && machine.embed(block.embedding, place, footprint);
    const entered = h;
    for (const layer of block.layers) {
      let next;
      if (layer.below) {
        const product = machine.layer(below, { matrix: layer.below, hidden: h });
        const joined = { added: product, grows: true, activation };
        next = machine.layer(place, { matrix: layer.here, embedded: e, ...joined });
        machine.free(product);
      } else {
        next = machine.layer(place, { matrix: layer.whole, hidden: h, embedded: e, activation });
      }
      if (h !== entered) machine.free(h);
      h = next;
    }
    if (block.skip) {
      const next = machine.layer(place, { matrix: block.skip, hidden: entered, added: h, gain: Math.SQRT1_2 });
      machine.free(h);
      h = next;
    }
    machine.free(entered);
    machine.free(e);
    if (block.rgb || (rgb && block.grows)) {
      const emits = block.rgb ?? network.carry;
      const next = machine.layer(place, { matrix: emits, hidden: h, added: rgb, grows: block.grows });
      machine.free(rgb);
      rgb = next;
    }
  }
  machine.free(h);
  return { rgb, place };
}

// Pixels [height, width, channels] of the planes of a last level.
function shown(network, plan, planes, place) {
  const { channels, spec } = network, w = place.columns.coordinate.length;
  const n = w * place.rows.coordinate.length, { rows, columns } = plan;
  const pixels = new Float32Array(rows.shown.length * columns.shown.length * channels);
  let k = 0;
  for (const row of rows.shown) {
    for (const column of columns.shown) {
      for (let c = 0; c < channels; c++) pixels[k++] = planes[c * n + row * w + column];
    }
  }
  return spec.output === "tanh" ? pixels.map(Math.tanh) : pixels;
}

// Features of a place, into `out`: channel c of position k at start(c) + step * k.
//
// Phases are those of columns plus those of rows, sin(a + b) = sin a cos b + cos a sin b: sines are
// taken of float64, along the two sides alone.
function embedInto(out, start, step, { basis, shift, amplitudes, raw, cosine, table }, place, footprint) {
  const x = place.columns.coordinate, y = place.rows.coordinate, w = x.length;
  let channel = 0;
  const fill = (value) => {
    const first = start(channel++);
    for (let r = 0, k = first; r < y.length; r++) for (let c = 0; c < w; c++, k += step) out[k] = value(r, c);
  };
  if (raw) {
    fill((_, c) => x[c]);
    fill((r) => y[r]);
  }
  const phases = basis.length / 2, first = channel;
  const of = (at, direction, moved) => at.map((v) => direction * v + moved);
  for (let f = 0; f < phases; f++) {
    const [bx, by] = [basis[2 * f], basis[2 * f + 1]];
    let kept = amplitudes ? amplitudes[f] : 1;
    if (footprint) kept *= Math.exp(-((bx * footprint[0]) ** 2 + (by * footprint[1]) ** 2) / 24);
    const a = of(x, bx, 0), b = of(y, by, shift[f]);
    const sa = Float64Array.from(a, Math.sin), ca = Float64Array.from(a, Math.cos);
    for (let r = 0; r < y.length; r++) {
      const sb = kept * Math.sin(b[r]), cb = kept * Math.cos(b[r]);
      let k = start(first + f) + step * r * w;
      for (let c = 0; c < w; c++, k += step) out[k] = sa[c] * cb + ca[c] * sb;
      if (!cosine) continue;
      k = start(first + phases + f) + step * r * w;
      for (let c = 0; c < w; c++, k += step) out[k] = ca[c] * cb - sa[c] * sb;
    }
  }
  channel += phases * (cosine ? 2 : 1);
  if (!table) return;
  const [channels, high, wide] = table.shape, { rows, columns } = place;
  for (let t = 0; t < channels; t++) {
    const of_t = table.data.subarray(t * high * wide, (t + 1) * high * wide);
    const along = (row, c) => mixed(of_t[row * wide + columns.table.low[c]],
                                    of_t[row * wide + columns.table.high[c]], columns.table.weight[c]);
    fill((r, c) => mixed(along(rows.table.low[r], c), along(rows.table.high[r], c), rows.table.weight[r]));
  }
}

const mixed = (a, b, weight) => a + weight * (b - a);

function featuresOf({ basis, raw, cosine, table }) {
  return (raw ? 2 : 0) + (basis.length / 2) * (cosine ? 2 : 1) + (table ? table.shape[0] : 0);
}

const sizeOf = (place) => [place.columns.coordinate.length, place.rows.coordinate.length];

// Features are planes of all positions, one after the other; the work is cut to fit a cache.
class Cpu {
  constructor() {
    this.name = "cpu";
  }

  embed(embedding, place, footprint) {
    const [w, h] = sizeOf(place), out = new Float32Array(featuresOf(embedding) * w * h);
    embedInto(out, (c) => c * w * h, 1, embedding, place, footprint);
    return out;
  }

  layer(place, { matrix: m, hidden, embedded, added, grows, activation = "none", gain = 1 }) {
    const [w, h] = sizeOf(place), n = w * h, out = new Float32Array(m.outputs * n), CHUNK = 1024;
    for (let from = 0; from < n; from += CHUNK) {
      const to = Math.min(from + CHUNK, n);
      for (let o = 0; o < m.outputs; o++) {
        const sums = out.subarray(o * n + from, o * n + to);
        if (m.bias) sums.fill(m.bias[o]);
        const row = o * m.stride + m.from;
        if (m.hidden) accumulate(sums, m.weight, row, hidden, m.hidden, from, n);
        if (m.embedded) accumulate(sums, m.weight, row + m.hidden, embedded, m.embedded, from, n);
      }
    }
    if (added && grows) addUpsampled(out, added, m.outputs, place);
    else if (added) for (let k = 0; k < out.length; k++) out[k] += added[k];
    const [above, under] = SLOPES[activation].map((slope) => slope * gain);
    if (above !== 1 || under !== 1) for (let k = 0; k < out.length; k++) out[k] *= out[k] >= 0 ? above : under;
    return out;
  }

  free() {}

  async read(rgb) {
    return rgb;
  }
}

// sums += `count` weights from `row` on, times as many planes; four at a time.
function accumulate(sums, weight, row, planes, count, from, n) {
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const w0 = weight[row + i], w1 = weight[row + i + 1], w2 = weight[row + i + 2], w3 = weight[row + i + 3];
    const p0 = i * n + from, p1 = p0 + n, p2 = p1 + n, p3 = p2 + n;
    for (let k = 0; k < sums.length; k++) {
      sums[k] += w0 * planes[p0 + k] + w1 * planes[p1 + k] + w2 * planes[p2 + k] + w3 * planes[p3 + k];
    }
  }
  for (; i < count; i++) {
    const w0 = weight[row + i], p0 = i * n + from;
    for (let k = 0; k < sums.length; k++) sums[k] += w0 * planes[p0 + k];
  }
}

// out += planes of the level below, read at a place's parents.
function addUpsampled(out, planes, channels, { rows, columns }) {
  const w = columns.coordinate.length, h = rows.coordinate.length, r = rows.parent, c = columns.parent;
  const size = planes.length / channels, wide = 1 + Math.max(...c.low, ...c.high);
  for (let channel = 0, k = 0; channel < channels; channel++) {
    const plane = planes.subarray(channel * size, (channel + 1) * size);
    for (let y = 0; y < h; y++) {
      const upper = r.low[y] * wide, lower = r.high[y] * wide;
      for (let x = 0; x < w; x++, k++) {
        const left = c.low[x], right = c.high[x], part = c.weight[x];
        out[k] += mixed(mixed(plane[upper + left], plane[upper + right], part),
                        mixed(plane[lower + left], plane[lower + right], part), r.weight[y]);
      }
    }
  }
}
