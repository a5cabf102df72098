/* The images: decoded, interpolated, windowed and drawn. One path for all of them. */

const study = JSON.parse(document.getElementById("study").textContent);
const [ROWS, COLUMNS] = study.size;
const ZOOM_STEPS = [0.5, 0.7, 1, 1.5, 2, 3, 4, 6];
const WHOLE = ZOOM_STEPS.indexOf(1);

const view = { zoom: WHOLE, window: 0, row: ROWS / 2, column: COLUMNS / 2 };

function decoded(image) {
  const text = atob(image.pixels);
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** Four samples and their weights (Catmull-Rom) for each of `length` screen pixels along one axis; none beside the image. */
function cubicTaps(length, count, middle, zoom) {
  const step = count / (length * zoom);
  const index = new Int32Array(4 * length);
  const weight = new Float32Array(4 * length);
  const isInside = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    const position = middle + (i + 0.5 - length / 2) * step - 0.5;
    isInside[i] = position > -0.5 && position < count - 0.5;
    const first = Math.floor(position);
    const t = position - first;
    const weights = [
      ((2 - t) * t - 1) * t * 0.5,
      ((3 * t - 5) * t * t + 2) * 0.5,
      ((4 - 3 * t) * t + 1) * t * 0.5,
      (t - 1) * t * t * 0.5,
    ];
    for (let k = 0; k < 4; k++) {
      index[4 * i + k] = Math.min(Math.max(first - 1 + k, 0), count - 1);
      weight[4 * i + k] = weights[k];
    }
  }
  return { index, weight, isInside };
}

function draw(canvas, pixels) {
  const edge = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
  if (edge === 0) return;
  if (canvas.width !== edge) canvas.width = canvas.height = edge;
  const zoom = ZOOM_STEPS[view.zoom];
  const across = cubicTaps(edge, COLUMNS, view.column, zoom);
  const down = cubicTaps(edge, ROWS, view.row, zoom);
  const widened = new Float32Array(ROWS * edge);
  for (let row = 0; row < ROWS; row++) {
    for (let x = 0; x < edge; x++) {
      let sum = 0;
      for (let k = 4 * x; k < 4 * x + 4; k++) sum += across.weight[k] * pixels[row * COLUMNS + across.index[k]];
      widened[row * edge + x] = sum;
    }
  }
  const [low, high] = study.encoded;
  const [black, white] = study.windows[view.window];
  const gain = (high - low) / (white - black);
  const offset = (255 * (low - black)) / (white - black);
  const context = canvas.getContext("2d");
  const picture = context.createImageData(edge, edge);
  const grey = new Uint32Array(picture.data.buffer);
  for (let y = 0; y < edge; y++) {
    const [a, b, c, d] = down.index.subarray(4 * y, 4 * y + 4);
    const [p, q, r, s] = down.weight.subarray(4 * y, 4 * y + 4);
    for (let x = 0; x < edge; x++) {
      const value =
        p * widened[a * edge + x] + q * widened[b * edge + x] + r * widened[c * edge + x] + s * widened[d * edge + x];
      const shown = Math.min(Math.max(Math.round(value * gain + offset), 0), 255);
      grey[y * edge + x] = 0xff000000 | (down.isInside[y] && across.isInside[x] ? shown * 0x010101 : 0);
    }
  }
  context.putImageData(picture, 0, 0);
}

/** Change the zoom, keeping what lies at (x, y), in shares of the canvas, where it is. */
function zoomBy(steps, x = 0.5, y = 0.5) {
  const before = ZOOM_STEPS[view.zoom];
  view.zoom = Math.min(Math.max(view.zoom + steps, 0), ZOOM_STEPS.length - 1);
  const change = 1 / before - 1 / ZOOM_STEPS[view.zoom];
  panBy((x - 0.5) * COLUMNS * change, (y - 0.5) * ROWS * change);
}

/** Move the view by voxels, as far as there is image. */
function panBy(columns, rows) {
  const margin = Math.min(0.5 / ZOOM_STEPS[view.zoom], 0.5);
  view.column = Math.min(Math.max(view.column + columns, margin * COLUMNS), (1 - margin) * COLUMNS);
  view.row = Math.min(Math.max(view.row + rows, margin * ROWS), (1 - margin) * ROWS);
}

function resetView() {
  Object.assign(view, { zoom: WHOLE, row: ROWS / 2, column: COLUMNS / 2 });
}

/** Length in mm and share of the canvas of a bar of a round length. */
function scaleBar() {
  const width = (COLUMNS * study.spacing[1]) / ZOOM_STEPS[view.zoom];
  const length = [10, 5, 2, 1].find((mm) => mm <= 0.45 * width) || 1;
  return { length, share: length / width };
}
