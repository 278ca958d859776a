/**
 * The panels: always there on a wide screen, drawers on a narrow one. Owns: which drawer is open.
 */
import { byId } from './dom.js';

const DRAWERS = [
  { button: byId('show-rooms'), panel: byId('rooms-panel') },
  { button: byId('show-people'), panel: byId('people-panel') },
];

/** @param {HTMLElement | null} [opened] */
export function closePanels(opened = null) {
  for (const { button, panel } of DRAWERS) {
    panel.classList.toggle('open', panel === opened);
    button.ariaExpanded = String(panel === opened);
  }
  byId('shade').classList.toggle('open', opened !== null);
}

for (const { button, panel } of DRAWERS) {
  button.addEventListener('click', () => {
    const isOpening = !panel.classList.contains('open');
    closePanels(isOpening ? panel : null);
    if (isOpening) /** @type {HTMLElement} */ (panel.querySelector('[aria-current]') ?? panel).focus();
  });
}
byId('shade').addEventListener('click', () => closePanels());
addEventListener('keydown', (event) => {
  const open = DRAWERS.find(({ panel }) => panel.classList.contains('open'));
  if (event.key !== 'Escape' || !open) return;
  closePanels();
  open.button.focus();
});
