/* The first page: who reads, and from where it goes on. */

function begin(warning = "") {
  const kept = keptSessions();
  byId("kept").hidden = kept.length === 0;
  byId("kept").querySelector("ul").replaceChildren(
    ...kept.map((one) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${one.reader}: ${completed(one)} of ${study.images.length}`;
      button.addEventListener("click", () => open(one));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  refuse(warning);
  showOnly("start");
}

function open(one) {
  session = one;
  taken = [];
  if (firstOpen(session) === -1) return rest(true);
  read(session.index);
  canvas.focus();
}

function refuse(message) {
  byId("refused").textContent = message;
  byId("refused").hidden = !message;
}

byId("register").addEventListener("submit", (event) => {
  event.preventDefault();
  const reader = byId("reader").value.trim().normalize("NFC");
  const same = keptSessions().find((one) => one.reader.toLowerCase() === reader.toLowerCase());
  if (same) return refuse(`${same.reader} has begun already: go on above, or give other initials.`);
  open(newSession(reader, Number(byId("years").value)));
});

byId("file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    const given = await sessionOfFile(await file.text());
    const same = keptSessions().find((one) => one.reader.toLowerCase() === given.reader.toLowerCase());
    if (same && completed(same) > completed(given)) {
      throw new Error(`This browser has more answers of ${same.reader} than the file. Go on with those above.`);
    }
    open(given);
  } catch (error) {
    refuse(error.message);
  }
});

for (const element of document.querySelectorAll(".count")) element.textContent = study.images.length;
document.querySelector(".extent").textContent = study.size
  .map((count, axis) => (count * study.spacing[axis]).toFixed(1))
  .join(" \u00d7 ") + " mm";
document.querySelector(".windows").textContent = study.windows.map(windowName).join(" or ");
document.querySelector(".notice").textContent = study.notice;
document.querySelector(".notice").hidden = !study.notice;
byId("malignancy").hidden = !study.ask_malignancy;
byId("window").hidden = study.windows.length < 2;
if (!globalThis.crypto?.subtle || !Object.hasOwn) {
  document.querySelector("#start .warning").textContent =
    "This browser is too old for the study. Open the page in a current Chromium, Chrome, Edge or Firefox.";
  byId("register").hidden = true;
} else if (!storage) {
  document.querySelector("#start .warning").textContent =
    "This browser keeps nothing for pages opened from a file. Save your answers to a file before you close the page; " +
    "you can go on from that file.";
}
document.querySelector("#start .warning").hidden = !document.querySelector("#start .warning").textContent;
begin();
