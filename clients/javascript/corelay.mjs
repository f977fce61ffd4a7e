// The native dialect for browsers (and for Node 22 or newer): one class, no dependencies, reconnects and resumes by itself.
//
//   const game = new NativeGame({ relay: "ws://127.0.0.1:4000", game: "arena", name: "Ann" }, {
//     joined: ({ playerId, tickHz, layout }) => …,    // also after each reconnect; `resumed` says whether the seat is the old one
//     frame: ({ whole, tick, positions, objects, gonePlayers, goneObjects }) => …, // `whole`: forget what is not named; gone ones first
//     states: ({ whole, states }) => …,               // keys of players: { id, key, value }; empty: removed; `whole`: forget all others
//     ack: ({ inputSeq, tick, slackMs }) => …,        // the last input that a tick has consumed, and how long before it that was there
//     roster: (players, { crowd }) => …,              // Map of player id → { user, name }; `crowd`: too many to list, so many are there
//     names: (players) => …,                          // the same Map of those that `who` asked for
//     event: ({ code, sender, payload }) => …,        // payload is a Uint8Array; `near`: it was for those near the sender, without number
//     malformed: ({ kind, name, text }) => …,         // a record that is none: nothing of it was used, and the game goes on
//     closed: ({ code, reason, why, retryInMs }) => …, // retryInMs null: it does not come back; `why`: of one that was no connection
//   });
//   game.step({ x: 1.5, y: -2 });                     // and z, and pose, as the layout says
//   game.world.positions;                             // everything that is known, see world.mjs
//   game.close();
//
// Drawing it smoothly: timeline.mjs, clock.mjs, prediction.mjs, pacing.mjs, each for itself.

import { PLAIN_LAYOUT, decode, nameOf } from "./records.mjs";
import * as requests from "./requests.mjs";
import { World } from "./world.mjs";

export { bareId, gameState, seatOf } from "./records.mjs";

/** Reasons after which coming back is wrong or useless: see the close codes in docs/PROTOCOL.md. */
const FINAL_CODES = new Set([1000, 1002, 1003, 1007, 1008, 1009]);
const FINAL_REASONS = new Set(["replaced", "kicked"]);
const RETRY_FIRST_MS = 250;
const RETRY_MAX_MS = 5000;

/** A connection that has brought nothing for so long is asked for a sign of life; a browser shows no pings of the relay. */
const SILENCE_MS = 5000;
/** One that then brings nothing for so long is given up: a network that is gone says nothing. */
const ANSWER_MS = 5000;
/** The same for one that has not brought a Welcome. */
const WELCOME_MS = 10_000;
const WATCH_INTERVAL_MS = 1000;

/** Where positions name seats and no Roster says whose they are, that is asked: so many at a time, which is a fifth of class event. */
const WHO_IDS = 64;
const WHO_INTERVAL_MS = 1000;
const VIEW_DEFAULT = 255;

/** Milliseconds until a client should come back after a close; null: it should not. `attempt` counts from 0, `hint` is what a drain notice said. */
export function retryDelay({ code, reason }, attempt, hint) {
  if (FINAL_CODES.has(code) || FINAL_REASONS.has(reason)) return null;
  if (hint) return hint.retryAfterMs + Math.random() * hint.jitterMs;
  const most = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** attempt);
  return most / 2 + (Math.random() * most) / 2;
}

export class NativeGame {
  #options;
  #on;
  /** What is of the present connection, and ends with it. */
  #connection = null;
  /** Sockets that were given up: they are closed when the seat is another connection's, or their close would free it. */
  #abandoned = [];
  #timer = null;
  #attempt = 0;
  #everJoined = false;
  #finished = false;
  #resumeToken = null;
  #seq = 0n;
  #inputSeq = 0;
  #players = new Map();
  #layout = PLAIN_LAYOUT;
  #isLayoutTold = false;
  #tick = 0;

  /** What the relay has told so far. */
  world = new World();

