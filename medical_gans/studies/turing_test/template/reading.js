/* The reading: which image is shown, what the reader does, how long it takes. */

const byId = (id) => document.getElementById(id);
const canvas = byId("image");
const pixelsOf = study.images.map(decoded);
let session = null;
let taken = []; // [index, answer before], for undo
let resumed = 0; // index of the image that follows a pause
let watched = null; // since when the present image has been on the screen, ms

/* --- what is on the screen --- */

function showOnly(id) {
  for (const part of document.querySelectorAll("main")) part.hidden = part.id !== id;
  window.scrollTo(0, 0);
}

function redraw() {
  draw(canvas, pixelsOf[session.index]);
  const { length, share } = scaleBar();
  byId("scale").children[0].style.width = `${100 * share}%`;
  byId("scale").children[1].textContent = `${length} mm`;
  byId("smaller").disabled = view.zoom === 0;
  byId("larger").disabled = view.zoom === ZOOM_STEPS.length - 1;
  byId("window").children[1].textContent = windowName(study.windows[view.window]);
}

function refresh() {
  const answer = answerOf(session, study.images[session.index].id);
  const done = completed(session);
  const position = `Image ${session.index + 1} of ${study.images.length}`;
  byId("position").textContent = position;
  canvas.setAttribute("aria-label", position);
  byId("answered").textContent = `${done} answered`;
  byId("progress").max = study.images.length;
  byId("progress").value = done;
  for (const question of ["judgement", "confidence", "malignancy"]) {
    for (const button of document.querySelectorAll(`[data-${question}]`)) {
      button.setAttribute("aria-pressed", String(button.dataset[question] === String(answer[question])));
      button.disabled = question !== "judgement" && answer.judgement === null;
    }
  }
  byId("back").disabled = session.index === 0;
  byId("undo").disabled = taken.length === 0;
}

function read(index) {
  stopWatch();
  session.index = index;
  resetView();
  showOnly("reading");
  refresh();
  redraw();
  startWatch();
  save();
}

function rest(isEnd) {
  stopWatch();
  const total = study.images.length;
  const done = completed(session);
  const isAnswered = isComplete(answerOf(session, study.images[session.index].id));
  session.finished = done === total;
  resumed = isEnd || isAnswered ? Math.max(firstOpen(session), 0) : session.index;
  save();
  const heading = done < total ? "End of the images" : "All images answered";
  document.querySelector("#rest h1").textContent = isEnd ? heading : "Paused";
  const left = storage
    ? "Your answers are kept in this browser; you may close the page and go on later."
    : "This browser does not keep them: save them to a file before you close the page.";
  byId("summary").textContent =
    done < total
      ? `${done} of ${total} images are answered. ${left}`
      : `Thank you. Save your ${total} answers and send the file to whom the study came from.`;
  byId("continue").textContent = done < total ? "Continue" : "Look at the answers again";
  byId("save").classList.toggle("main", done === total);
  byId("continue").classList.toggle("main", done < total);
  byId("saved").textContent = "";
  showOnly("rest");
  byId(done < total ? "continue" : "save").focus();
}

function windowName([low, high]) {
  return `L ${Math.round((low + high) / 2)} W ${high - low} HU`.replace("-", "\u2212");
}

/* --- time on the screen --- */

function startWatch() {
  if (session && !byId("reading").hidden && document.visibilityState === "visible") watched = performance.now();
}

function stopWatch() {
  if (watched === null) return;
  const { id } = study.images[session.index];
  const answer = answerOf(session, id);
  session.answers[id] = { ...answer, milliseconds: answer.milliseconds + performance.now() - watched };
  watched = null;
}

function save() {
  const kept = keep(session);
  byId("unkept").hidden = kept;
  if (!kept) {
    byId("unkept").textContent =
      "This browser does not keep your answers. Pause and save them to a file before you close the page.";
  }
}

/* --- what the reader does --- */

function give(question, value) {
  const { id } = study.images[session.index];
  const before = answerOf(session, id);
  if (before[question] === value || (question !== "judgement" && before.judgement === null)) return;
  taken.push([session.index, before]);
  stopWatch();
  const after = { ...answerOf(session, id), [question]: value };
  session.answers[id] = after;
  session.exported = false;
  byId("spoken").textContent = `${question} ${value}`;
  if (!isComplete(before) && isComplete(after)) return forward();
  startWatch();
  save();
  refresh();
}

