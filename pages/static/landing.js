// Keeps the count of awake instances and the lit boats up to date while the page is in the foreground.
const count = document.querySelector('[data-awake]');
const noun = document.querySelector('[data-noun]');
const lamp = document.querySelector('[data-lamp]');

async function look() {
  if (document.hidden) return;
  try {
    const { awake } = await (await fetch('/awake')).json();
    if (String(awake) === count.textContent) return;
    count.textContent = awake;
    noun.textContent = awake === 1 ? 'instance' : 'instances';
    lamp.className = `lamp ${awake > 0 ? 'awake' : 'asleep'}`;
    for (const boat of document.querySelectorAll('[data-boat]')) {
      boat.classList.toggle('lit', awake > Number(boat.dataset.boat));
    }
  } catch {
    // The next poll may succeed; meanwhile the last count stays.
  }
}

setInterval(look, 5000);
document.addEventListener('visibilitychange', look);
