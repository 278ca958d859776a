// Reloads the page if a part of it failed to load or is of another version, as during an upgrade, and says if the browser
// is too old. Not a module, since none runs then.
const isNew = Map.groupBy && AbortSignal.any && HTMLElement.prototype.showPopover && CSS.supports('color', 'light-dark(red, red)');
let isMissing = !isNew; // which no reload helps

addEventListener('DOMContentLoaded', () => {
  if (isNew) return;
  document.getElementById('banner-text').textContent = 'This browser is too old: the chat needs Chrome 123, Firefox 125 or Safari 17.5.';
  document.getElementById('banner').hidden = false;
});

addEventListener('error', ({ target, error, filename }) => {
  // A part of another version lacks what others import.
  const isUnfit = error instanceof SyntaxError && filename.startsWith(origin) && document.readyState !== 'complete';
  if (!isUnfit && !(target instanceof HTMLScriptElement) && target?.rel !== 'stylesheet') return;
  if (isMissing) return; // one reload, however many parts failed
  isMissing = true;
  const tries = history.state?.tries ?? 0;
  history.replaceState({ tries: tries + 1 }, '');
  setTimeout(() => location.reload(), Math.min(1_000 * 2 ** tries, 30_000) * (0.5 + Math.random() / 2));
}, true);

addEventListener('load', () => {
  if (!isMissing && history.state?.tries) history.replaceState(null, ''); // reset the back-off
});
