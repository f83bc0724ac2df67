// The worker: answers requests for pixels, one after the other.

const KEPT = 2 ** 28; // bytes of networks that are kept ready

let file, waves, machine, note = "";
const networks = new Map(); // by key; the last used is the last

function bytesOf(network) {
  const matrices = network.blocks.flatMap(({ layers }) => layers.map((layer) => layer.whole ?? layer.here));
  return 8 * matrices.reduce((sum, { weight }) => sum + weight.length, 0);
}

// A function's number, or {from, to, t}: the one between two.
function networkFor(image) {
  const key = JSON.stringify(image);
  let network = networks.get(key);
  if (!network) {
    const between = typeof image === "object";
    network = between
      ? networkBetween(networkFor(image.from), networkFor(image.to), image.t)
      : networkOf(file, waves, image);
    const most = Math.max(3, Math.floor(KEPT / bytesOf(network)));
    for (const [old, dropped] of networks) {
      if (networks.size < most) break;
      machine.dropped?.(dropped);
      networks.delete(old);
    }
  }
  networks.delete(key);
  networks.set(key, network);
  return network;
}

async function pixelsOf(by, network, job) {
  const plan = planOf(network, job);
  const { rgb, place } = walk(network, plan, by);
  try {
    return shown(network, plan, await by.read(rgb, place, network.channels), place);
  } finally {
    by.free(rgb);
  }
}

// Floats [height, width, channels], or with `bytes` RGBA of 8 bits.
async function rendered(job) {
  const network = networkFor(job.image);
  let pixels;
  try {
    pixels = await pixelsOf(machine, network, job);
  } catch (error) {
    if (machine instanceof Cpu) throw error;
    turnToCpu(error);
    pixels = await pixelsOf(machine, network, job);
  }
  return job.bytes ? bytesOfPixels(pixels, network.channels) : pixels;
}

function bytesOfPixels(pixels, channels) {
  const count = pixels.length / channels, bytes = new Uint8ClampedArray(4 * count).fill(255);
  for (let k = 0; k < count; k++) {
    for (let c = 0; c < Math.max(channels, 3); c++) {
      bytes[4 * k + c] = pixels[k * channels + (channels === 1 ? 0 : c)] * 127.5 + 127.5;
    }
  }
  return bytes;
}

function turnToCpu(error) {
  note = `WebGL is not used: ${error.message}`;
  machine = new Cpu();
}

// WebGL, if it is there and says what the CPU says: some drivers round more than they may.
async function started({ data, waves: given, machine: wanted }) {
  const text = atob(data), bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  file = readFunctions(bytes.buffer);
  waves = given;
  machine = new Cpu();
  if (wanted === "cpu") return;
  try {
    const gl = new Gl(wanted === "webgl"), network = networkFor(0);
    const job = { window: [0.3, 0.3, 0.31, 0.31], width: 4, height: 4 };
    const expected = await pixelsOf(machine, network, job), got = await pixelsOf(gl, network, job);
    const worst = Math.max(...got.map((v, k) => Math.abs(v - expected[k]) / Math.max(1, Math.abs(expected[k]))));
    if (!(worst < 1e-3)) throw new Error(`its colours are off by ${worst.toPrecision(2)}`);
    machine = gl;
  } catch (error) {
    turnToCpu(error);
  }
}

let last = Promise.resolve();
self.onmessage = ({ data: job }) => {
  last = last.then(async () => {
    try {
      const result = job.data ? await started(job) : await rendered(job);
      const about = { id: job.id, machine: machine.name, note };
      self.postMessage({ ...about, result }, result ? [result.buffer] : []);
    } catch (error) {
      self.postMessage({ id: job.id, error: error.message });
    }
  });
};
