// A room, spoken by the unchanged npm client `phoenix`: what it says, what the page says in it, and what was missed. No DOM.

import { Messages } from "./chat-messages.js";
import { Outbox } from "./chat-outbox.js";
import { isPassing, refusalText } from "./chat-words.js";
import { retryDelay } from "./corelay.mjs";
import { Presence, Socket } from "./phoenix.mjs";

/** How long a person counts as typing that nobody says has stopped: the relay says so after 3 s. */
const TYPING_MAX_MS = 6000;
/** The relay forgets within 3 s that one types. */
const TYPING_AGAIN_MS = 2000;
/** A marker is a write to the disk: of several that come at once the last is enough. */
const MARKER_INTERVAL_MS = 1000;
const PAGE_MESSAGES = 50;

export class Chat {
  /** "joining", "joined", "waiting" (lost; it comes back), "ended" */
  state = "joining";
  userId = null;
  messages = new Messages();
  outbox = new Outbox({
    push: (body, clientId) => this.#push("new_message", { body, client_id: clientId }),
    said: (message) => this.messages.add(message),
    changed: () => this.#on.changed(),
  });
  /** User id → {name, status, devices}; not kept up in a crowd. */
  members = new Map();
  /** How many are here when they are too many to list; else null. */
  crowd = null;
  /** User id → timer. */
  typing = new Map();
  /** The number of the last message before the line "new"; null: there is no line. */
  line = null;
  /** Messages of others since somebody looked. */
  unread = 0;
  /** How many messages were missed while away, until somebody has read it. */
  missed = 0;
  isLoadingOlder = false;
  /** When the next attempt to connect is, by performance.now(). */
  retryAt = null;

  #options;
  #on;
  #socket;
  #channel;
  #presence;
  #position = null; // {epoch, seq} of the last event that was seen
  #everJoined = false;
  #opened = false;
  #attempt = 0;
  #drain = null;
  #retryInMs = 0;
  #joinRetryMs = 0;
  #isWatched = false;
  #marker = { sent: 0, seen: 0, at: -Infinity, timer: null };
  #typedAt = -Infinity;
  #unanswered = new Set();

