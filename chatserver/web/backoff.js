/**
 * When to try again, and how to wait for it. Jitter is the point: ten thousand pages lose the same server in the
 * same millisecond and must not all be back in the same one.
 */

const FIRST_DELAY = 0.5; // s; a restart takes about this long
const LONGEST_DELAY = 20; // s; a person still believes a page that tries three times a minute
const SERVER_JITTER = 0.25; // of what the server asked for: a promise of "not before", spread behind it

/**
 * @param {number} failures in a row, 0 for the first
 * @param {number | null} retryAfter s, what the server asked for, if it did
 * @param {() => number} [random]
 * @returns {number} ms
 */
export function delayBefore(failures, retryAfter, random = Math.random) {
  const ceiling = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** failures);
  const own = ceiling * (0.5 + random() / 2);
  const asked = retryAfter === null ? 0 : retryAfter * (1 + SERVER_JITTER * random());
  return 1000 * Math.max(own, asked);
}

/**
 * @param {number} ms
 * @param {AbortSignal} [signal] ends the wait early, quietly
 * @returns {Promise<void>}
 */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
