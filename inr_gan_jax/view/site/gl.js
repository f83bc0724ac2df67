// The machine that is WebGL2: features are arrays of float32 textures, four channels to a texel.
//
// A layer is drawn in passes of up to 16 outputs, whose weights are a uniform block: a pass adds up
// all of its inputs in one fragment.

const VERTEX = `#version 300 es
void main() { gl_Position = vec4(gl_VertexID == 1 ? 3. : -1., gl_VertexID == 2 ? 3. : -1., 0., 1.); }`;

// Of `outs` texels of outputs; `room` is the uniform block's size in vectors.
const fragment = (outs, room) => `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
precision highp sampler2DArray;
layout(std140) uniform Weights { vec4 weights[${room}]; };  // inputs x outputs x 4, then the bias
uniform sampler2DArray hidden, embedded, added;
uniform sampler2D columns, rows;  // low, high and weight, and 1 for smooth ones
uniform int hiddens, embeddeds, first, joined;  // joined: 0 nothing, 1 here, 2 the level below
uniform vec2 slopes;
${each(outs, (k) => `layout(location = ${k}) out vec4 out${k};`)}
vec4 sums[${outs}];

void multiply(vec4 v, int at) {
  ${each(outs, (k) => `sums[${k}] += mat4(${[0, 1, 2, 3].map((c) => `weights[at + ${4 * k + c}]`)}) * v;`)}
}

vec4 smoothed(vec4 a, vec4 b, vec4 c, float part) {
  return mix(mix(a, b, (1. + part) / 2.), mix(b, c, part / 2.), part);
}

vec4 along(int layer, vec4 column, int row) {
  ivec2 at = ivec2(column.xy);
  vec4 left = texelFetch(added, ivec3(at.x, row, layer), 0);
  vec4 right = texelFetch(added, ivec3(at.y, row, layer), 0);
  if (column.w == 0.) return mix(left, right, column.z);
  return smoothed(left, texelFetch(added, ivec3(at.x + 1, row, layer), 0), right, column.z);
}

vec4 upsampled(int layer, vec4 column, vec4 row) {
  ivec2 at = ivec2(row.xy);
  vec4 upper = along(layer, column, at.x), lower = along(layer, column, at.y);
  if (row.w == 0.) return mix(upper, lower, row.z);
  return smoothed(upper, along(layer, column, at.x + 1), lower, row.z);
}

vec4 activated(vec4 v) { return mix(v * slopes.y, v * slopes.x, step(0., v)); }

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  int bias = ${4 * outs} * (hiddens + embeddeds);
  for (int k = 0; k < ${outs}; k++) sums[k] = weights[bias + k];
  for (int i = 0; i < hiddens; i++) multiply(texelFetch(hidden, ivec3(at, i), 0), ${4 * outs} * i);
  for (int i = 0; i < embeddeds; i++) {
    multiply(texelFetch(embedded, ivec3(at, i), 0), ${4 * outs} * (hiddens + i));
  }
  if (joined == 1) for (int k = 0; k < ${outs}; k++) sums[k] += texelFetch(added, ivec3(at, first + k), 0);
  if (joined == 2) {
    vec4 column = texelFetch(columns, ivec2(at.x, 0), 0), row = texelFetch(rows, ivec2(at.y, 0), 0);
    for (int k = 0; k < ${outs}; k++) sums[k] += upsampled(first + k, column, row);
  }
  ${each(outs, (k) => `out${k} = activated(sums[${k}]);`)}
}`;

const each = (count, line) => Array.from({ length: count }, (_, k) => line(k)).join("\n  ");
const texels = (channels) => Math.ceil(channels / 4);
const SAMPLERS = ["hidden", "embedded", "added", "columns", "rows"];
const UNIFORMS = ["hiddens", "embeddeds", "first", "joined", "slopes"];

