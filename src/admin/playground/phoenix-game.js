// The Phoenix dialect, spoken by the unchanged npm client `phoenix`: the same methods and handlers as NativeGame of corelay.mjs.

import { Presence, Socket } from "./phoenix.mjs";
import { bareId, gameState, retryDelay, seatOf } from "./corelay.mjs";
import { Beat, layoutOf, moveTo, objectAt } from "./phoenix-layout.js";
import { PLAIN_LAYOUT } from "./records.mjs";
import { World } from "./world.mjs";

export class PhoenixGame {
  /** As NativeGame's: what the relay has told, with players named by their ids also where it names seats. */
  world = new World();
  layout = PLAIN_LAYOUT;
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
  #inputSeq = 0;
  #beat = new Beat();
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

  /** Returns the number that an ack or a correction repeats; null: there is no connection. */
  step(place) {
    const inputSeq = (this.#inputSeq % 0xffff) + 1;
    if (!this.#push("move", moveTo(place, inputSeq, this.layout))) return null;
    this.#inputSeq = inputSeq;
    return inputSeq;
  }

  setView(radius) {
    this.#push("set_view", { radius });
  }

  /** Asks what players are called; the answer comes to `names`. */
  who(ids) {
    this.#push("who", { ids })?.receive("ok", ({ players }) => {
      const named = new Map(players.map(({ id, user_id: user, name }) => [id, { user, name: name || user, status: "online" }]));
      this.#tellRenamed(this.world.learn(named.keys()));
      this.#on.names?.(named);
    });
  }

  event(code, payload, to = "others") {
    this.#push("game_event", { code, to, payload: decoded(payload) });
  }

  putObject(object) {
    this.#push("game_state", objectAt(object, this.layout));
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
      layout: 1,
      ack: true,
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
    this.layout = layoutOf(reply);
    this.#beat.start(reply.tick_hz);
    this.world.welcome({ epoch: String(reply.epoch), playerId: reply.player_id });
    // What follows is the whole.
    this.world.frame({ ...NOTHING, whole: true }, this.layout);
    const { min, max } = this.layout;
    this.#on.joined?.({
      playerId: reply.player_id,
      tickHz: reply.tick_hz,
      epoch: String(reply.epoch),
      bounds: { minX: min[0], minY: min[1], maxX: max[0], maxY: max[1] },
      layout: this.layout,
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
    on("game_update", (data) => this.#state(data, false));
    on("game_snapshot", (data) => this.#state(data, true));
    // Above a number of players presence lists nobody; who is gone is told all the same.
    on("players_removed", ({ ids }) => this.#gone({ gonePlayers: ids }));
    on("objects_removed", ({ ids }) => this.#gone({ goneObjects: ids }));
    on("overview", ({ begins, places }) => this.#overviewed(begins, places));
    on("ack", ({ input_seq: inputSeq, tick, slack_ms: slackMs }) => this.#on.ack?.({ inputSeq, tick, slackMs: slackMs ?? null }));
    on("game_event", (event) => this.#event(event, false));
    on("near_event", ({ code, sender, payload, payload_b64: base64 }) =>
      this.#on.event?.({ code, sender, near: true, seq: null, payload: bytesOf(payload, base64), missed: false }));
    on("presence_count", ({ online }) => this.#on.roster?.(new Map(this.#players), { whole: false, joined: [], left: [], crowd: online }));
    on("catch_up", (answer) => this.#caughtUp(answer));
    on("correction", ({ reason, x, y, z, input_seq: inputSeq }) =>
      this.#on.correction?.({ reason: String(reason).replaceAll("_", " "), x, y, ...(z !== undefined && { z }), inputSeq }));
    on("rate_limited", ({ class: what, retry_after: retryAfterMs }) => this.#on.limited?.({ what, retryAfterMs }));
    on("disconnect_warning", ({ timeout }) => this.#on.notice?.({ reason: "idle", timeoutMs: timeout }));
    on("server_draining", ({ timeout, retry_after: retryAfterMs, jitter: jitterMs }) => {
      this.#drain = { reason: "drain", timeoutMs: timeout, retryAfterMs, jitterMs };
      this.#on.notice?.(this.#drain);
    });
    on("user_disconnected", ({ user_id: user, reason }) => this.#leaveReasons.set(user, reason));
    this.#presence.onSync(() => this.#synced());
  }

  #state(data, whole) {
    const tick = this.#beat.next(performance.now());
    this.#frame({ ...NOTHING, ...gameState(new DataView(data), 0, this.layout), whole, tick });
  }

  /** Who is gone is named by id, also where positions name seats. */
  #gone({ gonePlayers = [], goneObjects = [] }) {
    const isSeats = this.layout.number === "u16";
    const isShown = (id) => this.world.positions.has(id) || this.world.positions.has(bareId(seatOf(id)));
    const players = isSeats ? gonePlayers.filter(isShown).map(seatOf) : gonePlayers;
    this.#frame({ ...NOTHING, gonePlayers: players, goneObjects, tick: this.#beat.tick, silent: true });
  }

  #frame(frame) {
    this.#on.frame?.(this.world.frame(frame, this.layout));
  }

  #overviewed(begins, places) {
    const { min, max } = this.layout;
    const coordinate = (axis, value) => min[axis] + (value * (max[axis] - min[axis])) / 255;
    const players = places.map(([seat, x, y]) => ({ seat, x: coordinate(0, x), y: coordinate(1, y) }));
    this.world.overviewed({ begins, tick: this.#beat.tick, players });
  }

  /** Positions that were told under what stood for an id are told again under the id. */
  #tellRenamed(renamed) {
    if (renamed.length === 0) return;
    const positions = renamed.map(({ to }) => this.world.positions.get(to));
    this.#on.frame?.({ ...NOTHING, tick: this.#beat.tick, positions, gonePlayers: renamed.map(({ from }) => from), renamed, silent: true });
  }

  #event({ code, sender, seq, payload, payload_b64: base64 }, missed) {
    if (this.#position && seq > this.#position.seq) this.#position = { ...this.#position, seq };
    this.#on.event?.({ code, sender, near: false, seq: String(seq), payload: bytesOf(payload, base64), missed });
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
    this.#tellRenamed(this.world.roster({ whole: true, crowd: null, joined: now, left }));
    this.#on.roster?.(new Map(now), { whole, joined, left, crowd: null });
    if (left.length > 0) this.#gone({ gonePlayers: left.map(({ id }) => id) });
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

/** A frame that says nothing. */
const NOTHING = Object.freeze({ whole: false, positions: [], objects: [], gonePlayers: [], goneObjects: [] });

/** JSON travels as JSON; what is no JSON, as text. */
function decoded(bytes) {
  const text = new TextDecoder().decode(bytes);
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Of an event: base64 when a native player sent it. */
function bytesOf(payload, base64) {
  if (base64 !== undefined) return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  return new TextEncoder().encode(typeof payload === "string" ? payload : JSON.stringify(payload ?? null));
}
