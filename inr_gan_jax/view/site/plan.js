// Which positions of which level the pixels of a window need, axis by axis (render/plan.py).

const EDGE = 1e-6; // of a snapping cell: a float64 this far below an edge lies on it

const floorOf = (value) => Math.floor(value + EDGE);
const snapped = (unit, n, fineness) =>
  Number.isFinite(fineness) ? floorOf(unit * n * fineness) / fineness : unit * n;

// Pixels -> 0 to 1 within the frame; rows are given from the top and counted from the bottom.
function unitsOf({ low, high, total, align }, rows) {
  return Array.from({ length: total }, (_, k) => {
    const pixel = rows ? total - 1 - k : k;
    let at = (pixel + (align === "center" ? 0.5 : 0)) / total;
    if (align === "corners") at = total > 1 ? pixel / (total - 1) : 0.5;
    return (low + (high - low) * at + 1) / 2;
  });
}

// Every point takes, at each level, the features of the cell that it lies in.
function joinNearest(units, cells, fineness) {
  const positions = [], parents = [];
  let group = new Int32Array(units.length);
  cells.forEach((n, level) => {
    const found = [], parent = [], finer = new Int32Array(units.length);
    units.forEach((unit, k) => {
      const at = snapped(unit, n, fineness(level));
      if (k === 0 || group[k] !== group[k - 1] || at !== found.at(-1)) { // they come in order
        found.push(at);
        parent.push(group[k]);
      }
      finer[k] = found.length - 1;
    });
    positions.push(found);
    parents.push({ low: parent, high: parent, weight: parent.map(() => 0) });
    group = finer;
  });
  return { positions, parents, shown: group };
}

// Every position lies between two nodes of the level below, or near three: smooth (models/nodes.py).
function joinNodes(units, cells, smooth) {
  const positions = [units], parents = [];
  for (const m of cells.slice(0, -1).reverse()) {
    const steps = Math.max(m - 1, 1), below = positions[0].map((unit) => unit * steps);
    const low = below.map((at) => Math.floor(smooth ? at - 0.5 : at));
    const high = smooth ? low.map((node) => node + 2) : below.map(Math.ceil);
    const between = smooth ? low.map((node) => node + 1) : [];
    const distinct = [...new Set([...low, ...between, ...high])].sort((a, b) => a - b);
    const place = new Map(distinct.map((node, k) => [node, k]));
    parents.unshift({
      low: low.map((node) => place.get(node)),
      high: high.map((node) => place.get(node)),
      weight: below.map((at, k) => at - low[k] - (smooth ? 0.5 : 0)),
      smooth,
    });
    positions.unshift(distinct.map((node) => node / steps));
  }
  parents.unshift(null);
  return {
    positions: positions.map((level, k) => level.map((unit) => unit * cells[k])),
    parents,
    shown: Int32Array.from(units, (_, k) => k),
  };
}

function coordinateOf(position, n, fineness, rows, frame) {
  if (frame === "symmetric") return (2 * position) / n - 1;
  if (frame !== "unit") return rows ? 1 - (2 * position) / n : (2 * position) / n - 1;
  if (!rows) return position / n;
  return (n - (Number.isFinite(fineness) ? 1 / fineness : 0) - position) / n;
}

// Entries of a learned table on both sides of positions; beyond the frame its edge goes on.
function tableOf(positions, n, interpolates, rows) {
  const inside = (cell) => {
    const kept = Math.min(Math.max(cell, 0), n - 1);
    return rows ? n - 1 - kept : kept;
  };
  const floors = positions.map(floorOf);
  return {
    low: floors.map(inside),
    high: floors.map((cell) => inside(cell + 1)),
    weight: positions.map((at, k) => (interpolates ? at - floors[k] : 0)),
  };
}

function planAxis(network, sampling, rows) {
  const { spec, blocks } = network, { frame } = spec, side = rows ? 0 : 1;
  const cells = spec.levels.map((size) => size[side]);
  const fineness = (level) => (level < sampling.superresFrom ? 1 : sampling.density);
  const units = unitsOf(sampling, rows);
  const { positions, parents, shown } = frame === "nodes"
    ? joinNodes(units, cells, spec.upsampling === "spline") : joinNearest(units, cells, fineness);
  const levels = cells.map((n, level) => {
    const table = blocks.find((block) => block.level === level && block.embedding?.table)?.embedding.table;
    const entries = table ? table.shape[1 + side] : n;
    let at = positions[level];
    if (frame === "corners") at = at.map((p) => (p / n) * entries - 0.5);
    if (frame === "nodes") at = at.map((p) => (p / n) * (entries - 1));
    return {
      coordinate: positions[level].map((p) => coordinateOf(p, n, fineness(level), rows, frame)),
      table: table && tableOf(at, entries, level >= sampling.superresFrom, rows),
      parent: parents[level],
    };
  });
  return { levels, shown, footprint: (sampling.high - sampling.low) / sampling.total };
}

// A window [left, bottom, right, top] in width x height pixels, with the defaults of render/view.py.
function planOf(network, { window, width, height, align, superresFrom, density }) {
  const { spec } = network, [left, bottom, right, top] = window, [rows, columns] = spec.levels.at(-1);
  const continuous = spec.frame === "corners" || spec.frame === "nodes";
  const own = [(2 * width) / (right - left) / columns, (2 * height) / (top - bottom) / rows];
  const finer = Math.max(...own) > 1 + 1e-9 || density !== undefined;
  let from = superresFrom ?? (finer ? Math.min(1, spec.levels.length - 1) : spec.levels.length);
  if (continuous) [from, density] = [0, Infinity];
  align ??= { corners: "corners", nodes: "center" }[spec.frame] ?? "edge";
  const axis = (low, high, total, k) =>
    planAxis(network, { low, high, total, align, superresFrom: from, density: density ?? Math.max(own[k], 1) }, k === 1);
  return { columns: axis(left, right, width, 0), rows: axis(bottom, top, height, 1) };
}
