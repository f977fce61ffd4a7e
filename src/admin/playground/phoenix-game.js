// The Phoenix dialect, spoken by the unchanged npm client `phoenix`: the same methods and handlers as NativeGame of corelay.mjs.

import { Presence, Socket } from "./phoenix.mjs";
import { gameState, retryDelay } from "./corelay.mjs";

export class PhoenixGame {
  #options;
  #on;
  #socket;
  #channel;
  #presence;
  #attempt = 0;
  #everJoined = false;
  #finished = false;
  #drain = null;
  #resumeToken = null;
  #position = null; // {epoch, seq} of the last event that was seen
  #players = new Map();
  #leaveReasons = new Map(); // user → why it went last
  #opened = false;
  #playerId = 0;
  #retryInMs = 0;

  /** `options` and `handlers` as NativeGame's; a roster entry has a `status` as well. */
  constructor(options, handlers) {
    this.#options = options;
    this.#on = handlers;
    this.#on.connecting?.(0);
    this.#socket = new Socket(new URL("/socket", options.relay).href, {
      transport: options.WebSocket ?? WebSocket,
      ...(options.user && { params: { user: options.user } }),
      // A network that stops without a word is noticed within two of these.
      heartbeatIntervalMs: 5000,
      ...(options.token && { authToken: options.token }),
      // Asked before the close is reported, so without its code.
      reconnectAfterMs: () => (this.#retryInMs = retryDelay({ code: 1006 }, this.#attempt, this.#drain)),
    });
    this.#channel = this.#socket.channel(`game:${options.game}`, () => this.#joinPayload());
    this.#presence = new Presence(this.#channel);
    this.#listen();
    this.#socket.connect();
    this.#channel
      .join()
      .receive("ok", (reply) => this.#joined(reply))
      .receive("error", (reply) => this.#denied(reply.reason ?? JSON.stringify(reply)))
      .receive("timeout", () => this.#denied("no answer within 10 s"));
  }

  move(x, y) {
    const state = new DataView(new ArrayBuffer(20));
    state.setUint32(0, 1);
    state.setUint32(8, this.#playerId);
    state.setFloat32(12, x);
    state.setFloat32(16, y);
    this.#push("game_state", state.buffer);
  }

  event(code, payload, to = "others") {
    this.#push("game_event", { code, to, payload: decoded(payload) });
  }

  putObject({ id, type = 0, flags = 0, x, y }) {
    const state = new DataView(new ArrayBuffer(24));
    state.setUint32(4, 1);
    state.setUint32(8, id);
    state.setUint16(12, type);
    state.setUint16(14, flags);
    state.setFloat32(16, x);
    state.setFloat32(20, y);
    this.#push("game_state", state.buffer);
  }

  /** Tells the others what one is doing: "online", "away", "typing". */
  setStatus(status) {
    this.#push("presence_update", { status });
  }

  /** The channel's heartbeat, not the socket's: it goes the way that moves go. */
  ping() {
    const asked = performance.now();
    this.#push("heartbeat", {})?.receive("ok", () => this.#on.latency?.(performance.now() - asked));
  }

  close() {
    this.#finished = true;
    this.#channel.leave();
    this.#socket.disconnect(null, 1000);
    this.#on.closed?.({ code: 1000, reason: "", asked: true, everJoined: this.#everJoined, retryInMs: null });
  }

  // phoenix.js keeps what is pushed before a join for later. Positions of the past are worth nothing then.
  #push(event, payload) {
    return this.#channel.state === "joined" && this.#socket.isConnected() ? this.#channel.push(event, payload) : undefined;
  }

  #joinPayload() {
    const { name } = this.#options;
    return {
      ...(name && { name }),
      ...(this.#resumeToken && { resume_token: this.#resumeToken }),
      ...(this.#position && { resume: this.#position }),
    };
  }

  #joined(reply) {
    const resumed = reply.player_id === this.#playerId && reply.epoch === this.#position?.epoch;
    this.#playerId = reply.player_id;
    this.#resumeToken = reply.resume_token;
    if (!resumed) {
      this.#players.clear();
      this.#position = { epoch: reply.epoch, seq: reply.seq };
    }
    this.#attempt = 0;
    this.#everJoined = true;
    const { min_x: minX, min_y: minY, max_x: maxX, max_y: maxY } = reply.bounds;
    this.#on.joined?.({
      playerId: reply.player_id,
      tickHz: reply.tick_hz,
      epoch: String(reply.epoch),
      // null: there is no bound.
      bounds: { minX: minX ?? -Infinity, minY: minY ?? -Infinity, maxX: maxX ?? Infinity, maxY: maxY ?? Infinity },
      maxSpeed: reply.max_speed ?? Infinity,
      resumed,
      missedFollow: resumed,
    });
  }

