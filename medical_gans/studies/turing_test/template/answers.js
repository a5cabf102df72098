/* The answers: kept in this browser, written to a file, and read back from one. */

const FORMAT = 1;
const PREFIX = `visual-turing-test:${study.id}:`;
const JUDGEMENTS = ["real", "generated"];
const MALIGNANCIES = ["benign", "malignant"];

const storage = (() => {
  try {
    localStorage.setItem(PREFIX, "");
    localStorage.removeItem(PREFIX);
    return localStorage;
  } catch {
    return null; // pages of files are kept from it by some settings
  }
})();

function newSession(reader, years) {
  return { reader, years, index: 0, exported: true, answers: {} };
}

function answerOf(session, id) {
  return session.answers[id] || { judgement: null, confidence: null, malignancy: null, milliseconds: 0 };
}

function isComplete(answer) {
  return (
    answer.judgement !== null && answer.confidence !== null && (!study.ask_malignancy || answer.malignancy !== null)
  );
}

function completed(session) {
  return study.images.filter((image) => isComplete(answerOf(session, image.id))).length;
}

function firstOpen(session) {
  return study.images.findIndex((image) => !isComplete(answerOf(session, image.id)));
}

/** Whether the browser has kept the session. */
function keep(session) {
  try {
    storage.setItem(PREFIX + session.reader.toLowerCase(), JSON.stringify(session));
    return true;
  } catch {
    return false;
  }
}

function keptSessions() {
  const found = [];
  for (let i = 0; storage && i < storage.length; i++) {
    if (!storage.key(i).startsWith(PREFIX)) continue;
    try {
      found.push(JSON.parse(storage.getItem(storage.key(i))));
    } catch {
      // not ours
    }
  }
  return found.sort((a, b) => a.reader.localeCompare(b.reader));
}

/** JSON with sorted keys and no spaces: the same text for the same content. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const entries = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${entries.join(",")}}`;
}

async function checksum(content) {
  const bytes = new TextEncoder().encode(canonical(content));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function fileText(session) {
  const answers = study.images.flatMap(({ id }) => {
    const { judgement, confidence, malignancy, milliseconds } = answerOf(session, id);
    return judgement ? [{ id, judgement, confidence, malignancy, milliseconds: Math.round(milliseconds) }] : [];
  });
  const content = {
    format: FORMAT,
    study: study.id,
    reader: session.reader,
    years_of_experience: session.years,
    saved: new Date().toISOString().slice(0, 19) + "Z",
    images: study.images.length,
    answers,
  };
  return JSON.stringify({ content, checksum: await checksum(content) }, null, 1) + "\n";
}

/** The session in an answers file; throws an Error whose message is for the reader. */
async function sessionOfFile(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("This file cannot be read: it is not JSON. Choose an answers file that this page saved.");
  }
  const content = file?.content;
  if (!content || !Array.isArray(content.answers) || content.format !== FORMAT) {
    throw new Error("This is not an answers file. Choose a file named answers_..., as this page saved it.");
  }
  if (content.study !== study.id) throw new Error("These answers belong to another study.");
  if (file.checksum !== (await checksum(content))) {
    throw new Error("This file was changed after it was saved, so it is not taken. Choose the original.");
  }
  const session = newSession(content.reader, content.years_of_experience);
  for (const { id, ...answer } of content.answers) session.answers[id] = answer;
  session.index = Math.max(firstOpen(session), 0);
  return session;
}

function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
