// A document, spoken by the client that anybody may use, `clients/javascript/documents.mjs`, over the unchanged npm client `phoenix`:
// its connection, who is here and who types. No DOM.

import { retryDelay } from "./corelay.mjs";
import { SharedDocument } from "./documents.mjs";
import { Presence, Socket } from "./phoenix.mjs";

/** Whoever has edited within this time types. */
const TYPING_MS = 2000;

export class SharedText {
  /** The SharedDocument. */
  document;
  /** User id → {name, status, devices}; not kept up in a crowd. */
  members = new Map();
  /** How many are here when they are too many to list; else null. */
  crowd = null;
  /** Why the relay does not let in yet, while it is waited for; else null. */
  refusal = null;
  /** When the next attempt is, by performance.now(). */
  retryAt = -Infinity;
  /** When edits are taken again, after too many. */
  limitedUntil = -Infinity;
  /** When the relay closes the connection, at the latest. */
  drainUntil = -Infinity;

  #options;
  #on;
  #socket;
  #presence;
  #edited = new Map(); // user id → when
  #everJoined = false;
  #opened = false;
  #attempt = 0;
  #drain = null;
  #retryInMs = 0;

  /**
   * `options`: relay, doc, user (counts in development mode), name, token, WebSocket. Handlers: `changed()`; `log(kind, text)`;
   * `conflict({mine, theirs})` and `refused({reason})` as the document's;
   * `ended({code, reason, denied, opened, everJoined})` when it does not come back by itself.
   */
  constructor(options, handlers) {
    this.#options = options;
    this.#on = handlers;
    const { relay, doc, user, name, token } = options;
    this.#socket = new Socket(new URL("/socket", relay).href, {
      transport: options.WebSocket ?? WebSocket,
      params: { user, name },
      heartbeatIntervalMs: 5000,
      ...(token && { authToken: token }),
      // Asked before the close is reported, so without its code.
      reconnectAfterMs: () => (this.#retryInMs = retryDelay({ code: 1006 }, this.#attempt, this.#drain)),
      rejoinAfterMs: (tries) => this.#rejoinAfter(tries),
    });
    this.#socket.onOpen(() => (this.#opened = true));
    this.document = new SharedDocument(this.#socket, doc, name ? { name } : {}, {
      changed: (change) => this.#changed(change),
      cursors: () => this.#on.changed(),
      saved: () => this.#on.changed(),
      state: (state, { reason }) => this.#stateChanged(state, reason),
      conflict: (texts) => this.#on.conflict(texts),
      refused: (refusal) => this.#on.refused(refusal),
    });
    this.#presence = new Presence(this.document.channel);
    this.#listen();
    // Behind the document's own, which tells the state first.
    this.#socket.onClose((close) => this.#lost(close));
    this.#socket.connect();
  }

  get name() {
    return this.#options.doc;
  }

  get state() {
    return this.document.state;
  }

  nameOf(userId) {
    return this.members.get(userId)?.name ?? userId;
  }

  /** The ids of the others who type. */
  typing(now) {
    const types = ([user, at]) => now - at < TYPING_MS && user !== this.document.userId;
    return [...this.#edited].filter(types).map(([user]) => user);
  }

  leave() {
    this.document.leave();
    this.#socket.disconnect(null, 1000);
  }

  // ------------------------------------------------------------------------------------------------------- connection

  #listen() {
    const { channel } = this.document;
    channel.joinPush.receive("ok", ({ user_id: user }) => this.#joined(user));
    channel.on("presence_state", () => (this.crowd = null));
    channel.on("presence_count", ({ online }) => {
      this.crowd = online;
      this.#on.changed();
    });
    channel.on("rate_limited", ({ class: what, retry_after: ms }) => {
      // Of what else is limited, cursors say, the user misses nothing.
      if (what === "operation") this.limitedUntil = performance.now() + ms;
      this.#on.log("notice", `document: rate limit for ${what} reached; again in ${Math.ceil(ms)} ms`);
      this.#on.changed();
    });
    channel.on("server_draining", ({ timeout, retry_after: retryAfterMs, jitter: jitterMs }) => {
      this.#drain = { retryAfterMs, jitterMs };
      this.drainUntil = performance.now() + timeout;
      this.#on.log("notice", `document: the relay drains: closed within ${timeout / 1000} s`);
      this.#on.changed();
    });
    this.#presence.onSync(() => this.#synced());
  }

  #joined(user) {
    const isBack = this.#everJoined;
    this.#everJoined = true;
    this.#attempt = 0;
    this.refusal = null;
    this.#on.log("relay", `${isBack ? "back in" : "joined"} document ${this.name} as ${user}`);
    this.#on.changed();
  }

  /** Not before the time that the refusal names, and not all clients at once. */
  #rejoinAfter(tries) {
    const { status, response } = this.document.channel.joinPush.receivedResp ?? {};
    const leastMs = status === "error" ? (response.retry_after ?? 0) : 0;
    const ms = Math.max(leastMs, retryDelay({ code: 1006 }, tries, null));
    this.retryAt = performance.now() + ms;
    return ms;
  }

  #stateChanged(state, reason) {
    if (state === "waiting") {
      this.refusal = reason;
      if (reason) this.#on.log("notice", `document: not joined yet: ${reason}`);
    }
    if (state === "ended" && reason !== "left") {
      this.#socket.disconnect(null, 1000);
      this.#on.ended({ denied: { reason }, everJoined: this.#everJoined });
    }
    this.#on.changed();
  }

  #lost({ code, reason }) {
    if (this.state === "ended") return;
    const comesBack = this.#everJoined && retryDelay({ code, reason }, 0, null) !== null;
    const opened = this.#opened;
    this.#drain = null;
    this.drainUntil = this.limitedUntil = -Infinity;
    this.#opened = false;
    this.#attempt += 1;
    this.#edited.clear();
    if (comesBack) {
      this.retryAt = performance.now() + this.#retryInMs;
    } else {
      this.leave();
      this.#on.ended({ code, reason, opened, everJoined: this.#everJoined });
    }
    this.#on.changed();
  }

  // ----------------------------------------------------------------------------------------------------------- others

  #changed({ userId, isOwn }) {
    // What was missed while away is not typed now.
    if (!isOwn && userId !== null && this.state === "live") this.#edited.set(userId, performance.now());
    this.#on.changed();
  }

  #synced() {
    this.members = new Map();
    this.#presence.list((user, { metas }) => {
      const { name, status = "online" } = metas.at(-1);
      this.members.set(user, { name: name || user, status, devices: metas.length });
    });
    for (const user of this.#edited.keys()) if (!this.members.has(user)) this.#edited.delete(user);
    this.#on.changed();
  }
}