class Gl {
  // Throws an Error that says what is missing; `software`: a GPU that a CPU plays will do, too.
  constructor(software) {
    this.name = "webgl";
    if (typeof OffscreenCanvas === "undefined") throw new Error("there is no OffscreenCanvas");
    const gl = new OffscreenCanvas(1, 1).getContext("webgl2", { powerPreference: "high-performance" });
    if (!gl) throw new Error("there is no WebGL2");
    const { UNMASKED_RENDERER_WEBGL: unmasked } = gl.getExtension("WEBGL_debug_renderer_info") ?? {};
    const played = /swiftshader|llvmpipe|software|basic render/i.test(gl.getParameter(unmasked ?? gl.RENDERER));
    if (played && !software) throw new Error("there is no GPU");
    if (!gl.getExtension("EXT_color_buffer_float")) throw new Error("it cannot draw float32 textures");
    this.gl = gl;
    this.unused = [];
    this.weights = new WeakMap(); // of matrices
    this.joins = new Map(); // of the sides of places
    this.programs = new Map();
    this.most = Math.min(4096, gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE) / 16);
    this.step = Math.max(1, gl.getParameter(gl.UNIFORM_BUFFER_OFFSET_ALIGNMENT) / 16);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
    this.nothing = { flat: this.flat(1, 1, null), array: this.taken(1, 1, 1).texture };
  }

  // The program of so many texels of outputs, whose weights take `needed` vectors.
  program(outs, needed) {
    const { gl } = this, room = needed <= 1024 ? 1024 : this.most, key = `${outs} ${room}`;
    if (this.programs.has(key)) return this.programs.get(key);
    const program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment(outs, room)]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      throw new Error(`its shaders do not compile (${gl.getProgramInfoLog(program)})`);
    }
    gl.useProgram(program);
    SAMPLERS.forEach((name, unit) => gl.uniform1i(gl.getUniformLocation(program, name), unit));
    const at = Object.fromEntries(UNIFORMS.map((name) => [name, gl.getUniformLocation(program, name)]));
    this.programs.set(key, { program, at, room });
    return this.programs.get(key);
  }

  nearest(target) {
    for (const filter of ["TEXTURE_MIN_FILTER", "TEXTURE_MAG_FILTER"]) {
      this.gl.texParameteri(target, this.gl[filter], this.gl.NEAREST);
    }
  }

  flat(width, height, data) {
    const { gl } = this, texture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + SAMPLERS.indexOf("columns"));
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

  // A matrix as a buffer, pass by pass: what an input gives to four outputs is a vector.
  weightsOf(m) {
    if (this.weights.has(m)) return this.weights.get(m);
    const { gl } = this, before = texels(m.hidden), inputs = before + texels(m.embedded), all = texels(m.outputs);
    const needed = (outs) => (4 * inputs + 1) * outs;
    const outs = [4, 2, 1].find((n) => n < 2 * all && needed(n) <= this.most);
    if (!outs) throw new Error(`${4 * inputs} inputs of a layer are too many for it`);
    const { program, at, room } = this.program(outs, needed(outs));
    const stride = Math.ceil(needed(outs) / this.step) * this.step, passes = Math.ceil(all / outs);
    const data = new Float32Array(4 * ((passes - 1) * stride + room)); // the last has all its room, too
    for (let o = 0; o < m.outputs; o++) {
      const texel = o >> 2, start = Math.floor(texel / outs) * stride, k = texel % outs, row = o * m.stride + m.from;
      const put = (input, channel, value) => {
        data[4 * (start + (input * outs + k) * 4 + channel) + (o & 3)] = value;
      };
      for (let i = 0; i < m.hidden; i++) put(i >> 2, i & 3, m.weight[row + i]);
      for (let i = 0; i < m.embedded; i++) put(before + (i >> 2), i & 3, m.weight[row + m.hidden + i]);
      if (m.bias) data[4 * (start + 4 * inputs * outs + k) + (o & 3)] = m.bias[o];
    }
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.UNIFORM_BUFFER, buffer);
    gl.bufferData(gl.UNIFORM_BUFFER, data, gl.STATIC_DRAW);
    const made = { buffer, program, at, outs, stride: 16 * stride, size: 16 * room };
    this.weights.set(m, made);
    return made;
  }

  // Forgets a network's weights.
  dropped(network) {
    const matrices = network.blocks.flatMap((block) =>
      [...block.layers.flatMap((layer) => [layer.whole, layer.below, layer.here]), block.skip, block.rgb]);
    for (const m of [network.carry, ...matrices]) {
      if (m && this.weights.has(m)) this.gl.deleteBuffer(this.weights.get(m).buffer);
      if (m) this.weights.delete(m);
    }
  }

  // What the shader reads of a side's parents; kept until the picture is read.
  parents(side) {
    if (!this.joins.has(side)) {
      const { low, high, weight, smooth } = side.parent;
      const data = Float32Array.from(low.flatMap((v, k) => [v, high[k], weight[k], smooth ? 1 : 0]));
      this.joins.set(side, this.flat(low.length, 1, data));
    }
    return this.joins.get(side);
  }

  layer(place, { matrix: m, hidden, embedded, added, grows, activation = "none", gain = 1 }) {
    const { gl } = this, [w, h] = sizeOf(place), out = this.taken(w, h, m.outputs), all = texels(m.outputs);
    const { buffer, program, at, outs, stride, size } = this.weightsOf(m);
    const upsamples = added && grows, { flat } = this.nothing;
    const joins = [place.columns, place.rows].map((side) => (upsamples ? this.parents(side) : flat));
    const arrays = [hidden, embedded, added].map((one) => one?.texture ?? this.nothing.array);
    arrays.forEach((texture, unit) => this.bound(unit, gl.TEXTURE_2D_ARRAY, texture));
    joins.forEach((texture, k) => this.bound(3 + k, gl.TEXTURE_2D, texture));
    gl.useProgram(program);
    gl.uniform1i(at.hiddens, texels(m.hidden));
    gl.uniform1i(at.embeddeds, texels(m.embedded));
    gl.uniform1i(at.joined, added ? (grows ? 2 : 1) : 0);
    gl.uniform2f(at.slopes, ...SLOPES[activation].map((slope) => slope * gain));
    gl.viewport(0, 0, w, h);
    for (let first = 0; first < all; first += outs) {
      const buffers = [0, 1, 2, 3].map((k) => {
        const to = gl.COLOR_ATTACHMENT0 + k, drawn = k < outs && first + k < all;
        gl.framebufferTextureLayer(gl.FRAMEBUFFER, to, drawn ? out.texture : null, 0, drawn ? first + k : 0);
        return drawn ? to : gl.NONE;
      });
      gl.drawBuffers(buffers.slice(0, outs));
      gl.bindBufferRange(gl.UNIFORM_BUFFER, 0, buffer, (first / outs) * stride, size);
      gl.uniform1i(at.first, first);
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
