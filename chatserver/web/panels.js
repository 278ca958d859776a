/**
 * The panels: always there on a wide screen, drawers on a narrow one. Owns: which drawer is open.
 */
import { byId } from './dom.js';

const DRAWERS = [
  { button: byId('show-rooms'), panel: byId('rooms-panel') },
  { button: byId('show-people'), panel: byId('people-panel') },
];

/**
 * Close the drawers; the focus goes back to the button of one that it was in.
 * @param {HTMLElement | null} [opened] but this one
 */
export function closePanels(opened = null) {
  for (const { button, panel } of DRAWERS) {
    const isClosing = panel.classList.contains('open') && panel !== opened;
    panel.classList.toggle('open', panel === opened);
    if (isClosing && panel.contains(document.activeElement)) button.focus();
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
  panel.querySelector('.close')?.addEventListener('click', () => closePanels());
}
byId('shade').addEventListener('click', () => closePanels());
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !document.querySelector('dialog[open]')) closePanels();
});
