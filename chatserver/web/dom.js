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
