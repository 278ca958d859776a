/**
 * One's own name, below the rooms: choose it, sign in with a token, sign out.
 * Owns: the dialog for it. May not: keep a token (the server's cookie does, and no script can read that).
 */
import { avatar, byId, isConfirmed, make } from './dom.js';

export class Account {
  #me = byId('me');
  #dialog = byId('account');
  #name = byId('account-name');
  #token = byId('account-token');
  #problem = byId('account-problem');

  constructor(client, { changed, signedOut }) {
    this.client = client;
    this.changed = changed;
    this.signedOut = signedOut;
    client.addEventListener('identity', () => this.#show());
    client.addEventListener('tokens', () => (byId('account-by-token').hidden = !client.identity.takesTokens));
    client.addEventListener('refused', ({ detail }) => {
      if (detail.error.code === 'unauthenticated' && client.identity.takesTokens) this.#open(`Sign in to enter #${detail.room}.`);
    });
    this.#me.addEventListener('click', () => this.#open());
    byId('sign-in').addEventListener('click', () => this.#open(`Sign in to write in #${client.room}.`));
    byId('account-form').addEventListener('submit', (event) => this.#submit(event));
    byId('account-out').addEventListener('click', () => this.#signOut());
    byId('account-cancel').addEventListener('click', () => this.#dialog.close());
    this.#show();
  }

  #show() {
    const { isGuest, user } = this.client.identity;
    byId('account-by-name').hidden = !isGuest;
    byId('account-signed-in').hidden = isGuest;
    if (!user) return;
    this.#me.replaceChildren(avatar(user), make('span', { className: 'name', translate: false }, user.name));
    this.#me.title = `You are ${user.name}: ${isGuest ? 'change name, ' : ''}sign in or out`;
  }

  #open(why = '') {
    if (this.#dialog.open) return;
    const { isGuest, user } = this.client.identity;
    byId('account-title').textContent = isGuest ? 'Who are you?' : `You are ${user?.name}`;
    this.#name.value = user?.name ?? '';
    this.#token.value = '';
    this.#problem.textContent = why;
    byId('account-by-token').open = why !== '';
    this.#dialog.showModal();
    if (why) this.#token.focus();
    else if (isGuest) this.#name.select();
  }

  #submit(event) {
    event.preventDefault();
    const token = byId('account-by-token').open ? this.#token.value.trim() : ''; // a password manager may have filled it in
    const name = this.#name.value.trim();
    const { isGuest } = this.client.identity;
    if (token || (name && isGuest)) this.#try(() => this.#signIn(token ? { token } : { name }));
    else this.#problem.textContent = isGuest ? 'A name must not be empty.' : 'To be somebody else, sign out or paste a token.';
  }

  async #signOut() {
    const loss = 'A guest comes back as somebody else, who cannot change what this one has written.';
    const why = this.client.identity.isGuest ? loss : 'It ends your sign-in on all devices.';
    if (await isConfirmed(`Sign out? ${why}`, 'Sign out')) this.#try(() => this.client.api.signOut().then(this.signedOut));
  }

  async #signIn(as) {
    const session = await this.client.api.signIn(as);
    this.#dialog.close();
    this.changed();
    const { connection, identity, rooms } = this.client;
    const isAnother = session.user.id !== identity.user?.id;
    for (const room of isAnother ? rooms.keys() : []) connection.link?.unfollow(room); // or others would see both for a while
    this.client.reconnect(); // a connection keeps the user with whom it began
    identity.is(session.user, session);
  }

  async #try(change) {
    const form = byId('account-form');
    if (form.ariaBusy) return; // the button was pressed twice
    form.ariaBusy = 'true';
    this.#problem.textContent = '';
    try {
      await change();
    } catch (error) {
      this.#problem.textContent = error.message;
    } finally {
      form.ariaBusy = null;
    }
  }
}
