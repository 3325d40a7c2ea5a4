// Shows how far an instance has come, and goes there when it answers.
const page = document.querySelector('[data-waiting]');
const sentence = document.querySelector('[data-sentence]');
const failure = document.querySelector('[data-failure]');
const steps = [...document.querySelectorAll('[data-stage]')];
const source = new EventSource(page.dataset.events);

function show(status) {
  const arrived = status.fact === 'awake';
  const done = arrived ? steps.length : steps.findIndex((step) => step.dataset.stage === status.stage) + 1;
  steps.forEach((step, i) => {
    step.className = i < done ? 'done' : i === done ? 'now' : 'later';
    step.toggleAttribute('aria-current', i === done);
  });
  failure.hidden = !(status.fact === 'failed' && status.failure);
  failure.textContent = status.failure ?? '';
  if (!arrived) return;
  source.close();
  sentence.textContent = 'Ready. Here it comes.';
  if (page.dataset.then) location.assign(page.dataset.then);
  else location.reload();
}

source.addEventListener('message', (event) => show(JSON.parse(event.data)));
source.addEventListener('error', () => {
  // The browser reconnects by itself unless it was refused; then a reload says why.
  if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
});
