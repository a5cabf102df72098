// What is shown, said and changed; and the start.

const $$ = (id) => document.getElementById(id);
const SIDES = [["left", "right"], ["posterior", "anterior"], ["inferior", "superior"]];
let saying = 0;

function moveTo(at) {
  if (!at) return;
  state.at = at;
  state.hover = null;
  redraw();
  showReadout();
  clearTimeout(saying);
  saying = setTimeout(() => { $$("spoken").textContent = sentence(state.at); }, 250);
}

function step(axis, by) {
  const at = [...state.at];
  at[axis] = Math.min(SHAPE[axis] - 1, Math.max(0, at[axis] + by));
  moveTo(at);
}

function zoomBy(factor) {
  state.zoom = Math.min(16, Math.max(1, state.zoom * factor));
  redraw();
}

const spokenMm = (mm) => mm.map((value, n) => `${SIDES[n][value < 0 ? 0 : 1]} ${Math.abs(value).toFixed(1)}`).join(", ") + " mm";

function shownValue(value, image) {
  const digits = image.slope >= 1 ? 0 : Math.min(6, Math.max(0, Math.ceil(-Math.log10(image.slope))));
  return `${Number(value.toFixed(digits))}${image.unit ? " " + image.unit : ""}`.replace("-", "\u2212");
}

// Name and text of everything that is known of a voxel.
function facts(at) {
  const found = [["position", spokenMm(inMm(at))]];
  IMAGES.forEach((image, n) => { if (volumes[n]) found.push([image.name, shownValue(valueAt(n, at), image)]); });
  for (const row of ROWS) {
    if (row.pair && isLoaded(row)) found.push([row.name, shownValue(differenceAt(row.pair, offset(at)), IMAGES[row.pair[0]])]);
  }
  const inside = CASE.structures.filter((_, n) => volumes[IMAGES.length + (n >> 4)] && flagsAt(n, offset(at))).map((one) => one.name);
  if (CASE.structures.length) found.push(["inside", inside.join(", ") || "none"]);
  found.push(["voxel of the file", inFile(at).join(", ")]);
  return found;
}

const sentence = (at) => facts(at).map(([name, text]) => `${name} ${text}`).join("; ");

function showReadout() {
  const at = state.hover || state.at;
  $$("readout-of").textContent = state.hover ? "Under the cursor" : "At the cross";
  $$("readout").querySelector("dl").replaceChildren(...facts(at).map(([name, text]) => {
    const entry = document.createElement("div"), term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    entry.append(term, value);
    return entry;
  }));
  document.querySelectorAll("#where input").forEach((slider) => {
    const axis = Number(slider.dataset.axis), mm = inMm(state.at)[axis];
    const text = `${state.at[axis] + 1}/${SHAPE[axis]}, ${SIDES[axis][mm < 0 ? 0 : 1]} ${Math.abs(mm).toFixed(1)} mm`;
    slider.value = state.at[axis];
    slider.setAttribute("aria-valuetext", text);
    slider.parentElement.querySelector("output").textContent = text;
  });
}

function setWindow(name, level, width) {
  windows[name] = [level, Math.max(width, 1e-6)];
  showWindow(name);
  redraw();
}

function showWindow(name = $$("window-of").value) {
  $$("window-of").value = name;
  const [level, width] = windows[name], rounded = (value) => Number(value.toPrecision(4));
  $$("level").value = rounded(level);
  $$("width").value = rounded(width);
  document.querySelectorAll("#presets button").forEach((button) => {
    const preset = CASE.presets[button.dataset.preset], now = windows.hounsfield;
    button.setAttribute("aria-pressed", String(preset[0] === now[0] && preset[1] === now[1]));
  });
}

function option(parent, type, name, text, isOn, change) {
  const label = document.createElement("label"), input = document.createElement("input");
  input.type = type;
  if (type === "radio") input.name = parent.id;
  input.checked = isOn;
  input.dataset.name = name;
  input.addEventListener("change", () => { change(input.checked); redraw(); showReadout(); });
  label.append(input, " " + text);
  parent.append(label);
  return label;
}