function forward() {
  if (session.index + 1 < study.images.length && firstOpen(session) !== -1) return read(session.index + 1);
  const isLast = session.index + 1 === study.images.length;
  if (isLast || !session.finished) return rest(true);
  read(session.index + 1);
}

function undo() {
  if (taken.length === 0) return;
  const [index, before] = taken.pop();
  stopWatch();
  const { id } = study.images[index];
  session.answers[id] = { ...before, milliseconds: answerOf(session, id).milliseconds };
  session.exported = false;
  session.finished = false;
  read(index);
}

function nextWindow() {
  view.window = (view.window + 1) % study.windows.length;
  redraw();
}

async function saveFile() {
  const name = `answers_${session.reader.replace(/\s+/g, "_")}_${study.id}.json`;
  download(name, await fileText(session));
  session.exported = true;
  save();
  const open = study.images.length - completed(session);
  byId("saved").textContent = `Saved as ${name}.` + (open ? ` ${open} images are not answered yet.` : "");
}

const ACTIONS = {
  r: () => give("judgement", "real"),
  g: () => give("judgement", "generated"),
  b: () => study.ask_malignancy && give("malignancy", "benign"),
  m: () => study.ask_malignancy && give("malignancy", "malignant"),
  z: undo,
  w: nextWindow,
  p: () => rest(false),
  escape: () => rest(false),
  arrowleft: () => session.index > 0 && read(session.index - 1),
  arrowright: forward,
  "+": () => (zoomBy(1), redraw()),
  "-": () => (zoomBy(-1), redraw()),
  0: () => (resetView(), redraw()),
};
for (let level = 1; level <= 5; level++) ACTIONS[level] = () => give("confidence", level);

/** What a key says; on keyboards without Latin letters, or with digits behind Shift, where it lies. */
function meaning({ key, code }) {
  if (key === "=") return "+";
  if (Object.hasOwn(ACTIONS, key.toLowerCase())) return key.toLowerCase();
  if (/^Digit[0-5]$/.test(code)) return code.at(-1);
  return /^[^\x00-\x7f]$/.test(key) ? code.replace("Key", "").toLowerCase() : "";
}

document.addEventListener("keydown", (event) => {
  if (byId("reading").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = meaning(event);
  if (!Object.hasOwn(ACTIONS, key)) return;
  event.preventDefault();
  if (!event.repeat) ACTIONS[key]();
});

for (const question of ["judgement", "malignancy"]) {
  for (const button of document.querySelectorAll(`[data-${question}]`)) {
    button.addEventListener("click", () => give(question, button.dataset[question]));
  }
}
for (const button of document.querySelectorAll("[data-confidence]")) {
  button.addEventListener("click", () => give("confidence", Number(button.dataset.confidence)));
}
const BUTTONS = { back: "arrowleft", forward: "arrowright", undo: "z", smaller: "-", larger: "+", window: "w", pause: "p" };
for (const [id, key] of Object.entries(BUTTONS)) byId(id).addEventListener("click", () => ACTIONS[key]());
byId("continue").addEventListener("click", () => {
  read(resumed);
  canvas.focus();
});
byId("save").addEventListener("click", saveFile);

let turned = 0; // pixels of the wheel since the last step
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  turned += event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1);
  if (Math.abs(turned) < 50) return;
  const steps = turned < 0 ? 1 : -1;
  turned = 0;
  const box = canvas.getBoundingClientRect();
  zoomBy(steps, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  redraw();
});
canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
canvas.addEventListener("pointermove", (event) => {
  if (event.buttons === 0) return;
  const voxels = COLUMNS / (canvas.clientWidth * ZOOM_STEPS[view.zoom]);
  panBy(-event.movementX * voxels, -event.movementY * voxels);
  redraw();
});
new ResizeObserver(() => session && !byId("reading").hidden && redraw()).observe(canvas);

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") return startWatch();
  stopWatch();
  if (session) save();
});
window.addEventListener("pagehide", () => {
  stopWatch();
  if (session) save();
});
window.addEventListener("beforeunload", (event) => {
  if (session && !storage && !session.exported) event.preventDefault();
});
window.addEventListener("storage", (event) => {
  if (!session || event.key !== PREFIX + session.reader.toLowerCase()) return;
  watched = null;
  session = null;
  begin("This study was continued in another window. Close this one, or go on from here.");
});
