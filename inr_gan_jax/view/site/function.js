// What an .inr file holds, and of it the network of one image: its effective weights, in float32.

function readFunctions(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { spec } = JSON.parse(header.__metadata__.inr_gan_jax);
  delete header.__metadata__;
  const tensors = new Map();
  for (const [name, { shape, data_offsets: [begin, end] }] of Object.entries(header)) {
    tensors.set(name, { shape, data: new Float32Array(buffer, 8 + length + begin, (end - begin) / 4) });
  }
  const sizes = [...new Set(spec.blocks.map((block) => String(block.size)))];
  spec.levels = sizes.map((size) => size.split(",").map(Number)); // coarse to fine
  return { spec, tensors };
}

// A leaf that images share, or that of image `index`; null where there is none.
function leafOf({ tensors }, name, index) {
  const shared = tensors.get(`shared/${name}`), own = tensors.get(`image/${name}`);
  if (own) {
    const shape = own.shape.slice(1), size = shape.reduce((a, b) => a * b, 1);
    return { shape, data: own.data.subarray(index * size, (index + 1) * size) };
  }
  return shared ?? null;
}

const sigmoid = (v) => 1 / (1 + Math.exp(-v));
const FACTORS = { // of a shared weight, from the product of the image's two thin matrices
  fmm_demod: (v) => v + 1,
  fmm_tanh: (v) => Math.tanh(v) + 1,
  fmm_sigmoid: (v) => sigmoid(v) + 0.5,
  fmm_paper: (v) => 2 * sigmoid(v),
};

// The weight [outputs, inputs] of one matrix (models/modulation.py).
function effectiveWeight(kind, outputs, inputs, leaf) {
  const weight = leaf("weight").data;
  if (kind === "full") return weight;
  const made = new Float32Array(outputs * inputs);
  if (kind.startsWith("style")) {
    const style = leaf("style").data;
    for (let k = 0; k < made.length; k++) made[k] = weight[k] * style[k % inputs];
  } else {
    const a = leaf("a").data, b = leaf("b").data, rank = a.length / outputs;
    const gain = kind === "fmm_paper" ? 1 : 1 / Math.sqrt(rank), factor = FACTORS[kind];
    const row = new Float64Array(inputs);
    for (let o = 0; o < outputs; o++) {
      row.fill(0);
      for (let k = 0; k < rank; k++) {
        const of = a[o * rank + k] * gain;
        for (let i = 0; i < inputs; i++) row[i] += of * b[k * inputs + i];
      }
      for (let i = 0; i < inputs; i++) made[o * inputs + i] = weight[o * inputs + i] * factor(row[i]);
    }
  }
  if (!kind.endsWith("_demod")) return made;
  for (let o = 0; o < outputs; o++) {
    const row = made.subarray(o * inputs, (o + 1) * inputs);
    let sum = 0;
    for (const w of row) sum += w * w;
    const by = kind === "style_demod" ? 1 / Math.sqrt(sum + 1e-8) : 1 / (Math.sqrt(sum) + 1e-8);
    for (let i = 0; i < inputs; i++) row[i] *= by;
  }
  return made;
}

// A matrix of `hidden` and `embedded` columns, a part of one whose rows are `stride` long.
const matrix = (weight, outputs, stride, from, hidden, embedded, bias) =>
  ({ weight, outputs, stride, from, hidden, embedded, bias });

function layerOf(file, index, block, layer, splits) {
  const parts = layer.joint ? { w: layer.h + layer.e } : { h: layer.h, e: layer.e };
  const { outputs, h, e } = layer, inputs = h + e, bias = new Float32Array(outputs);
  const whole = new Float32Array(outputs * inputs);
  let first = 0;
  for (const [part, count] of Object.entries(parts)) {
    const leaf = (name) => leafOf(file, `${block.name}/${layer.name}/${part}/${name}`, index);
    const made = effectiveWeight(layer.modulation, outputs, count, leaf);
    for (let o = 0; o < outputs; o++) {
      whole.set(made.subarray(o * count, (o + 1) * count), o * inputs + first);
      bias[o] += leaf("bias").data[o];
    }
    first += count;
  }
  if (!splits || !h) return { whole: matrix(whole, outputs, inputs, 0, h, e, bias) };
  return { // the features' part multiplies on the grid below
    below: matrix(whole, outputs, inputs, 0, h, 0, null),
    here: matrix(whole, outputs, inputs, h, 0, e, bias),
  };
}

function identity(n) {
  return Float32Array.from({ length: n * n }, (_, k) => (k % (n + 1) === 0 ? 1 : 0));
}

// Directions [n, 2] in the order of models/fourier.py, phases' shifts, amplitudes and the table.
function embeddingOf(file, index, block, { directions, amplitudes }) {
  const leaf = (name) => leafOf(file, `${block.name}/embedding/${name}`, index)?.data ?? [];
  const parts = [directions, leaf("random"), leaf("shared"), leaf("basis")];
  const basis = Float64Array.from(parts.flatMap((part) => Array.from(part)));
  const shift = new Float64Array(basis.length / 2), own = leaf("phase");
  shift.set(leaf("shift"), (directions.length + leaf("random").length) / 2);
  shift.set(Array.from(own, (v, k) => v + shift[shift.length - own.length + k]), shift.length - own.length);
  const { raw, cosine } = block.embedding;
  return { basis, shift, amplitudes, raw, cosine, table: leafOf(file, `${block.name}/embedding/table`) };
}

// `waves`: {block: {directions, amplitudes}} of the log directions, as Python has them.
function networkOf(file, waves, index) {
  const { spec } = file;
  let width = 0; // of the features that enter a block
  const blocks = spec.blocks.map((block) => {
    const grows = block.upsample > 1, entering = width;
    const layers = block.layers.map((layer, k) => layerOf(file, index, block, layer, k === 0 && grows));
    width = block.layers.at(-1).outputs;
    let skip = null;
    if (block.residual) {
      const weight = leafOf(file, `${block.name}/skip/weight`)?.data ?? identity(width);
      skip = matrix(weight, width, entering, 0, entering, 0, null);
    }
    return {
      grows, layers, skip,
      level: spec.levels.findIndex((size) => String(size) === String(block.size)),
      embedding: block.embedding && embeddingOf(file, index, block, waves[block.name]),
      rgb: block.rgb && layerOf(file, index, block, block.rgb, false).whole,
    };
  });
  const channels = spec.blocks.find((block) => block.rgb).rgb.outputs;
  return { spec, blocks, channels, carry: matrix(new Float32Array(0), channels, 0, 0, 0, 0, null) };
}

// The network a part t of the way from a to b: linear in effective weights, biases and directions.
function networkBetween(a, b, t) {
  if (a === b || a === null || typeof a !== "object") return a;
  if (ArrayBuffer.isView(a)) return a.map((v, k) => (1 - t) * v + t * b[k]);
  if (Array.isArray(a)) return a.map((v, k) => networkBetween(v, b[k], t));
  return Object.fromEntries(Object.keys(a).map((key) => [key, networkBetween(a[key], b[key], t)]));
}