  /**
   * Connects. `options`: relay (ws://host:port), game, name, token; user, an id that counts in development mode; WebSocket, a class to use instead of the global one;
   * layout: false, ack: false, not to be told of those (a game of another layout than the plain one then refuses).
   * Every handler is optional: connecting, joined, frame, states, overview, ack, roster, names, event, correction, limited, notice, refused, latency,
   * pong, malformed, closed.
   */
  constructor(options, handlers) {
    this.#options = options;
    this.#on = handlers;
    this.#connect();
  }

  /** The layout of the game; the plain one until the relay has told another. */
  get layout() {
    return this.#layout;
  }

  /** Reports where the own player is. */
  move(x, y) {
    return this.step({ x, y });
  }

  /**
   * Reports where the own player is; without `z` 0, or what is nearest to it within the bounds; without `pose` zeros. Returns the number that an Ack or a Correction repeats; null: there is no connection.
   * @param {import("./records.mjs").Place} place
   */
  step(place) {
    // 0 is no input.
    const inputSeq = (this.#inputSeq % 0xffff) + 1;
    // A relay that tells no layout knows no Step.
    const record = this.#isLayoutTold ? requests.step(inputSeq, place, this.#layout) : requests.move(inputSeq, place);
    if (!this.#send(record)) return null;
    this.#inputSeq = inputSeq;
    return inputSeq;
  }

  /** Sets where others are: [{ id, inputSeq?, x, y, z?, pose? }]. Needs a token with `host`; `inputSeq`: the input of that player that this answers. */
  hostSteps(steps) {
    this.#send(requests.hostSteps(steps, this.#layout));
  }

  /** Tells everybody who sees the player a value of at most `layout.keyBytesMax` bytes, which is kept while the seat lives; empty: removes it. Keys are 1 to `layout.keys`. */
  setState(key, value) {
    this.#send(requests.setState(key, value, this.#layout));
  }

  /** Chooses how far the player sees, in cells, at most `layout.radiusMax`. */
  setView(radius = VIEW_DEFAULT) {
    this.#send(requests.setView(radius));
  }

  /** Sends an event to "others", "all", "near" (who sees the player) or one player (its id). The payload is at most 1,024 bytes. */
  event(code, payload, to = "others") {
    this.#send(requests.event(code, payload, to));
  }

  /** Puts an object there, or moves it: { id, type?, flags?, x, y, z? }. */
  putObject(object) {
    this.#send(requests.putObject(object, this.#layout));
  }

  removeObject(id) {
    this.#send(requests.removeObject(id));
  }

  /** Asks what players are called, at most 256 ids; the answer comes to `names`. In a crowd the roster does not say. `bareId(seat)` asks for whoever has a seat. */
  who(ids) {
    this.#send(requests.who(ids));
  }

  /** Measures the way to the relay and back; the answer comes to `latency` and `pong`. */
  ping() {
    this.#send(requests.ping(Math.round(performance.now() * 1000)));
  }

  /** Leaves for good. */
  close() {
    this.#finished = true;
    clearTimeout(this.#timer);
    clearInterval(this.#connection?.watch);
    this.#connection?.socket.close(1000);
    this.#closeAbandoned();
  }

  #connect() {
    const { relay, game, name, user, token } = this.#options;
    const url = new URL(`/play/${encodeURIComponent(game)}`, relay);
    if (name) url.searchParams.set("name", name);
    if (user) url.searchParams.set("user", user);
    for (const wish of ["layout", "ack"]) if (this.#options[wish] !== false) url.searchParams.set(wish, "1");
    if (this.#resumeToken) {
      url.searchParams.set("resume", this.#resumeToken);
      url.searchParams.set("seq", String(this.#seq));
    }
    // As a subprotocol the token is in no log of URLs.
    const protocols = ["corelay.v1"];
    if (token) protocols.push(`base64url.bearer.phx.${btoa(token).replace(/=/g, "")}`);
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    if (!Socket) throw new Error("no WebSocket here: run it with Node 22 or newer, or pass the option WebSocket (that of the npm package ws)");
    this.#on.connecting?.(this.#attempt);
    const socket = new Socket(url.href, protocols);
    const connection = {
      socket,
      opened: false,
      welcomed: false,
      welcome: null, // what `joined` will be told: it waits for the record behind the Welcome, which may be the Layout
      heardAt: performance.now(),
      askedAt: null, // when it was asked for a sign of life, until something comes
      seqAtJoin: 0n,
      roster: null, // the parts of a Roster of which the last has not come
      drain: null,
      whoAtMs: -Infinity, // when it was asked whose seats are
      watch: setInterval(() => this.#watch(connection), WATCH_INTERVAL_MS),
    };
    this.#connection = connection;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => (connection.opened = true);
    socket.onmessage = ({ data }) => {
      connection.heardAt = performance.now();
      connection.askedAt = null;
      if (data instanceof ArrayBuffer && !this.#finished) this.#read(new DataView(data));
    };
    socket.onclose = ({ code, reason }) => this.#closed({ code, reason });
    // Node tells of no close when there was no connection.
    socket.onerror = () => connection.opened || this.#giveUp(connection);
  }

  #watch(connection) {
    const now = performance.now();
    if (!connection.welcomed) {
      if (now - connection.heardAt >= WELCOME_MS) this.#giveUp(connection);
    } else if (connection.askedAt !== null) {
      if (now - connection.askedAt >= ANSWER_MS) this.#giveUp(connection);
    } else if (now - connection.heardAt >= SILENCE_MS) {
      connection.askedAt = now;
      this.ping();
    }
  }

  #giveUp({ socket, opened }) {
    // Its own close event would wait for an answer that does not come.
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    if (opened) this.#abandoned.push(socket);
    else socket.close();
    this.#closed({ code: 1006, reason: "" });
  }

  #closeAbandoned() {
    for (const socket of this.#abandoned.splice(0)) socket.close();
  }

  #closed(close) {
    const { watch, opened, drain } = this.#connection;
    clearInterval(watch);
    // Who was never in has nothing to come back to: the address, the origin or the token is wrong, and stays wrong.
    const comesBack = this.#everJoined && !this.#finished;
    const retryInMs = comesBack ? retryDelay(close, this.#attempt, drain) : null;
    this.#attempt += 1;
    if (retryInMs === null) this.#closeAbandoned();
    else this.#timer = setTimeout(() => this.#connect(), retryInMs);
    const why = opened || this.#finished ? "" : whyNot(this.#options.relay);
    this.#on.closed?.({ ...close, why, opened, asked: this.#finished, everJoined: this.#everJoined, retryInMs });
  }

  /** Returns whether there is a connection that takes it. */
  #send(record) {
    const { socket } = this.#connection;
    if (socket.readyState !== 1) return false;
    socket.send(record.buffer);
    return true;
  }

  #read(record) {
    let read;
    try {
      read = decode(record, this.#layout);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const kind = record.byteLength > 0 ? record.getUint8(0) : null;
      return this.#on.malformed?.({ kind, name: nameOf(kind), text: error.message });
    }
    if (read === null) return;
    const { name, ...fields } = read;
    if (name === "Layout") this.#laidOut(fields.layout);
    this.#tellJoined();
    switch (name) {
      case "Welcome": return this.#welcome(fields);
      case "Keyframe":
      case "Delta": return this.#frame(fields);
      case "States": return this.#states(fields);
      case "Overview": return this.#overview(fields);
      case "Ack": return this.#on.ack?.(fields);
      case "Event": return this.#event(fields);
      case "Near": return this.#on.event?.({ ...fields, near: true, seq: null, missed: false });
      case "Pong": return this.#pong(fields);
      case "Roster": return this.#roster(fields);
      case "RateLimited": return this.#on.limited?.(fields);
      case "Correction": return this.#on.correction?.(fields);
      case "Notice": return this.#notice(fields);
      case "Error": return this.#on.refused?.(fields);
    }
  }

  #welcome({ seq, resumeToken, ...welcome }) {
    const { minX, minY, maxX, maxY } = welcome.bounds;
    this.#connection.welcomed = true;
    this.#closeAbandoned();
    this.#connection.seqAtJoin = seq;
    if (!welcome.missedFollow) this.#seq = seq;
    this.#resumeToken = resumeToken;
    this.#attempt = 0;
    this.#everJoined = true;
    this.#tick = welcome.tick;
    this.#layout = { ...PLAIN_LAYOUT, min: [minX, minY], max: [maxX, maxY] };
    this.#isLayoutTold = false;
    this.world.welcome(welcome);
    this.#connection.welcome = welcome;
  }

  #laidOut(layout) {
    this.#layout = layout;
    this.#isLayoutTold = true;
  }

  #tellJoined() {
    const { welcome } = this.#connection;
    if (welcome === null) return;
    this.#connection.welcome = null;
    this.#on.joined?.({ ...welcome, layout: this.#layout });
  }

  #frame(frame) {
    this.#tick = frame.tick;
    this.#on.frame?.(this.world.frame(frame, this.#layout));
    this.#askWhose();
  }

  #states(fields) {
    const renamed = this.world.states(fields);
    this.#tellRenamed(renamed);
    this.#on.states?.(fields);
  }

  /** Positions that were told under what stood for an id are told again under the id. */
  #tellRenamed(renamed) {
    if (renamed.length === 0) return;
    this.#on.frame?.({
      whole: false,
      tick: this.#tick,
      crowdLevel: 0,
      positions: renamed.map(({ to }) => this.world.positions.get(to)),
      objects: [],
      gonePlayers: renamed.map(({ from }) => from),
      goneObjects: [],
      renamed,
    });
  }

  #askWhose() {
    const now = performance.now();
    if (now - this.#connection.whoAtMs < WHO_INTERVAL_MS) return;
    const ids = this.world.unsettled(WHO_IDS);
    if (ids.length === 0) return;
    this.#connection.whoAtMs = now;
    this.who(ids);
  }

  #overview(fields) {
    const overview = this.world.overviewed(fields);
    this.#on.overview?.(overview);
  }

  #event({ seq, ...event }) {
    if (seq > this.#seq) this.#seq = seq;
    this.#on.event?.({ ...event, near: false, seq: String(seq), missed: seq <= this.#connection.seqAtJoin });
  }

  #pong({ sentAtMs, serverTimeUs, tick }) {
    const receivedAtMs = performance.now();
    this.#on.latency?.(receivedAtMs - sentAtMs);
    this.#on.pong?.({ sentAtMs, receivedAtMs, serverTimeUs, tick });
  }

  #roster(part) {
    if (part.isAnswer) {
      this.#tellRenamed(this.world.learn(part.joined.keys()));
      return this.#on.names?.(part.joined);
    }
    // A large roster comes in several records, of which only the first is marked as whole.
    this.#tellRenamed(this.world.roster(part));
    const { whole } = part;
    this.#connection.roster ??= { whole, players: new Map(whole ? [] : this.#players), joined: [], left: [] };
    const { players, joined, left } = this.#connection.roster;
    for (const [id, player] of part.joined) {
      players.set(id, player);
      joined.push(id);
    }
    for (const { id, reason } of part.left) {
      left.push({ id, name: players.get(id)?.name, reason });
      players.delete(id);
    }
    if (part.continues) return;
    this.#players = players;
    this.#on.roster?.(new Map(players), { whole: this.#connection.roster.whole, joined, left, crowd: part.crowd });
    this.#connection.roster = null;
  }

  #notice(notice) {
    if (notice.reason === "drain") this.#connection.drain = notice;
    this.#on.notice?.(notice);
  }
}

/** What may be wrong where there was no connection: neither browsers nor Node say it. */
function whyNot(relay) {
  const trust = String(relay).startsWith("wss:") ? ", its certificate is not trusted here" : "";
  return `No connection to ${relay}: nothing listens there${trust}, or it refuses this page or token; its log says why.`;
}
