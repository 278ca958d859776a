/**
 * What all views use: elements, confirmations, popovers.
 * Text always goes in as text: nothing here, or anywhere, sets HTML.
 */
import { hue, initials } from './text.js';

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

const SURE_FOR = 4_000; // ms
let asking = new AbortController();

/** Take the question back that a button asks. */
export const stopAsking = () => asking.abort();

/**
 * Whether a press is the second one on the same button; the first makes it red, and asks. The question is gone after
 * some seconds, by Escape, and when something else is pressed or focused.
 * @param {(text: string) => void} tell
 */
export function isSure(button, question, tell) {
  const wasAsked = button.classList.contains('sure');
  stopAsking();
  if (wasAsked) return true;
  const controller = (asking = new AbortController());
  const { signal } = controller;
  const stop = () => controller.abort();
  button.classList.add('sure');
  tell(question);
  signal.addEventListener('abort', () => (button.classList.remove('sure'), tell('')));
  setTimeout(stop, SURE_FOR);
  addEventListener('keydown', ({ key }) => key === 'Escape' && stop(), { signal });
  for (const event of ['pointerdown', 'focusin']) {
    addEventListener(event, ({ target }) => target instanceof Node && !button.contains(target) && stop(), { signal });
  }
  return false;
}

/**
 * Open a popover below an element, or above it where there is more room, on the side of the page where the element is;
 * and begin with its first button.
 */
export function openAt(popover, anchor) {
  const { top, bottom, left, right } = anchor.getBoundingClientRect();
  popover.showPopover();
  const { width, height } = popover.getBoundingClientRect();
  const below = bottom + height + 8 < innerHeight ? bottom + 4 : Math.max(8, top - height - 4);
  const beside = left + right < innerWidth ? left : right - width;
  Object.assign(popover.style, { top: `${below}px`, left: `${Math.max(8, Math.min(beside, innerWidth - width - 8))}px` });
  popover.querySelector('button')?.focus();
}

/** A finger did not ask for a keyboard, and its keyboard has no Shift+Enter. */
export const hasFingers = () => matchMedia('(hover: none)').matches;

/**
 * @param {{id: string, name: string}} user
 */
export function avatar({ id, name }) {
  const element = make('span', { className: 'avatar', ariaHidden: 'true' }, initials(name));
  element.style.setProperty('--hue', String(hue(id)));
  return element;
}
