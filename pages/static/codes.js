// Copies the recovery codes, or saves them as a text file.
const list = document.querySelector('[data-codes]');
const said = document.querySelector('[data-said]');
const codes = () => [...list.children].map((item) => item.textContent.trim()).join('\n');

document.querySelector('[data-save]').hidden = false;

document.querySelector('[data-copy]').addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText(codes());
    said.textContent = 'Copied.';
  } catch {
    said.textContent = 'Your browser did not allow copying. Please select and copy the codes yourself.';
  }
});

document.querySelector('[data-download]').addEventListener('click', () => {
  const { handle } = list.dataset;
  const words = `Recovery codes of ${handle} at ${location.host}\nEach code works once, together with a code from your code app.\n\n${codes()}\n`;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([words], { type: 'text/plain' }));
  link.download = `recovery-codes-${handle}.txt`;
  link.click();
  URL.revokeObjectURL(link.href);
  said.textContent = 'Saved with your downloads.';
});