const put = (set, value, isIn) => { if (isIn) set.add(value); else set.delete(value); };

function toggle(id) {
  const input = document.querySelector(`#rows input[data-name="${id}"]`);
  if (input) input.click();
}

function buildControls() {
  $$("title").textContent = document.title = CASE.title;
  const size = CASE.full_shape.join(" x "), spacing = EDGES.map((edge, axis) => Number((edge / CASE.factors[axis]).toFixed(3))).join(" x ");
  const notes = [`${size} voxels of ${spacing} mm, from left to right, back to front, foot to head.`];
  if (Math.max(...CASE.factors) > 1) {
    notes.push(`Reduced: each voxel shown is the mean of ${CASE.factors.join(" x ")} voxels of the file, so that the page stays small.`);
  }
  if (CASE.tilt) notes.push(`Slices follow the image's own grid, which is tilted by ${CASE.tilt.toFixed(0)}\u00b0 against the patient.`);
  IMAGES.forEach((image) => {
    if (image.slope !== 1) notes.push(`${image.name} to the nearest ${Number(image.slope.toPrecision(2))}${image.unit ? " " + image.unit : ""}.`);
  });
  if (CASE.left_out) notes.push(`${CASE.left_out} structures more are not shown.`);
  $$("about").textContent = notes.join(" ");
  for (const row of ROWS) {
    option($$("rows"), "checkbox", row.id, row.name, shownRows.has(row.id), (isOn) => put(shownRows, row.id, isOn));
    const figure = document.createElement("figure"), caption = document.createElement("figcaption"), planes = document.createElement("div");
    figure.id = "figure-" + row.id;
    planes.className = "planes";
    caption.textContent = row.pair ? `${row.name}: blue too low, orange too high` : row.name;
    figure.append(caption, planes);
    $$("pictures").append(figure);
    PLANES.forEach((plane) => addView(row, plane, planes));
  }
  const isNarrow = window.innerWidth <= 720;
  if (isNarrow) ["coronal", "sagittal"].forEach((name) => shownPlanes.delete(name));
  for (const name of ["all", ...PLANES.map((plane) => plane.name)]) {
    option($$("chosen-planes"), "radio", name, name, isNarrow ? name === "axial" : name === "all", () => {
      shownPlanes.clear();
      PLANES.forEach((plane) => { if (name === "all" || name === plane.name) shownPlanes.add(plane.name); });
    });
  }
  CASE.structures.forEach((structure, number) => {
    const label = option($$("structures"), "checkbox", String(number), structure.name, true, (isOn) => put(shownStructures, number, isOn));
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = structure.colour;
    label.insertBefore(swatch, label.lastChild);
  });
  $$("structures").hidden = !CASE.structures.length;
}

function buildWindows() {
  for (const name of Object.keys(windows)) {
    if (name === "difference" && !CASE.differences.length) continue;
    if (name === "hounsfield" && !firstHounsfield) continue;
    const text = name === "hounsfield" ? "HU" : name === "difference" ? "difference" : IMAGES[Number(name.slice(5))].name;
    $$("window-of").append(new Option(text, name));
  }
  Object.keys(CASE.presets).forEach((name, n) => {
    if (!firstHounsfield) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.dataset.preset = name;
    button.setAttribute("aria-keyshortcuts", String(n + 1));
    button.addEventListener("click", () => setWindow("hounsfield", ...CASE.presets[name]));
    $$("presets").append(button);
  });
  $$("window-of").addEventListener("change", () => showWindow());
  ["level", "width"].forEach((id) => $$(id).addEventListener("input", () => {
    const level = $$("level").valueAsNumber, width = $$("width").valueAsNumber;
    if (Number.isFinite(level) && width > 0) { windows[$$("window-of").value] = [level, width]; redraw(); }
  }));
  $$("fading").hidden = !fade;
  if (fade) {
    ["from", "to"].forEach((end) => {
      IMAGES.forEach((image, n) => $$("fade-" + end).append(new Option(image.name, n)));
      $$("fade-" + end).value = fade[end];
      $$("fade-" + end).addEventListener("change", (event) => { fade[end] = Number(event.target.value); redraw(); });
    });
    $$("fade").addEventListener("input", (event) => {
      fade.share = Number(event.target.value) / 100;
      if (!shownRows.has("faded")) toggle("faded");
      redraw();
    });
  }
  showWindow();
}