  /** phoenix.js would ask again for ever; a person should read why instead. */
  #denied(reason) {
    if (this.#finished) return;
    this.#finished = true;
    this.#channel.leave();
    this.#socket.disconnect(null, 1000);
    this.#on.closed?.({ code: 1000, reason, denied: reason, everJoined: this.#everJoined, retryInMs: null });
  }

  #listen() {
    this.#socket.onOpen(() => (this.#opened = true));
    this.#socket.onClose((close) => this.#closed(close));
    // Also after the own leave; then everything is over already.
    this.#channel.onClose(() => this.#denied("the relay closed the topic"));
    const on = (event, handle) => this.#channel.on(event, handle);
    // Every update holds changed entries only; the first one after a join is changed against nothing.
    on("game_update", (data) => this.#on.frame?.({ whole: false, gonePlayers: [], goneObjects: [], ...gameState(new DataView(data), 0) }));
    // Above a number of players presence lists nobody; who is gone is told all the same.
    on("players_removed", ({ ids }) =>
      this.#on.frame?.({ whole: false, positions: [], objects: [], gonePlayers: ids, goneObjects: [], silent: true }));
    on("objects_removed", ({ ids }) =>
      this.#on.frame?.({ whole: false, positions: [], objects: [], gonePlayers: [], goneObjects: ids, silent: true }));
    on("game_event", (event) => this.#event(event, false));
    on("catch_up", (answer) => this.#caughtUp(answer));
    on("correction", ({ reason, x, y }) => this.#on.correction?.({ reason: String(reason).replaceAll("_", " "), x, y }));
    on("rate_limited", ({ class: what, retry_after: retryAfterMs }) => this.#on.limited?.({ what, retryAfterMs }));
    on("disconnect_warning", ({ timeout }) => this.#on.notice?.({ reason: "idle", timeoutMs: timeout }));
    on("server_draining", ({ timeout, retry_after: retryAfterMs, jitter: jitterMs }) => {
      this.#drain = { reason: "drain", timeoutMs: timeout, retryAfterMs, jitterMs };
      this.#on.notice?.(this.#drain);
    });
    on("user_disconnected", ({ user_id: user, reason }) => this.#leaveReasons.set(user, reason));
    this.#presence.onSync(() => this.#synced());
  }

  #event({ code, sender, seq, payload, payload_b64: base64 }, missed) {
    if (this.#position && seq > this.#position.seq) this.#position = { ...this.#position, seq };
    const bytes = base64 === undefined ? encoded(payload) : Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    this.#on.event?.({ code, sender, seq: String(seq), payload: bytes, missed });
  }

  #caughtUp({ events, recovered, reason, epoch, seq }) {
    for (const { event, seq, payload } of events) if (event === "game_event") this.#event({ ...payload, seq }, true);
    this.#position = { epoch, seq };
    if (!recovered) this.#on.lost?.(reason);
  }

  /** Presence lists users with a meta per connection; the roster lists players. */
  #synced() {
    const now = new Map();
    this.#presence.list((user, { metas }) => {
      for (const { player_id: id, name, status } of metas)
        if (id !== undefined) now.set(id, { user, name: name || user, status: status ?? "online" });
    });
    const joined = [...now.keys()].filter((id) => !this.#players.has(id));
    const left = [...this.#players]
      .filter(([id]) => !now.has(id))
      .map(([id, { user, name }]) => ({ id, name, reason: this.#leaveReasons.get(user) ?? "left" }));
    for (const { user } of now.values()) this.#leaveReasons.delete(user);
    const whole = this.#players.size === 0;
    this.#players = now;
    this.#on.roster?.(new Map(now), { whole, joined, left });
    const gonePlayers = left.map(({ id }) => id);
    if (gonePlayers.length > 0)
      this.#on.frame?.({ whole: false, positions: [], objects: [], gonePlayers, goneObjects: [], silent: true });
  }

  #closed({ code, reason }) {
    if (this.#finished) return;
    const comesBack = this.#everJoined && retryDelay({ code, reason }, 0, null) !== null;
    const retryInMs = comesBack ? this.#retryInMs : null;
    const opened = this.#opened;
    this.#drain = null;
    this.#opened = false;
    this.#attempt += 1;
    if (retryInMs === null) {
      this.#finished = true;
      this.#socket.disconnect();
    }
    this.#on.closed?.({ code, reason, opened, everJoined: this.#everJoined, retryInMs });
  }
}

/** JSON travels as JSON; what is no JSON, as text. */
function decoded(bytes) {
  const text = new TextDecoder().decode(bytes);
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function encoded(value) {
  return new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value ?? null));
}
