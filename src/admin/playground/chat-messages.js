// The messages of a room that the page has, as they are now: events come one by one, pages of old ones in front.

export class Messages {
  /** In the order of their numbers: {id, seq, user_id, name, body, inserted_at, edited_at?} or {id, seq, deleted}. None is changed, but replaced. */
  list = [];
  /** Whether the room may keep older ones. */
  hasOlder = false;

  /** What a `room_state` shows; `seq` is the end of the stream. */
  reset(messages, seq) {
    this.list = [...messages];
    this.hasOlder = (messages[0]?.seq ?? seq + 1) > 1;
  }

  /** A page of `history`. */
  prepend({ messages, more }) {
    const first = this.list[0]?.seq ?? Infinity;
    this.list.unshift(...messages.filter(({ seq }) => seq < first));
    // A page without a message leaves nothing to ask for the one before it with.
    this.hasOlder = more && messages.length > 0;
  }

  /** A message, perhaps one that is known already. */
  add(message) {
    const index = this.list.findLastIndex(({ seq }) => seq <= message.seq);
    if (this.list[index]?.id === message.id) this.list[index] = message;
    else if (index >= 0 || !this.hasOlder) this.list.splice(index + 1, 0, message);
  }

  edit({ id, body, edited_at }) {
    this.#replace(id, (message) => (message.deleted ? message : { ...message, body, edited_at }));
  }

  delete({ id }) {
    this.#replace(id, ({ seq }) => ({ id, seq, deleted: true }));
  }

  find(id) {
    return this.list.find((message) => message.id === id);
  }

  #replace(id, change) {
    const index = this.list.findLastIndex((message) => message.id === id);
    if (index >= 0) this.list[index] = change(this.list[index]);
  }
}
