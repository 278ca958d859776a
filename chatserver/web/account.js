/**
 * One's own name, below the rooms: choose it, sign in with a token, sign out.
 * Owns: the dialog for it. May not: keep a token (the server's cookie does, and no script can read that).
 *
 * @import { ChatClient } from './client.js'
 */
import { avatar, byId } from './dom.js';

export class Account {
  #me = byId('me');
  #dialog = /** @type {HTMLDialogElement} */ (byId('account'));
  #name = /** @type {HTMLInputElement} */ (byId('account-name'));
  #token = /** @type {HTMLInputElement} */ (byId('account-token'));
  #problem = byId('account-problem');
  #isSure = false; // of going

  /** @param {ChatClient} client */
  constructor(client) {
    this.client = client;
    client.addEventListener('identity', () => this.#show());
    client.addEventListener('refused', ({ detail }) => {
      if (detail.error.code === 'unauthenticated') this.#open(`#${detail.room} is for those who have signed in.`);
    });
    this.#me.addEventListener('click', () => this.#open());
    byId('account-form').addEventListener('submit', (event) => this.#submit(event));
    byId('account-out').addEventListener('click', () => this.#signOut());
    byId('account-cancel').addEventListener('click', () => this.#dialog.close());
    this.#show();
  }

  #show() {
    const { user } = this.client.identity;
    this.#me.hidden = !user;
    if (!user) return;
    const name = document.createElement('span');
    name.className = 'name';
    name.textContent = user.name;
    this.#me.replaceChildren(avatar(user), name);
    this.#me.title = `You are ${user.name}: change name, sign in or out`;
  }

  /** @param {string} [why] */
  #open(why = '') {
    if (this.#dialog.open) return;
    this.#name.value = this.client.identity.user?.name ?? '';
    this.#token.value = '';
    this.#problem.textContent = why;
    this.#isSure = false;
    /** @type {HTMLDetailsElement} */ (byId('account-by-token')).open = why !== '';
    this.#dialog.showModal();
    if (why) this.#token.focus();
    else this.#name.select();
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    const token = this.#token.value.trim();
    const name = this.#name.value.trim();
    if (token || name) this.#change(() => this.client.api.signIn(token ? { token } : { name }));
    else this.#problem.textContent = 'A name has at least one letter.';
    this.#isSure = false; // the question is not on the screen any more
  }

  #signOut() {
    if (this.#isSure) {
      this.#change(() => this.client.api.signOut());
    } else {
      this.#isSure = true;
      this.#problem.textContent = 'Press again to sign out. A guest comes back as somebody else, who cannot change what this one has written.';
    }
  }

  /** @param {() => Promise<any>} request */
  async #change(request) {
    try {
      const answer = await request();
      if (answer?.user) this.client.identity.is(answer.user, answer.moderates);
      this.#dialog.close();
      this.client.reconnect(); // a connection is somebody's from its beginning
    } catch (error) {
      this.#problem.textContent = error.status === 404 ? 'This server has no names to choose.' : error.message;
    }
  }
}
