// What the page can do only with a script: a clock that runs, and an answer that appears as it is written.
"use strict";

const $ = (id) => document.getElementById(id);

const up = $("up");
const started = performance.now() - Number(up.dataset.seconds) * 1000;
function spoken(s) {
  const d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s % 60} s` : `${s} s`;
}
setInterval(() => { up.textContent = spoken(Math.floor((performance.now() - started) / 1000)); }, 1000);

async function refreshBudget() {
  const response = await fetch("/budget");
  if (!response.ok) return;
  const money = await response.json();
  $("left").textContent = money.left;
  if ($("meter")) $("meter").value = money.percent;
}

// Calls `each` with every line's object as it arrives.
async function readLines(body, each) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    lines.filter(Boolean).forEach((line) => each(JSON.parse(line)));
  }
}

function say(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

// Shows the answer as it is written; `arrived` is called with its first piece.
async function stream(body, signal, arrived) {
  const response = await fetch("/ask", { method: "POST", body, signal, headers: { accept: "application/x-ndjson" } });
  const type = response.headers.get("content-type") || "";
  if (!response.ok || !type.startsWith("application/x-ndjson")) {
    throw new Error(type.startsWith("text/plain") ? await response.text() : "The question was not taken. Reload the page and try again.");
  }
  await readLines(response.body, (piece) => {
    arrived();
    if (piece.text) {
      $("answer").hidden = false;
      $("answer").append(piece.text);
    }
    if (piece.trouble || piece.note) say($("trouble"), piece.trouble || piece.note);
  });
}

// Browsers give up connections when the machine's network changes. While nothing has arrived yet, asking once more
// repeats nothing the person could see; after that it is theirs to decide.
async function ask(body, signal) {
  let begun = false;
  try {
    await stream(body, signal, () => { begun = true; });
  } catch (error) {
    if (begun || !(error instanceof TypeError)) throw error;
    await stream(body, signal, () => {});
  }
}

const form = $("ask");
let call = null;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (call) return;
  const body = new URLSearchParams(new FormData(form));
  call = new AbortController();
  $("send").disabled = true;
  $("halt").hidden = false;
  $("answer").setAttribute("aria-busy", "true");
  say($("answer"), "");
  say($("trouble"), "");
  $("status").textContent = "Asking …";
  try {
    await ask(body, call.signal);
    $("status").textContent = $("trouble").hidden ? "Answered." : "";
  } catch (error) {
    const stopped = error.name === "AbortError";
    $("status").textContent = stopped ? "Stopped." : "";
    if (!stopped) say($("trouble"), error instanceof TypeError ? "The connection was lost. Try again." : error.message);
  } finally {
    call = null;
    $("send").disabled = false;
    $("halt").hidden = true;
    $("answer").removeAttribute("aria-busy");
    refreshBudget().catch(() => {});
  }
});

$("halt").addEventListener("click", () => call && call.abort());
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
