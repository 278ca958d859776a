// Loads the page again when a part of it did not come: the network changed just then, or the server is being restarted.
// It is no module: none of those runs when one of them is missing.
let isMissing = false;

addEventListener('error', ({ target }) => {
  if (!(target instanceof HTMLScriptElement) && target?.rel !== 'stylesheet') return;
  if (isMissing) return; // one part is enough, and one attempt
  isMissing = true;
  const tries = history.state?.tries ?? 0;
  history.replaceState({ tries: tries + 1 }, '');
  setTimeout(() => location.reload(), Math.min(1_000 * 2 ** tries, 30_000) * (0.5 + Math.random() / 2));
}, true);

addEventListener('load', () => {
  if (!isMissing && history.state?.tries) history.replaceState(null, ''); // the next time begins with a second again
});