function buildPlaces() {
  const list = $$("places").querySelector("ul");
  const button = (place, text) => {
    const one = document.createElement("button");
    one.type = "button";
    one.textContent = text;
    one.addEventListener("click", () => { moveTo(atMm(place.position)); $$("pictures").scrollIntoView({ block: "nearest" }); });
    return one;
  };
  for (const warning of CASE.warnings) {
    const entry = document.createElement("li");
    entry.className = "warning";
    entry.append(warning, " ");
    CASE.places.filter((place) => place.warning === warning).forEach((place) => entry.append(button(place, "show: " + place.label)));
    list.append(entry);
  }
  for (const place of CASE.places.filter((one) => !CASE.warnings.includes(one.warning))) {
    const entry = document.createElement("li");
    entry.append(button(place, place.label), " " + spokenMm(place.position));
    list.append(entry);
  }
  $$("places").hidden = !list.childElementCount;
}

function listenToPage() {
  document.querySelectorAll("#where input").forEach((slider) => {
    const axis = Number(slider.dataset.axis);
    slider.max = SHAPE[axis] - 1;
    slider.addEventListener("input", () => step(axis, Number(slider.value) - state.at[axis]));
  });
  $$("closer").addEventListener("click", () => zoomBy(1.25));
  $$("farther").addEventListener("click", () => zoomBy(0.8));
  $$("smooth").addEventListener("change", (event) => { state.smooth = event.target.checked; redraw(); });
  $$("lines").addEventListener("change", (event) => { state.cross = event.target.checked; redraw(); });
  window.addEventListener("resize", redraw);
  window.addEventListener("hashchange", followAddress);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
    const presets = Object.values(CASE.presets), key = event.key.toLowerCase();
    if (presets[Number(key) - 1] && firstHounsfield) setWindow("hounsfield", ...presets[Number(key) - 1]);
    else if (key === "+" || key === "=") zoomBy(1.25);
    else if (key === "-") zoomBy(0.8);
    else if (key === "pageup") step(state.plane.axis, 1);
    else if (key === "pagedown") step(state.plane.axis, -1);
    else if (key === "o") { state.outlines = !state.outlines; redraw(); }
    else if (key === "f") toggle("faded");
    else return;
    event.preventDefault();
  });
}

// viewer.html#mm=-12.5,3,40 opens at that place.
function followAddress() {
  const found = /^#mm=([-+.\de]+),([-+.\de]+),([-+.\de]+)$/.exec(window.location.hash);
  const mm = found ? found.slice(1).map(Number) : null;
  if (mm?.every(Number.isFinite)) moveTo(atMm(mm));
}

async function start() {
  if (CASE.start) state.at = atMm(CASE.start);
  buildControls();
  buildWindows();
  buildPlaces();
  listenToPage();
  followAddress();
  const packed = [...document.querySelectorAll("script.volume")];
  for (const [number, element] of packed.entries()) {
    $$("state").textContent = `Loading volume ${number + 1} of ${packed.length}.`;
    volumes.push(await unpacked(element));
    if (number + 1 >= Math.min(2, packed.length)) { drawAll(); showReadout(); }
  }
  drawAll();
  showReadout();
  $$("spoken").textContent = sentence(state.at);
  $$("state").hidden = true;
  document.documentElement.dataset.loaded = performance.now().toFixed(0);
}

start().catch((error) => {
  $$("state").textContent = `The volumes cannot be shown (${error.message}). Open this page in a current Chromium, Chrome, Edge, `
    + "Firefox or Safari; the NIfTI files beside it hold the same.";
  document.documentElement.dataset.failed = "true";
});
