// The pictures: one canvas for each row and plane, all through one cross.

const state = { at: SHAPE.map((n) => n >> 1), hover: null, zoom: 1, smooth: false, cross: true, outlines: true, plane: PLANES[0] };
const shownRows = new Set(CASE.shown.map((n) => "image" + n));
const shownPlanes = new Set(PLANES.map((plane) => plane.name));
const shownStructures = new Set(CASE.structures.map((_, n) => n));
const views = [];
let waiting = false;

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawAll(); });
}

function addView(row, plane, parent) {
  const canvas = document.createElement("canvas");
  const slice = document.createElement("canvas");
  slice.width = SHAPE[plane.across];
  slice.height = SHAPE[plane.up];
  const context = slice.getContext("2d");
  const view = { row, plane, canvas, slice, context, picture: context.createImageData(slice.width, slice.height) };
  canvas.tabIndex = 0;
  canvas.dataset.row = row.id;
  canvas.dataset.plane = plane.name;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-roledescription", "slice");
  canvas.setAttribute("aria-label", `${row.name}, ${plane.name}`);
  parent.append(canvas);
  views.push(view);
  listen(view);
}

// mm to CSS pixels, one scale for all pictures: all planes in a row where there is room, and two rows on the screen.
function scale(chosen) {
  const room = document.getElementById("pictures").clientWidth;
  const extent = (axis) => SHAPE[axis] * EDGES[axis];
  const across = chosen.reduce((sum, plane) => sum + extent(plane.across), 0);
  const highest = Math.max(...chosen.map((plane) => extent(plane.up)));
  const widest = Math.max(...chosen.map((plane) => extent(plane.across)));
  const beside = chosen.length === 1 ? Math.min(2, shownRows.size) : 1; // pictures of one plane stand side by side
  const inRow = (room - 16 * chosen.length * beside) / (across * Math.max(1, beside));
  if (room < 600) return (room - 4) / widest;
  return Math.min(inRow, Math.max(window.innerHeight * (shownRows.size > beside ? 0.38 : 0.7), 220) / highest);
}

// The part of a slice that is shown, in its pixels: all of it, or what lies around the cross.
function visible(view) {
  const { plane } = view;
  const size = [SHAPE[plane.across], SHAPE[plane.up]], part = size.map((n) => n / state.zoom);
  const centre = [size[0] - 0.5 - state.at[plane.across], size[1] - 0.5 - state.at[plane.up]];
  const first = centre.map((c, n) => Math.min(size[n] - part[n], Math.max(0, c - part[n] / 2)));
  return { x: first[0], y: first[1], width: part[0], height: part[1] };
}

function drawAll() {
  if (!volumes.length) return;
  const chosen = PLANES.filter((plane) => shownPlanes.has(plane.name));
  const perMm = scale(chosen);
  for (const row of ROWS) document.getElementById("figure-" + row.id).hidden = !shownRows.has(row.id);
  for (const view of views) {
    view.canvas.hidden = !shownPlanes.has(view.plane.name);
    if (!view.canvas.hidden && shownRows.has(view.row.id) && isLoaded(view.row)) draw(view, perMm);
  }
}

const isLoaded = (row) => (row.pair || (row.faded ? [fade.from, fade.to] : [row.image])).every((n) => volumes[n])
  && (!row.pair || CASE.within === null || volumes[IMAGES.length + (CASE.within >> 4)]);

function draw(view, perMm) {
  const { canvas, plane, row } = view, dense = window.devicePixelRatio || 1;
  const size = [plane.across, plane.up].map((axis) => Math.max(1, SHAPE[axis] * EDGES[axis] * perMm));
  canvas.style.width = size[0] + "px";
  canvas.style.height = size[1] + "px";
  canvas.width = Math.round(size[0] * dense);
  canvas.height = Math.round(size[1] * dense);
  paint(row, plane, state.at, view.picture);
  view.context.putImageData(view.picture, 0, 0);
  const pen = canvas.getContext("2d"), part = visible(view);
  pen.imageSmoothingEnabled = state.smooth;
  pen.drawImage(view.slice, part.x, part.y, part.width, part.height, 0, 0, canvas.width, canvas.height);
  const x = (column) => ((column - part.x) / part.width) * canvas.width;
  const y = (line) => ((line - part.y) / part.height) * canvas.height;
  if (state.outlines) drawOutlines(pen, plane, x, y, dense);
  if (state.cross) drawCross(pen, plane, x, y, dense, canvas);
  drawLetters(pen, plane, dense, canvas);
  canvas.setAttribute("aria-label", `${row.name}, ${plane.name}, slice ${state.at[plane.axis] + 1} of ${SHAPE[plane.axis]}`);
}

