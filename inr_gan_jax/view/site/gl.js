// The machine that is WebGL2: features are arrays of float32 textures, four channels to a texel.
//
// A layer is drawn in passes of 16 outputs; all of its inputs are added up in one fragment.

const VERTEX = `#version 300 es
void main() { gl_Position = vec4(gl_VertexID == 1 ? 3. : -1., gl_VertexID == 2 ? 3. : -1., 0., 1.); }`;

const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
precision highp sampler2DArray;
uniform sampler2DArray hidden, embedded, added;
uniform sampler2D weights, columns, rows;  // of a row: inputs, then the bias; low, high and weight
uniform int hiddens, embeddeds, first, joined;  // joined: 0 nothing, 1 here, 2 the level below
uniform vec2 slopes;
layout(location = 0) out vec4 out0;
layout(location = 1) out vec4 out1;
layout(location = 2) out vec4 out2;
layout(location = 3) out vec4 out3;
vec4 sums[4];

void multiply(vec4 v, int column) {
  for (int k = 0; k < 4; k++) {
    sums[k] += mat4(texelFetch(weights, ivec2(column, first + k), 0),
                    texelFetch(weights, ivec2(column + 1, first + k), 0),
                    texelFetch(weights, ivec2(column + 2, first + k), 0),
                    texelFetch(weights, ivec2(column + 3, first + k), 0)) * v;
  }
}

vec4 upsampled(int layer, vec4 column, vec4 row) {
  ivec2 low = ivec2(column.x, row.x), high = ivec2(column.y, row.y);
  vec4 upper = mix(texelFetch(added, ivec3(low.x, low.y, layer), 0),
                   texelFetch(added, ivec3(high.x, low.y, layer), 0), column.z);
  vec4 lower = mix(texelFetch(added, ivec3(low.x, high.y, layer), 0),
                   texelFetch(added, ivec3(high, layer), 0), column.z);
  return mix(upper, lower, row.z);
}

