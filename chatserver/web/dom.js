/**
 * What all views use: elements, lists, confirmations, popovers.
 * Text is inserted as text: no module of the page sets HTML.
 */
import { isGuest } from './identity.js';
import { hue, initials } from './text.js';

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

/**
 * A text that is shown already is not written: the browser would lay out the page, and a status would be spoken again. It may
 * be shown in another language.
 */
export function setText(element, text) {
  if (element.shown !== text) element.textContent = element.shown = text;
}

/** Replace the rows of a list; the focus stays at the same link or button. One that is replaced during a press gets no click. */
export function replaceRows(list, rows) {
  clearTimeout(list.waiting);
  if (list.matches(':active')) return void (list.waiting = setTimeout(replaceRows, 50, list, rows));
  const { href, value } = list.contains(document.activeElement) ? document.activeElement : {};
  list.replaceChildren(...rows);
  [...list.querySelectorAll('a, button')].find((each) => each.href === href && each.value === value)?.focus({ preventScroll: true });
}

/** Choose an option of a list, after the last one the first; the field keeps the focus, and tells screen readers. */
export function choose(field, list, index) {
  const options = [...list.querySelectorAll('[role="option"]')];
  const chosen = options.at(index % options.length); // none of an empty list
  options.forEach((option, at) => {
    option.id = `${list.id}-${at}`;
    option.ariaSelected = String(option === chosen);
  });
  chosen?.scrollIntoView({ block: 'nearest' });
  field.setAttribute('aria-activedescendant', chosen?.id ?? '');
  return options.indexOf(chosen);
}

export const isConfirmed = async (question, label) => (await askWhy(question, label, false)) !== null;

/**
 * Ask in a dialog whose button says `label`, also for a reason.
 * @returns the reason, perhaps empty; null if it was not confirmed
 */
export function askWhy(question, label, hasReason = true) {
  const dialog = byId('question');
  const reason = byId('question-reason');
  dialog.onclose?.(); // this event of the last question may not have come yet
  byId('question-why').hidden = !hasReason;
  reason.value = '';
  byId('question-no').onclick = () => dialog.close(''); // no submit button, since Enter in the field would press it
  byId('question-text').textContent = question;
  byId('question-yes').textContent = label;
  dialog.returnValue = ''; // Escape keeps it
  dialog.showModal();
  return new Promise((resolve) => (dialog.onclose = () => dialog.open || resolve(dialog.returnValue === 'yes' ? reason.value.trim() : null)));
}

/** Open a popover below or above an element, within the window, and focus its first button. */
export function openAt(popover, anchor) {
  const { top, bottom, left, right } = anchor.getBoundingClientRect();
  popover.showPopover();
  const { width, height } = popover.getBoundingClientRect();
  const below = bottom + height + 8 < innerHeight ? bottom + 4 : Math.max(8, top - height - 4);
  const beside = left + right < innerWidth ? left : right - width;
  Object.assign(popover.style, { top: `${below}px`, left: `${Math.max(8, Math.min(beside, innerWidth - width - 8))}px` });
  popover.querySelector('button')?.focus();
}

/**
 * Whether a key is for an input method, as Enter is that chooses a word. Safari ends the composition before that key, which
 * then has only the code of all keys that an input method takes.
 */
export const isForInputMethod = ({ isComposing, keyCode }) => isComposing || keyCode === 229;

/** There Ctrl with a letter edits the text, and Option types characters. */
export const isApple = /^(Mac|iP)/.test(navigator.platform);
export const hasCommandKey = ({ ctrlKey, metaKey }) => (isApple ? metaKey : ctrlKey);

/** Touch screens only: the keyboard is opened on request, and has no Shift+Enter. */
export const hasFingers = () => matchMedia('(hover: none)').matches;

/** For a name that anybody may choose; the style sheet shows it where people sign in. */
export const guestMark = (user) => (isGuest(user) ? [' ', make('span', { className: 'guest' }, 'guest')] : []);

export function avatar({ id, name }) {
  const element = make('span', { className: 'avatar', ariaHidden: 'true' }, initials(name));
  element.style.setProperty('--hue', String(hue(id)));
  return element;
}