function drawOutlines(pen, plane, x, y, dense) {
  for (const number of shownStructures) {
    if (!volumes[IMAGES.length + (number >> 4)]) continue;
    pen.beginPath();
    for (const [x0, y0, x1, y1] of borders(number, plane, state.at)) {
      pen.moveTo(x(x0), y(y0));
      pen.lineTo(x(x1), y(y1));
    }
    pen.strokeStyle = CASE.structures[number].colour;
    pen.lineWidth = 1.3 * dense;
    pen.stroke();
  }
}

// Two lines that leave the voxel itself free.
function drawCross(pen, plane, x, y, dense, canvas) {
  const column = SHAPE[plane.across] - 1 - state.at[plane.across], line = SHAPE[plane.up] - 1 - state.at[plane.up];
  const free = 8 * dense, middle = [(x(column) + x(column + 1)) / 2, (y(line) + y(line + 1)) / 2];
  const gap = [x(column + 1) - x(column), y(line + 1) - y(line)].map((edge) => edge / 2 + free);
  pen.beginPath();
  pen.moveTo(0, middle[1]); pen.lineTo(middle[0] - gap[0], middle[1]);
  pen.moveTo(middle[0] + gap[0], middle[1]); pen.lineTo(canvas.width, middle[1]);
  pen.moveTo(middle[0], 0); pen.lineTo(middle[0], middle[1] - gap[1]);
  pen.moveTo(middle[0], middle[1] + gap[1]); pen.lineTo(middle[0], canvas.height);
  pen.strokeStyle = "rgba(255, 215, 94, .75)";
  pen.lineWidth = dense;
  pen.stroke();
}

function drawLetters(pen, plane, dense, canvas) {
  const edge = 4 * dense, places = [
    [edge, canvas.height / 2, "left", "middle"], [canvas.width - edge, canvas.height / 2, "right", "middle"],
    [canvas.width / 2, edge, "center", "top"], [canvas.width / 2, canvas.height - edge, "center", "bottom"],
  ];
  pen.font = `bold ${12 * dense}px system-ui, sans-serif`;
  pen.lineWidth = 3 * dense;
  pen.strokeStyle = "#000";
  pen.fillStyle = "#ffd75e";
  plane.letters.forEach((letter, n) => {
    const [left, top, align, base] = places[n];
    pen.textAlign = align;
    pen.textBaseline = base;
    pen.strokeText(letter, left, top);
    pen.fillText(letter, left, top);
  });
}

// The voxel under a pointer, or null beside the picture.
function under(view, event) {
  const box = view.canvas.getBoundingClientRect(), part = visible(view), { plane } = view;
  const column = Math.floor(part.x + ((event.clientX - box.left) / box.width) * part.width);
  const line = Math.floor(part.y + ((event.clientY - box.top) / box.height) * part.height);
  const at = [...state.at];
  at[plane.across] = SHAPE[plane.across] - 1 - column;
  at[plane.up] = SHAPE[plane.up] - 1 - line;
  return isInside(at) ? at : null;
}

function listen(view) {
  const { canvas, plane, row } = view;
  let drag = null;
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("focus", () => { state.plane = plane; });
  canvas.addEventListener("pointerdown", (event) => {
    state.plane = plane;
    const isWindowing = event.button === 2 || event.shiftKey;
    drag = { isWindowing, x: event.clientX, y: event.clientY, window: [...windows[row.window]] };
    if (event.pointerType !== "touch") canvas.setPointerCapture(event.pointerId);
    if (!isWindowing && event.pointerType !== "touch") moveTo(under(view, event));
  });
  canvas.addEventListener("click", (event) => { if (!drag?.isWindowing) moveTo(under(view, event)); });
  canvas.addEventListener("pointermove", (event) => {
    if (drag?.isWindowing) {
      const per = Math.max(drag.window[1], 1) / 300;
      setWindow(row.window, drag.window[0] - (event.clientY - drag.y) * per, drag.window[1] + (event.clientX - drag.x) * per);
    } else if (drag && event.buttons === 1 && event.pointerType !== "touch") moveTo(under(view, event));
    else { state.hover = under(view, event); showReadout(); }
  });
  canvas.addEventListener("pointerup", () => { setTimeout(() => { drag = null; }); });
  canvas.addEventListener("pointerleave", () => { state.hover = null; showReadout(); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
    else step(plane.axis, event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [plane.across, 1], ArrowRight: [plane.across, -1], ArrowUp: [plane.up, 1], ArrowDown: [plane.up, -1] };
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    step(...moves[event.key]);
  });
}
