// Shows the progress of a wake, and opens the instance once it answers.
const page = document.querySelector('[data-waiting]');
const sentence = document.querySelector('[data-sentence]');
const failure = document.querySelector('[data-failure]');
const steps = [...document.querySelectorAll('[data-stage]')];
const source = new EventSource(page.dataset.events);

function show(status) {
  const arrived = status.fact === 'awake';
  // Until a wake begins, the stage is still "ready" from the wake before.
  const reached = steps.findIndex((step) => step.dataset.stage === status.stage) + 1;
  const done = arrived ? steps.length : reached % steps.length;
  steps.forEach((step, i) => {
    step.className = i < done ? 'done' : i === done ? 'now' : 'later';
    if (i === done) step.setAttribute('aria-current', 'step');
    else step.removeAttribute('aria-current');
  });
  failure.hidden = !(status.fact === 'failed' && status.failure);
  failure.textContent = status.failure ?? '';
  if (!arrived) return;
  source.close();
  if ('stay' in page.dataset) {
    sentence.textContent = 'Your instance is ready.';
    return;
  }
  sentence.textContent = 'Your instance is ready. Opening it now.';
  if (page.dataset.then) location.assign(page.dataset.then);
  else location.reload();
}

source.addEventListener('message', (event) => show(JSON.parse(event.data)));
source.addEventListener('error', () => {
  // The browser reconnects by itself unless the server refused it; a reload then shows why.
  if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
});
