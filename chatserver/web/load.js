// Reloads the page if a part of it failed to load, and says if the browser is too old. No module: none runs then.
const isNew = HTMLElement.prototype.showPopover && CSS.supports('color', 'light-dark(red, red)');
let isMissing = !isNew; // which no reload helps

addEventListener('DOMContentLoaded', () => {
  if (isNew) return;
  document.getElementById('banner-text').textContent = 'This browser is too old: the chat needs Chrome 123, Firefox 125 or Safari 17.5.';
  document.getElementById('banner').hidden = false;
});

addEventListener('error', async ({ target }) => {
  if (isMissing || (!(target instanceof HTMLScriptElement) && target.rel !== 'stylesheet')) return;
  isMissing = true; // one reload for all
  const wait = history.state?.wait ?? 200; // ms
  history.replaceState({ wait: Math.min(2 * wait, 6_000) }, '');
  // During an upgrade a server has the parts of its own version only; the browser keeps what it gets.
  const parts = [...document.querySelectorAll('[href^="/"], [src^="/"]')];
  for (let round = 0; round < 5; round++) {
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random())));
    const answers = await Promise.allSettled(parts.map(({ href, src }) => fetch(href ?? src)));
    if (answers.every(({ value }) => value?.ok)) break;
  }
  location.reload();
}, true);

addEventListener('load', () => {
  if (!isMissing && history.state?.wait) history.replaceState(null, '');
});
