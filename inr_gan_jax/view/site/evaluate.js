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
const smoothed = (a, b, c, part) => mixed(mixed(a, b, (1 + part) / 2), mixed(b, c, part / 2), part);

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
    const [w, h] = sizeOf(place), n = w * h, out = new Float32Array(m.outputs * n), CHUNK = 256;
    if (m.bias) for (let o = 0; o < m.outputs; o++) out.fill(m.bias[o], o * n, (o + 1) * n);
    for (let from = 0; from < n; from += CHUNK) {
      const to = Math.min(from + CHUNK, n);
      accumulate(out, m, m.from, hidden, m.hidden, from, to, n);
      accumulate(out, m, m.from + m.hidden, embedded, m.embedded, from, to, n);
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

// out += a matrix's columns from `first` on times `count` planes, at positions `from` to `to` of n.
//
// Four outputs of four inputs at a time: numbers are converted to float64 and back, each a quarter
// as often.
function accumulate(out, { weight, stride, outputs }, first, planes, count, from, to, n) {
  const fours = outputs - (outputs % 4), even = count - (count % 4);
  for (let o = 0; o < fours; o += 4) {
    const q0 = o * n, q1 = q0 + n, q2 = q1 + n, q3 = q2 + n;
    for (let i = 0; i < even; i += 4) {
      const p0 = i * n, p1 = p0 + n, p2 = p1 + n, p3 = p2 + n;
      const a = o * stride + first + i, b = a + stride, c = b + stride, d = c + stride;
      const a0 = weight[a], a1 = weight[a + 1], a2 = weight[a + 2], a3 = weight[a + 3];
      const b0 = weight[b], b1 = weight[b + 1], b2 = weight[b + 2], b3 = weight[b + 3];
      const c0 = weight[c], c1 = weight[c + 1], c2 = weight[c + 2], c3 = weight[c + 3];
      const d0 = weight[d], d1 = weight[d + 1], d2 = weight[d + 2], d3 = weight[d + 3];
      for (let k = from; k < to; k++) {
        const v0 = planes[p0 + k], v1 = planes[p1 + k], v2 = planes[p2 + k], v3 = planes[p3 + k];
        out[q0 + k] += a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3;
        out[q1 + k] += b0 * v0 + b1 * v1 + b2 * v2 + b3 * v3;
        out[q2 + k] += c0 * v0 + c1 * v1 + c2 * v2 + c3 * v3;
        out[q3 + k] += d0 * v0 + d1 * v1 + d2 * v2 + d3 * v3;
      }
    }
  }
  for (let o = 0; o < outputs; o++) { // what is left of both
    for (let i = o < fours ? even : 0; i < count; i++) {
      const w = weight[o * stride + first + i], q = o * n, p = i * n;
      for (let k = from; k < to; k++) out[q + k] += w * planes[p + k];
    }
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
        const along = (row) => (c.smooth
          ? smoothed(plane[row + left], plane[row + left + 1], plane[row + right], part)
          : mixed(plane[row + left], plane[row + right], part));
        out[k] += r.smooth ? smoothed(along(upper), along(upper + wide), along(lower), r.weight[y])
          : mixed(along(upper), along(lower), r.weight[y]);
      }
    }
  }
}