  /**
   * `options`: relay, room, user (counts in development mode), name, token, WebSocket. Handlers: `changed()`;
   * `log(kind, text)`; `ended({code, reason, denied, opened, everJoined})` when it does not come back by itself.
   */
  constructor(options, handlers) {
    this.#options = options;
    this.#on = handlers;
    const { relay, room, user, name, token } = options;
    this.#socket = new Socket(new URL("/socket", relay).href, {
      transport: options.WebSocket ?? WebSocket,
      params: { user, name },
      heartbeatIntervalMs: 5000,
      ...(token && { authToken: token }),
      // Asked before the close is reported, so without its code.
      reconnectAfterMs: () => (this.#retryInMs = retryDelay({ code: 1006 }, this.#attempt, this.#drain)),
      rejoinAfterMs: (tries) => Math.max(this.#joinRetryMs, retryDelay({ code: 1006 }, tries, null)),
    });
    this.#channel = this.#socket.channel(`room:${room}`, () => ({ ...(name && { name }), ...(this.#position && { resume: this.#position }) }));
    this.#presence = new Presence(this.#channel);
    this.#listen();
    this.#socket.connect();
    this.#channel
      .join()
      .receive("ok", (reply) => this.#joined(reply))
      .receive("error", (refusal) => this.#notJoined(refusal));
  }

  get room() {
    return this.#options.room;
  }

  say(body) {
    this.line = null;
    this.missed = 0;
    this.#typedAt = -Infinity;
    this.outbox.say(body);
  }

  edit(id, body) {
    return this.#push("edit_message", { id, body });
  }

  delete(id) {
    return this.#push("delete_message", { id });
  }

  /** `act`: mute, unmute, ban, unban. */
  moderate(act, userId, seconds) {
    return this.#push(act, { user_id: userId, ...(seconds && { seconds }) });
  }

  async loadOlder() {
    if (this.isLoadingOlder) return;
    this.isLoadingOlder = true;
    this.#on.changed();
    try {
      const before = this.messages.list[0]?.seq ?? this.#position.seq + 1;
      this.messages.prepend(await this.#push("history", { before, limit: PAGE_MESSAGES }));
    } finally {
      this.isLoadingOlder = false;
      this.#on.changed();
    }
  }

  /** The person types; `isEmpty`: and has deleted everything. */
  typed(isEmpty) {
    const now = performance.now();
    if (!this.#canPush || (!isEmpty && now - this.#typedAt < TYPING_AGAIN_MS)) return;
    this.#typedAt = isEmpty ? -Infinity : now;
    this.#channel.push("typing", { typing: !isEmpty });
  }

  /** Whether somebody looks at the newest message. */
  watch(isWatched) {
    this.#isWatched = isWatched;
    if (!isWatched) return;
    if (this.unread > 0) {
      this.unread = 0;
      this.#on.changed();
    }
    this.#mark();
  }

  forgetMissed() {
    this.missed = 0;
    this.#on.changed();
  }

  nameOf(userId) {
    return this.members.get(userId)?.name ?? this.messages.list.findLast((message) => message.user_id === userId)?.name ?? userId;
  }

  leave() {
    this.#end();
    this.#channel.leave();
    this.#socket.disconnect(null, 1000);
  }

  // ------------------------------------------------------------------------------------------------------- connection

  #listen() {
    this.#socket.onOpen(() => (this.#opened = true));
    this.#socket.onClose((close) => this.#lost(close));
    this.#channel.onError(() => this.#giveUpAnswers());
    // Also after the own leave; then everything is over already.
    this.#channel.onClose(() => this.#denied("banned"));
    const on = (event, handle) =>
      this.#channel.on(event, (payload) => {
        handle(payload);
        this.#on.changed();
      });
    on("room_state", (state) => this.#restart(state));
    on("catch_up", (answer) => this.#caughtUp(answer));
    for (const event of ["new_message", "message_edited", "message_deleted"]) on(event, (payload) => this.#event(event, payload, false));
    on("user_typing", ({ user_id: user, typing }) => this.#showTyping(user, typing));
    on("presence_state", () => (this.crowd = null));
    on("presence_count", ({ online }) => this.#crowded(online));
    on("rate_limited", ({ class: what, retry_after: ms }) => this.#on.log("notice", `room: rate limit for ${what} reached; again in ${Math.ceil(ms)} ms`));
    on("server_draining", ({ timeout, retry_after: retryAfterMs, jitter: jitterMs }) => {
      this.#drain = { retryAfterMs, jitterMs };
      this.#on.log("notice", `room: the relay drains: closed within ${timeout / 1000} s`);
    });
    this.#presence.onSync(() => this.#synced());
  }

  #joined({ epoch, seq, user_id: user, read_seq: readSeq, unread }) {
    const isBack = this.#everJoined;
    this.#everJoined = true;
    this.#attempt = 0;
    this.#joinRetryMs = 0;
    this.state = "joined";
    this.retryAt = null;
    this.userId = user;
    if (this.#position?.epoch !== epoch) {
      // `room_state` follows, at the latest behind a `catch_up` that recovers nothing.
      this.#position = { epoch, seq };
      this.#marker.seen = 0;
    }
    this.#marker.sent = readSeq;
    // Who comes for the first time has missed nothing.
    if (unread > 0 && (isBack || readSeq > 0)) {
      this.missed = unread;
      this.line = Math.max(readSeq, this.#marker.seen);
      if (!this.#isWatched) this.unread = unread;
    }
    this.#on.log("relay", `${isBack ? "back in" : "joined"} room ${this.room} as ${user}${this.missed ? `; ${this.missed} messages were missed` : ""}`);
    this.outbox.sendNext();
    this.#on.changed();
  }

  /** phoenix.js asks again by itself, for ever; that is right only for what passes. */
  #notJoined(refusal) {
    if (!isPassing(refusal)) return this.#denied(refusal);
    this.#joinRetryMs = refusal.retry_after ?? 0;
    this.#on.log("notice", `room: not joined yet: ${refusalText(refusal)}`);
  }

  #denied(refusal) {
    if (this.state === "ended") return;
    this.leave();
    this.#on.ended({ denied: typeof refusal === "string" ? { reason: refusal } : refusal, everJoined: this.#everJoined });
  }

  #lost({ code, reason }) {
    if (this.state === "ended") return;
    const comesBack = this.#everJoined && retryDelay({ code, reason }, 0, null) !== null;
    const opened = this.#opened;
    this.#drain = null;
    this.#opened = false;
    this.#attempt += 1;
    for (const user of this.typing.keys()) this.#showTyping(user, false);
    if (comesBack) {
      this.state = "waiting";
      this.retryAt = performance.now() + this.#retryInMs;
    } else {
      this.#end();
      this.#socket.disconnect();
      this.#on.ended({ code, reason, opened, everJoined: this.#everJoined });
    }
    this.#on.changed();
  }

  #end() {
    this.state = "ended";
    this.#giveUpAnswers();
    clearTimeout(this.#marker.timer);
    this.outbox.end();
    for (const timer of this.typing.values()) clearTimeout(timer);
  }

  // ----------------------------------------------------------------------------------------------------------- pushes

  get #canPush() {
    return this.state === "joined" && this.#channel.state === "joined" && this.#socket.isConnected();
  }

  /** The response of an `ok`; rejects with that of an `error`, or {reason: "offline" | "timeout"}. */
  #push(event, payload) {
    // phoenix.js would keep it for later; only messages are worth that, and `outbox` has them.
    if (!this.#canPush) return Promise.reject({ reason: "offline" });
    return new Promise((resolve, reject) => {
      this.#unanswered.add(reject);
      const settle = (how) => (response) => {
        this.#unanswered.delete(reject);
        how(response);
      };
      const push = this.#channel.push(event, payload);
      push.receive("ok", settle(resolve)).receive("error", settle(reject)).receive("timeout", settle(() => reject({ reason: "timeout" })));
    });
  }

  /** With the connection the answers are lost. */
  #giveUpAnswers() {
    for (const reject of this.#unanswered) reject({ reason: "offline" });
    this.#unanswered.clear();
  }

  /** Tells the relay how far the user has read. */
  #mark() {
    const marker = this.#marker;
    if (this.state === "joined") marker.seen = this.#position.seq;
    if (marker.timer !== null || !this.#canPush || marker.seen <= marker.sent) return;
    marker.timer = setTimeout(() => {
      marker.timer = null;
      if (!this.#canPush || marker.seen <= marker.sent) return;
      const before = marker.sent;
      marker.at = performance.now();
      marker.sent = marker.seen;
      this.#push("read_marker", { seq: marker.sent }).catch(() => (marker.sent = before));
    }, Math.max(0, marker.at + MARKER_INTERVAL_MS - performance.now()));
  }

  // ----------------------------------------------------------------------------------------------------------- events

  #restart({ messages, epoch, seq }) {
    this.messages.reset(messages, seq);
    this.#position = { epoch, seq };
  }

  #caughtUp({ events, recovered, reason, epoch, seq }) {
    for (const { event, payload } of events) this.#event(event, payload, true);
    if (!recovered) return this.#on.log("notice", `room: what was missed is not known (${reason}); its state follows`);
    this.#position = { epoch, seq };
  }

  #event(event, payload, isMissed) {
    if (payload.seq > this.#position.seq) this.#position.seq = payload.seq;
    if (event === "message_edited") this.messages.edit(payload);
    else if (event === "message_deleted") this.messages.delete(payload);
    else this.#message(payload, isMissed);
  }

  #message(message, isMissed) {
    this.messages.add(message);
    this.#showTyping(message.user_id, false);
    if (message.user_id === this.userId) {
      this.outbox.told(message.body);
    } else if (!isMissed) {
      this.#unseen(message);
    }
  }

  #unseen({ seq }) {
    if (this.#isWatched) {
      this.line = null;
      this.missed = 0;
      this.#mark();
    } else {
      this.unread += 1;
      this.line ??= seq - 1;
    }
  }

  #showTyping(user, isTyping) {
    clearTimeout(this.typing.get(user));
    this.typing.delete(user);
    if (isTyping && user !== this.userId) {
      const forget = () => {
        this.typing.delete(user);
        this.#on.changed();
      };
      this.typing.set(user, setTimeout(forget, TYPING_MAX_MS));
    }
  }

  #crowded(online) {
    this.crowd = online;
    for (const user of this.typing.keys()) this.#showTyping(user, false);
  }

  #synced() {
    this.members = new Map();
    this.#presence.list((user, { metas }) => {
      const { name, status = "online" } = metas.at(-1);
      this.members.set(user, { name: name || user, status, devices: metas.length });
    });
    for (const user of this.typing.keys()) if (!this.members.has(user)) this.#showTyping(user, false);
    this.#on.changed();
  }
}
