// Checks while a handle is typed whether it can be claimed. Without JavaScript the form tells it after it is sent.
const field = document.querySelector('[data-handle]');
const note = document.querySelector('[data-note]');
const suggestions = document.querySelector('[data-suggestions]');
const rule = '3 to 32 lowercase letters, digits and hyphens, starting with a letter.';
let timer;
let asking = new AbortController();

function say(verdict, text, names = []) {
  note.className = `note ${verdict}`;
  note.textContent = text;
  field.setAttribute('aria-invalid', String(verdict === 'bad'));
  suggestions.replaceChildren(...names.map((name) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'button small';
    button.textContent = name;
    button.dataset.suggestion = '';
    return button;
  }));
}

async function ask() {
  asking.abort();
  asking = new AbortController();
  const typed = field.value.trim();
  if (typed === '') return say('', rule);
  try {
    const answer = await fetch(`/api/handles/${encodeURIComponent(typed)}`, { signal: asking.signal });
    if (!answer.ok) return say('', rule);
    const { available, note: text, suggestions: names } = await answer.json();
    say(available ? 'free' : 'bad', text, names);
  } catch {
    // A newer request replaced this one, or the network is down: the form still works.
  }
}

field.addEventListener('input', () => {
  clearTimeout(timer);
  timer = setTimeout(ask, 300);
});

suggestions.addEventListener('click', (event) => {
  const chosen = event.target.closest('[data-suggestion]');
  if (!chosen) return;
  event.preventDefault();
  field.value = chosen.textContent;
  field.focus();
  ask();
});
