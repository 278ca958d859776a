/**
 * The types of chat.js. docs/embed.md says how to use both.
 *
 * `curl -O https://chat.example/chat.d.ts`, and in tsconfig.json:
 * `"paths": { "https://chat.example/chat.js": ["./chat.d.ts"] }`
 */

/**
 * @param origin of the server, or any of its addresses; your page's own must be allowed there (`--allow-origin`)
 * @returns a client that connects when the first room is joined
 */
export function connect(origin?: string | URL, options?: Options): ChatClient;

export interface Options {
  /** Identifies the user; without one the user is a guest. */
  token?: string;
  /** Forces a transport; by default the client uses the best that works. */
  transport?: Transport;
}

export type Transport = 'ws' | 'sse' | 'poll';

export class ChatClient extends Target<ClientEvents> {
  private constructor();
  readonly state: State;
  readonly identity: {
    /** Null until it is known. */
    readonly user: User | null;
  };
  /** Joins a room, or returns it again if it is joined already. */
  join(name: string): Room;
  /** Continues with a new token of the user: call it before the old one expires, or after that. */
  authenticate(token: string): void;
  /** Closes the connection for good; what is pending or asked later, as a `publish`, rejects with the code `aborted`. */
  close(): void;
}

export interface ClientEvents {
  state: Event;
  identity: Event;
  /** The token expires within half a minute. Told over a WebSocket only. */
  expiring: CustomEvent<{ seconds: number }>;
  /** A moderator has muted the user; `message` says where and for how long. */
  error: CustomEvent<{ code: string; message: string }>;
}

export interface State {
  readonly phase: 'connecting' | 'live' | 'waiting' | 'stopped';
  readonly kind: Transport;
  /** When `waiting` ends, in ms of `performance.now()`. */
  readonly until: number | null;
  /** For the user: why it is not live, or, while it is live, that the server is about to end it; otherwise empty. */
  readonly reason: string;
}

export class Room extends Target<RoomEvents> {
  private constructor();
  readonly name: string;
  /**
   * Resolves once the message is durable. It stays pending through outages and while its author is signed out, and
   * rejects if the server refuses the message or the user for good, if for nine minutes no answer says whether it is
   * stored, or if the server has a new log without the message that it answers. The same applies to the changes below.
   */
  publish(text: string, extras?: { replyTo?: number; mentions?: string[] }): Promise<Ack>;
  edit(offset: number, text: string): Promise<Ack>;
  delete(offset: number): Promise<Ack>;
  react(offset: number, emoji: string, on: boolean): Promise<Ack>;
  readonly timeline: Timeline;
  /** Loads earlier messages. */
  older(timeline: Timeline): Promise<void>;
  readonly reactors: {
    /** The users who reacted so, as far as the loaded records name them. */
    of(offset: number, emoji: string): User[];
  };
  askPeople(): Promise<{ members: User[]; count: number }>;
  /** How many are in the room; null if that is not known. */
  readonly members: number | null;
  /** Those in the room whom the server names, by id. */
  readonly people: ReadonlyMap<string, User>;
  readonly typists: User[];
  readonly unread: number;
  /** Tells the others that the user is typing, as often as the server allows. */
  typing(): void;
  markRead(offset: number): void;
  leave(): void;
  /** Joins again after a kick or a refusal. */
  comeBack(): void;
  /** Why the user is not in the room; null while in it. */
  readonly out: ChatError | null;
}

export interface RoomEvents {
  /** First those in the history, then each new one. */
  message: CustomEvent<Message>;
  /** Several messages at once, also those that were edited, deleted or reacted to. */
  messages: CustomEvent<{ added: Message[]; changed: Message[]; isLive: boolean }>;
  presence: Event;
  typing: Event;
  unread: Event;
  /** The server has a new log, and the loaded messages are gone. */
  restarted: Event;
  /** The server refused the room, or a moderator removed the user. */
  refused: CustomEvent<{ error: ChatError }>;
}

export interface Timeline {
  /** The loaded messages, in order, in their present state. */
  readonly messages: Message[];
  /** Whether no earlier messages can be loaded. */
  readonly complete: boolean;
}

export interface User {
  id: string;
  name: string;
}

/** A message in its present state. */
export interface Message {
  room: string;
  offset: number;
  cursor: string;
  user: User;
  text: string;
  /** RFC 3339, in UTC. */
  time: string;
  /** The offset of the message that it answers. */
  reply_to?: number;
  /** Ids of users. */
  mentions?: string[];
  /** When its text was changed last. */
  edited?: string;
  deleted?: boolean;
  /** How many users reacted, by emoji. */
  reactions?: { [emoji: string]: number };
}

/** The place of a record in the log. */
export interface Ack {
  room: string;
  offset: number;
  cursor: string;
  time: string;
}

export class ChatError extends Error {
  /** Of the server's list, or `lost` (no answer) or `aborted` (by this client). */
  readonly code: string;
  /** Of HTTP; 0 if there is none. */
  readonly status: number;
  /** In seconds, if the server named it. */
  readonly retryAfter: number | null;
  /** Whether there was no answer, so that the request may have been carried out. */
  readonly isLost: boolean;
  /** Whether the same request may succeed later. */
  readonly isTemporary: boolean;
}

/** An `EventTarget` whose events have types. */
declare class Target<Events> {
  addEventListener<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void, options?: AddEventListenerOptions | boolean): void;
  removeEventListener<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void, options?: EventListenerOptions | boolean): void;
}

export {}; // only what says so is exported
