// A slice as colours. The patient's right is on the left; rows run from anterior or superior downwards.

const PLANES = [
  { name: "axial", axis: 2, across: 0, up: 1, letters: ["R", "L", "A", "P"] },
  { name: "coronal", axis: 1, across: 0, up: 2, letters: ["R", "L", "S", "I"] },
  { name: "sagittal", axis: 0, across: 1, up: 2, letters: ["A", "P", "S", "I"] },
];

function palette(stops) {
  const colours = new Uint8Array(3 * 256);
  for (let n = 0; n < 256; n++) {
    const place = (n / 255) * (stops.length - 1), before = Math.min(Math.floor(place), stops.length - 2), share = place - before;
    for (let c = 0; c < 3; c++) colours[3 * n + c] = Math.round(stops[before][c] * (1 - share) + stops[before + 1][c] * share);
  }
  return colours;
}
const GREYS = palette([[0, 0, 0], [255, 255, 255]]);
const HEAT = palette([[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]]);
const SIGNED = palette([[214, 240, 255], [47, 155, 255], [12, 63, 122], [10, 10, 10], [122, 36, 16], [255, 106, 58], [255, 233, 209]]);

const windows = { hounsfield: [...CASE.presets.soft], difference: [0, 1000] }; // level and width by what they belong to
IMAGES.forEach((image, n) => { if (image.kind !== "hounsfield") windows["image" + n] = [...image.window]; });
const firstHounsfield = IMAGES.find((image) => image.kind === "hounsfield");
if (firstHounsfield) windows.hounsfield = [...firstHounsfield.window];
const windowOf = (n) => (IMAGES[n].kind === "hounsfield" ? "hounsfield" : "image" + n);

const fade = CASE.faded ? { from: CASE.faded[0], to: CASE.faded[1], share: 0.5 } : null;

// What a row of pictures shows: one image, two faded, or one minus another.
const ROWS = IMAGES.map((image, n) => ({ id: "image" + n, name: image.name, window: windowOf(n), image: n }));
if (fade) ROWS.push({ id: "faded", name: "faded", window: windowOf(fade.to), faded: true });
CASE.differences.forEach(([a, b], n) => {
  ROWS.push({ id: "difference" + n, name: `${IMAGES[a].name} minus ${IMAGES[b].name}`, window: "difference", pair: [a, b] });
});

function shade(value, [level, width]) {
  const grey = ((value - level) / width + 0.5) * 255;
  return grey <= 0 ? 0 : grey >= 255 ? 255 : Math.round(grey);
}

function differenceAt([a, b], position) {
  const one = volumes[a][position] * IMAGES[a].slope + IMAGES[a].intercept;
  return one - (volumes[b][position] * IMAGES[b].slope + IMAGES[b].intercept);
}

// Fills an ImageData of (columns, rows) with a row's slice through `at`.
function paint(row, plane, at, picture) {
  const columns = SHAPE[plane.across], lines = SHAPE[plane.up], step = [1, SHAPE[0], SHAPE[0] * SHAPE[1]];
  const target = new Uint32Array(picture.data.buffer);
  const start = at[plane.axis] * step[plane.axis];
  const layers = row.faded ? [fade.from, fade.to] : [row.image];
  const parts = row.pair ? [] : layers.map((n) => ({
    numbers: volumes[n], slope: IMAGES[n].slope, intercept: IMAGES[n].intercept, window: windows[windowOf(n)],
    colours: IMAGES[n].kind === "map" ? HEAT : GREYS,
  }));
  const shares = row.faded ? [1 - fade.share, fade.share] : [1];
  for (let line = 0, pixel = 0; line < lines; line++) {
    let position = start + (lines - 1 - line) * step[plane.up] + (columns - 1) * step[plane.across];
    for (let column = 0; column < columns; column++, pixel++, position -= step[plane.across]) {
      let red = 0, green = 0, blue = 0;
      if (row.pair) {
        const isOutside = CASE.within !== null && !flagsAt(CASE.within, position);
        const colour = 3 * shade(isOutside ? 0 : differenceAt(row.pair, position), windows.difference);
        red = SIGNED[colour]; green = SIGNED[colour + 1]; blue = SIGNED[colour + 2];
      } else {
        for (let n = 0; n < parts.length; n++) {
          const part = parts[n], colour = 3 * shade(part.numbers[position] * part.slope + part.intercept, part.window);
          red += shares[n] * part.colours[colour]; green += shares[n] * part.colours[colour + 1]; blue += shares[n] * part.colours[colour + 2];
        }
      }
      target[pixel] = 0xff000000 | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red);
    }
  }
}

// Borders between pixels inside and outside a structure, as lines [column, row, column, row].
function borders(structure, plane, at) {
  const columns = SHAPE[plane.across], lines = SHAPE[plane.up], step = [1, SHAPE[0], SHAPE[0] * SHAPE[1]];
  const start = at[plane.axis] * step[plane.axis];
  const is = (column, line) => column >= 0 && line >= 0 && column < columns && line < lines
    && flagsAt(structure, start + (lines - 1 - line) * step[plane.up] + (columns - 1 - column) * step[plane.across]) === 1;
  const found = [];
  for (let line = 0; line <= lines; line++) {
    for (let column = 0; column <= columns; column++) {
      const here = is(column, line);
      if (here !== is(column - 1, line)) found.push([column, line, column, line + 1]);
      if (here !== is(column, line - 1)) found.push([column, line, column + 1, line]);
    }
  }
  return found;
}
