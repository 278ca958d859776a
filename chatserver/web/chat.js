// @ts-self-types="./chat.d.ts"
/**
 * The chat for pages of your own: `import { connect } from 'https://chat.example/chat.js'`. docs/embed.md shows it,
 * and chat.d.ts describes it.
 */
import { ChatClient } from './client.js';
import { TRANSPORTS } from './connection.js';
import { Store } from './storage.js';

export { ChatClient } from './client.js';
export { Room } from './room.js';
export { ChatError } from './wire.js';

export function connect(origin = import.meta.url, { token, transport } = {}) {
  if (transport && !TRANSPORTS.includes(transport)) throw new TypeError(`transport is one of ${TRANSPORTS.join(', ')}, not ${transport}`);
  return new ChatClient(new URL(origin).origin, { kind: transport, token, tab: new Store(), browser: new Store() });
}
