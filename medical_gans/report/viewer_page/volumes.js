"use strict";
// The case: what it holds, its volumes, and where a voxel lies.

const CASE = JSON.parse(document.getElementById("content").textContent);
const SHAPE = CASE.shape;
const IMAGES = CASE.images;
const volumes = []; // Int16Array of each image, then of each sixteen structures; x fastest
const voxels = SHAPE[0] * SHAPE[1] * SHAPE[2];

async function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  try {
    return new Uint8Array(await (await fetch("data:application/octet-stream;base64," + text)).arrayBuffer());
  } catch {
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let n = 0; n < bytes.length; n++) bytes[n] = letters.charCodeAt(n);
    return bytes;
  }
}

async function unpacked(element) {
  const packed = await bytesOf(element.textContent);
  element.textContent = ""; // the memory is wanted for the next one
  const unpacking = new DecompressionStream("deflate"), writer = unpacking.writable.getWriter();
  const written = Promise.all([writer.write(packed), writer.close()]); // a Blob's stream would take twice as long
  const bytes = new Uint8Array(2 * voxels), reader = unpacking.readable.getReader();
  let filled = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (filled + part.value.length <= bytes.length) bytes.set(part.value, filled);
    filled += part.value.length;
  }
  await written;
  if (filled !== bytes.length) throw new Error("a volume is cut short");
  const numbers = new Int16Array(voxels);
  const size = SHAPE[0] * SHAPE[1];
  for (let begin = 0; begin < voxels; begin += size) {
    const low = 2 * begin, high = low + size; // of each slice the low bytes, then the high bytes
    for (let n = 0; n < size; n++) numbers[begin + n] = bytes[low + n] | (bytes[high + n] << 8);
  }
  return numbers;
}

const offset = (at) => at[0] + SHAPE[0] * (at[1] + SHAPE[1] * at[2]);
const isInside = (at) => at.every((n, axis) => n >= 0 && n < SHAPE[axis]);

function valueAt(image, at) {
  return volumes[image][offset(at)] * IMAGES[image].slope + IMAGES[image].intercept;
}

const flagsAt = (structure, position) => (volumes[IMAGES.length + (structure >> 4)][position] >> (structure & 15)) & 1;

// Middle of a voxel of the page on the file's own grid; the page's voxels may be blocks of them.
const fullIndex = (at) => at.map((n, axis) => n * CASE.factors[axis] + (CASE.factors[axis] - 1) / 2);

function inMm(at) {
  const full = fullIndex(at);
  return CASE.affine.slice(0, 3).map((row) => row[0] * full[0] + row[1] * full[1] + row[2] * full[2] + row[3]);
}

// Index in the file, as its own axes and directions have it.
function inFile(at) {
  const full = fullIndex(at).map(Math.floor);
  const index = [0, 0, 0];
  CASE.stored.forEach(([axis, sign], n) => { index[axis] = sign > 0 ? full[n] : CASE.full_shape[n] - 1 - full[n]; });
  return index;
}

function atMm(mm) {
  const [a, b, c] = CASE.affine.slice(0, 3).map((row) => row.slice(0, 3));
  const d = mm.map((value, n) => value - CASE.affine[n][3]);
  const det = (p, q, r) => p[0] * (q[1] * r[2] - q[2] * r[1]) - p[1] * (q[0] * r[2] - q[2] * r[0]) + p[2] * (q[0] * r[1] - q[1] * r[0]);
  const whole = det(a, b, c);
  const with_ = (axis) => [a, b, c].map((row, n) => row.map((value, m) => (m === axis ? d[n] : value)));
  return [0, 1, 2].map((axis) => {
    const index = (det(...with_(axis)) / whole - (CASE.factors[axis] - 1) / 2) / CASE.factors[axis];
    return Math.min(SHAPE[axis] - 1, Math.max(0, Math.round(index)));
  });
}

// Edge of a voxel of the page in mm, along each of its axes.
const EDGES = [0, 1, 2].map((axis) => CASE.factors[axis] * Math.hypot(...CASE.affine.slice(0, 3).map((row) => row[axis])));
