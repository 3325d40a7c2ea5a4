// Live updates of the dashboard, and every time on a page in the reader's time zone.
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

function tell(time) {
  const at = new Date(time.dateTime);
  const today = at.toDateString() === new Date().toDateString();
  time.textContent = today ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
  time.title = at.toLocaleString();
}

document.querySelectorAll('time').forEach(tell);

const card = document.querySelector('[data-live]');
const part = (name) => card.querySelector(`[data-${name}]`);
let shown = card && part('since').dateTime;

function show(state) {
  part('lamp').className = `lamp ${state.lamp}`;
  part('headline').textContent = state.headline;
  part('cause').textContent = state.cause;
  part('meaning').textContent = state.meaning;
  part('why-lead').textContent = state.why.lead;
  part('why').replaceChildren(...state.why.lines.map((line) => say(document.createElement('li'), line)));
  say(part('why-end'), state.why.end);
  part('wake').disabled = !state.can_wake;
  part('sleep').disabled = !state.can_sleep;
  part('stop').hidden = !state.stuck;
  part('since').dateTime = state.since;
  tell(part('since'));
  if (state.since !== shown) remember(state);
  shown = state.since;
}

// A phrase, and the time that ends it, if there is one.
function say(element, line) {
  element.textContent = line.text;
  if (!line.at) return element;
  const time = Object.assign(document.createElement('time'), { dateTime: line.at });
  tell(time);
  element.append(' ', time);
  return element;
}

function remember(state) {
  const row = document.createElement('li');
  const lamp = Object.assign(document.createElement('span'), { className: `lamp ${state.lamp}` });
  const what = Object.assign(document.createElement('span'), { className: 'what', textContent: `${state.headline}: ${state.cause}` });
  const time = Object.assign(document.createElement('time'), { dateTime: state.since });
  tell(time);
  row.append(lamp, what, time);
  const list = document.querySelector('[data-history]');
  list.prepend(row);
  while (list.children.length > 8) list.lastElementChild.remove();
}

if (card) {
  const source = new EventSource(card.dataset.live);
  source.addEventListener('message', (event) => show(JSON.parse(event.data)));
  source.addEventListener('error', () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
  });
}