vec4 activated(vec4 v) { return mix(v * slopes.y, v * slopes.x, step(0., v)); }

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  int bias = 4 * (hiddens + embeddeds);
  for (int k = 0; k < 4; k++) sums[k] = texelFetch(weights, ivec2(bias, first + k), 0);
  for (int i = 0; i < hiddens; i++) multiply(texelFetch(hidden, ivec3(at, i), 0), 4 * i);
  for (int i = 0; i < embeddeds; i++) {
    multiply(texelFetch(embedded, ivec3(at, i), 0), 4 * (hiddens + i));
  }
  if (joined == 1) for (int k = 0; k < 4; k++) sums[k] += texelFetch(added, ivec3(at, first + k), 0);
  if (joined == 2) {
    vec4 column = texelFetch(columns, ivec2(at.x, 0), 0), row = texelFetch(rows, ivec2(at.y, 0), 0);
    for (int k = 0; k < 4; k++) sums[k] += upsampled(first + k, column, row);
  }
  out0 = activated(sums[0]);
  out1 = activated(sums[1]);
  out2 = activated(sums[2]);
  out3 = activated(sums[3]);
}`;

const texels = (channels) => Math.ceil(channels / 4);
const SAMPLERS = ["hidden", "embedded", "added", "weights", "columns", "rows"];

class Gl {
  // Throws an Error that says what is missing.
  constructor() {
    this.name = "webgl";
    if (typeof OffscreenCanvas === "undefined") throw new Error("there is no OffscreenCanvas");
    const gl = new OffscreenCanvas(1, 1).getContext("webgl2", { powerPreference: "high-performance" });
    if (!gl) throw new Error("there is no WebGL2");
    if (!gl.getExtension("EXT_color_buffer_float")) throw new Error("it cannot draw float32 textures");
    this.gl = gl;
    this.unused = [];
    this.weights = new WeakMap(); // of matrices
    this.joins = new Map(); // of the sides of places
    this.program = this.compiled();
    gl.useProgram(this.program);
    this.at = {};
    for (const name of ["hiddens", "embeddeds", "first", "joined", "slopes"]) {
      this.at[name] = gl.getUniformLocation(this.program, name);
    }
    SAMPLERS.forEach((name, unit) => gl.uniform1i(gl.getUniformLocation(this.program, name), unit));
    gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
    this.nothing = { flat: this.flat(1, 1, null), array: this.taken(1, 1, 1).texture };
  }

  compiled() {
    const { gl } = this, program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      throw new Error(`its shaders do not compile (${gl.getProgramInfoLog(program)})`);
    }
    return program;
  }

  nearest(target) {
    for (const filter of ["TEXTURE_MIN_FILTER", "TEXTURE_MAG_FILTER"]) {
      this.gl.texParameteri(target, this.gl[filter], this.gl.NEAREST);
    }
  }

  flat(width, height, data) {
    const { gl } = this, texture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + SAMPLERS.indexOf("weights"));
    gl.bindTexture(gl.TEXTURE_2D, texture);
    this.nearest(gl.TEXTURE_2D);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, width, height, 0, gl.RGBA, gl.FLOAT, data);
    return texture;
  }

  // Features for `channels` at width x height: a texture that is free, or a new one.
  taken(width, height, channels) {
    const { gl } = this, layers = texels(channels);
    const fits = (one) => one.width >= width && one.height >= height && one.layers >= layers;
    const found = this.unused.findIndex(fits);
    if (found >= 0) return this.unused.splice(found, 1)[0];
    for (const { texture } of this.unused.splice(3)) gl.deleteTexture(texture);
    const up = (n, by) => Math.ceil(n / by) * by;
    const one = { texture: gl.createTexture(), width: up(width, 32), height: up(height, 32), layers: up(layers, 4) };
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, one.texture);
    this.nearest(gl.TEXTURE_2D_ARRAY);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl.RGBA32F, one.width, one.height, one.layers);
    return one;
  }

  free(features) {
    if (features) this.unused.push(features);
  }

  embed(embedding, place, footprint) {
    const { gl } = this, [w, h] = sizeOf(place), channels = featuresOf(embedding);
    const data = new Float32Array(texels(channels) * w * h * 4), features = this.taken(w, h, channels);
    embedInto(data, (c) => (c >> 2) * w * h * 4 + (c & 3), 4, embedding, place, footprint);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, features.texture);
    gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, 0, w, h, texels(channels), gl.RGBA, gl.FLOAT, data);
    return features;
  }

  // A matrix as a texture: texel (j, o) holds what input j gives to outputs 4 o to 4 o + 3.
  weightsOf(m) {
    if (this.weights.has(m)) return this.weights.get(m);
    const before = 4 * texels(m.hidden), bias = before + 4 * texels(m.embedded), width = bias + 1;
    const data = new Float32Array(4 * texels(m.outputs) * width);
    for (let o = 0; o < m.outputs; o++) {
      const put = (column, value) => { data[4 * ((o >> 2) * width + column) + (o & 3)] = value; };
      const row = o * m.stride + m.from;
      for (let i = 0; i < m.hidden; i++) put(i, m.weight[row + i]);
      for (let i = 0; i < m.embedded; i++) put(before + i, m.weight[row + m.hidden + i]);
      if (m.bias) put(bias, m.bias[o]);
    }
    const texture = this.flat(width, texels(m.outputs), data);
    this.weights.set(m, texture);
    return texture;
  }

  // Forgets a network's textures.
  dropped(network) {
    const matrices = network.blocks.flatMap((block) =>
      [...block.layers.flatMap((layer) => [layer.whole, layer.below, layer.here]), block.skip, block.rgb]);
    for (const m of [network.carry, ...matrices]) {
      if (m && this.weights.has(m)) this.gl.deleteTexture(this.weights.get(m));
      if (m) this.weights.delete(m);
    }
  }

  // Low, high and weight of a side's parents; kept until the picture is read.
  parents(side) {
    if (!this.joins.has(side)) {
      const { low, high, weight } = side.parent;
      const data = Float32Array.from(low.flatMap((v, k) => [v, high[k], weight[k], 0]));
      this.joins.set(side, this.flat(low.length, 1, data));
    }
    return this.joins.get(side);
  }

  layer(place, { matrix: m, hidden, embedded, added, grows, activation = "none", gain = 1 }) {
    const { gl } = this, [w, h] = sizeOf(place), out = this.taken(w, h, m.outputs), all = texels(m.outputs);
    const weights = this.weightsOf(m);
    const upsamples = added && grows, { flat } = this.nothing;
    const joins = [place.columns, place.rows].map((side) => (upsamples ? this.parents(side) : flat));
    const arrays = [hidden, embedded, added].map((one) => one?.texture ?? this.nothing.array);
    arrays.forEach((texture, unit) => this.bound(unit, gl.TEXTURE_2D_ARRAY, texture));
    [weights, ...joins].forEach((texture, k) => this.bound(3 + k, gl.TEXTURE_2D, texture));
    gl.uniform1i(this.at.hiddens, texels(m.hidden));
    gl.uniform1i(this.at.embeddeds, texels(m.embedded));
    gl.uniform1i(this.at.joined, added ? (grows ? 2 : 1) : 0);
    gl.uniform2f(this.at.slopes, ...SLOPES[activation].map((slope) => slope * gain));
    gl.viewport(0, 0, w, h);
    for (let first = 0; first < all; first += 4) {
      const buffers = [0, 1, 2, 3].map((k) => {
        const to = gl.COLOR_ATTACHMENT0 + k, drawn = first + k < all;
        gl.framebufferTextureLayer(gl.FRAMEBUFFER, to, drawn ? out.texture : null, 0, drawn ? first + k : 0);
        return drawn ? to : gl.NONE;
      });
      gl.drawBuffers(buffers);
      gl.uniform1i(this.at.first, first);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    }
    return out;
  }

  bound(unit, target, texture) {
    this.gl.activeTexture(this.gl.TEXTURE0 + unit);
    this.gl.bindTexture(target, texture);
  }

  // Planes of RGB; waits for the GPU without blocking it.
  async read(rgb, place, channels) {
    const { gl } = this, [w, h] = sizeOf(place), n = w * h, buffer = gl.createBuffer();
    gl.framebufferTextureLayer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, rgb.texture, 0, 0);
    for (const k of [1, 2, 3]) gl.framebufferTextureLayer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + k, null, 0, 0);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, buffer);
    gl.bufferData(gl.PIXEL_PACK_BUFFER, n * 16, gl.STREAM_READ);
    gl.readPixels(0, 0, w, h, gl.RGBA, gl.FLOAT, 0);
    const fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    while (gl.clientWaitSync(fence, 0, 0) === gl.TIMEOUT_EXPIRED) await new Promise((go) => setTimeout(go, 1));
    gl.deleteSync(fence);
    const texelsOf = new Float32Array(n * 4), planes = new Float32Array(n * channels);
    gl.getBufferSubData(gl.PIXEL_PACK_BUFFER, 0, texelsOf);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
    gl.deleteBuffer(buffer);
    for (const texture of this.joins.values()) gl.deleteTexture(texture);
    this.joins.clear();
    for (let k = 0; k < n; k++) for (let c = 0; c < channels; c++) planes[c * n + k] = texelsOf[4 * k + c];
    if (gl.isContextLost() || gl.getError() !== gl.NO_ERROR) throw new Error("it stopped");
    return planes;
  }
}
