/**
 * The few DOM words this page repeats. Text always goes in as text: nothing here, or anywhere, sets HTML.
 */
import { hue, initials } from './text.js';

/**
 * @param {string} tag
 * @param {{[property: string]: unknown}} [properties]
 * @param {...(Node | string)} children
 */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

const SURE_FOR = 3_000; // ms

/**
 * Whether a press is the second one on the same button within three seconds; the first only makes it red.
 * @param {HTMLElement} button
 */
export function isSure(button) {
  const wasAsked = button.classList.toggle('sure') === false;
  if (!wasAsked) setTimeout(() => button.classList.remove('sure'), SURE_FOR);
  return wasAsked;
}

/**
 * Open a popover below an element, or above it where there is more room, and begin with its first button.
 * @param {HTMLElement} popover
 * @param {HTMLElement} anchor
 */
export function openAt(popover, anchor) {
  const { top, bottom, right } = anchor.getBoundingClientRect();
  popover.showPopover();
  const { width, height } = popover.getBoundingClientRect();
  const below = bottom + height + 8 < innerHeight ? bottom + 4 : Math.max(8, top - height - 4);
  Object.assign(popover.style, { top: `${below}px`, left: `${Math.max(8, Math.min(right - width, innerWidth - width - 8))}px` });
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
