/**
 * Parses `text/event-stream` as it arrives, in any cuts. `fetch` is used and not `EventSource`, because that hides
 * what is needed here: the heartbeat comments, the status and Retry-After of a refusal, and when to retry.
 */
export class EventStreamParser {
  #rest = '';
  #event = '';
  /** @type {string[]} */
  #data = [];

  /**
   * @param {string} chunk
   * @returns {{event: string, data: string}[]} the events that this chunk completed
   */
  feed(chunk) {
    const text = this.#rest + chunk;
    // A lone CR at the very end may be the first half of CRLF: it waits for what follows.
    const end = text.endsWith('\r') ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + text.slice(end);
    return lines.map((line) => this.#line(line)).filter((event) => event !== null);
  }

  /** @param {string} line */
  #line(line) {
    if (line === '') {
      const event = this.#data.length ? { event: this.#event || 'message', data: this.#data.join('\n') } : null;
      this.#event = '';
      this.#data = [];
      return event;
    }
    const colon = line.indexOf(':');
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#event = value;
    else if (field === 'data') this.#data.push(value);
    return null; // `id` is repeated inside the data; comments and `retry` need no answer here
  }
}
