// The native dialect for browsers (and for Node 22 or newer): one class, no dependencies, reconnects and resumes by itself.
//
//   const game = new NativeGame({ relay: "ws://127.0.0.1:4000", game: "arena", name: "Ann" }, {
//     joined: ({ playerId, tickHz }) => …,            // also after each reconnect; `resumed` says whether the seat is the old one
//     frame: ({ whole, positions, objects }) => …,    // `whole`: forget what you have
//     roster: (players, { crowd }) => …,              // Map of player id → { user, name }; `crowd`: too many to list, so many are there
//     names: (players) => …,                          // the same Map of those that `who` asked for
//     event: ({ code, sender, payload }) => …,        // payload is a Uint8Array
//     closed: ({ code, reason, retryInMs }) => …,     // retryInMs null: it does not come back
//   });
//   game.move(1.5, -2);
//   game.close();
//
// The records are those of docs/PROTOCOL.md, section 3: big-endian, one per binary message.

/** Why a player is gone, by the number in the Roster record. */
const LEAVE_REASONS = ["left", "timed out", "kicked", "replaced"];
const RATE_CLASSES = ["?", "move", "object", "event", "ping", "bytes"];
const CORRECTION_REASONS = ["?", "out of bounds", "too fast"];
const NOTICE_REASONS = ["?", "idle", "drain"];
const ERROR_CODES = ["?", "malformed", "unauthorized", "not yours", "limit reached", "no such player"];
/** Scopes of an event, by the word that Phoenix clients use. */
const SCOPES = { others: 0, all: 1 };
const PLAYER_SCOPE = 2;

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

  /**
   * Connects. `options`: relay (ws://host:port), game, name, token; user, an id that counts in development mode; WebSocket, a class to use instead of the global one.
   * Every handler is optional: connecting, joined, frame, roster, names, event, correction, limited, notice, refused, latency, closed.
   */
  constructor(options, handlers) {
    this.#options = options;
    this.#on = handlers;
    this.#connect();
  }

  /** Reports where the own player is. */
  move(x, y) {
    this.#inputSeq = (this.#inputSeq + 1) & 0xffff;
    const record = recordOf(0x01, 12);
    record.setUint16(2, this.#inputSeq);
    record.setFloat32(4, x);
    record.setFloat32(8, y);
    this.#send(record);
  }

  /** Sends an event to "others", "all" or one player (its id). The payload is at most 1,024 bytes. */
  event(code, payload, to = "others") {
    const record = recordOf(0x06, 8 + payload.length);
    record.setUint8(1, SCOPES[to] ?? PLAYER_SCOPE);
    record.setUint16(2, code);
    record.setUint32(4, typeof to === "number" ? to : 0);
    new Uint8Array(record.buffer).set(payload, 8);
    this.#send(record);
  }

  /** Puts an object there, or moves it. */
  putObject({ id, type = 0, flags = 0, x, y }) {
    const record = recordOf(0x04, 20);
    record.setUint32(4, id);
    record.setUint16(8, type);
    record.setUint16(10, flags);
    record.setFloat32(12, x);
    record.setFloat32(16, y);
    this.#send(record);
  }

  /** Asks what players are called, at most 256 ids; the answer comes to `names`. In a crowd the roster does not say. */
  who(ids) {
    const record = recordOf(0x0c, 4 + 4 * ids.length);
    record.setUint16(2, ids.length);
    ids.forEach((id, index) => record.setUint32(4 + 4 * index, id));
    this.#send(record);
  }

  /** Measures the way to the relay and back; the answer comes to `latency`. */
  ping() {
    const record = recordOf(0x07, 16);
    record.setBigUint64(8, BigInt(Math.round(performance.now() * 1000)));
    this.#send(record);
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
      heardAt: performance.now(),
      askedAt: null, // when it was asked for a sign of life, until something comes
      seqAtJoin: 0n,
      roster: null, // the parts of a Roster of which the last has not come
      drain: null,
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
    this.#on.closed?.({ ...close, opened, asked: this.#finished, everJoined: this.#everJoined, retryInMs });
  }

  #send(record) {
    const { socket } = this.#connection;
    if (socket.readyState === 1) socket.send(record.buffer);
  }

  #read(record) {
    switch (record.getUint8(0)) {
      case 0x81: return this.#welcome(record);
      case 0x82: return this.#on.frame?.(keyframe(record));
      case 0x83: return this.#on.frame?.(delta(record));
      case 0x84: return this.#event(record);
      case 0x85: return this.#on.latency?.(performance.now() - Number(record.getBigUint64(8)) / 1000);
      case 0x86: return this.#roster(record);
      case 0x87: return this.#on.limited?.({ what: RATE_CLASSES[record.getUint8(1)] ?? "?", retryAfterMs: record.getUint32(4) });
      case 0x88: return this.#on.correction?.({
        reason: CORRECTION_REASONS[record.getUint8(1)] ?? "?",
        x: record.getFloat32(4),
        y: record.getFloat32(8),
      });
      case 0x89: return this.#notice(record);
      case 0x8a: return this.#on.refused?.({ code: ERROR_CODES[record.getUint8(1)] ?? "?", text: textOf(record, 4, record.byteLength - 4) });
    }
  }

  #welcome(record) {
    const flags = record.getUint8(1);
    const resumed = (flags & 1) !== 0;
    const missedFollow = (flags & 2) !== 0;
    const [minX, minY, maxX, maxY, maxSpeed] = [52, 56, 60, 64, 68].map((at) => record.getFloat32(at));
    this.#connection.welcomed = true;
    this.#closeAbandoned();
    this.#connection.seqAtJoin = record.getBigUint64(16);
    if (!missedFollow) this.#seq = this.#connection.seqAtJoin;
    this.#resumeToken = hexOf(record, 36, 16);
    this.#attempt = 0;
    this.#everJoined = true;
    this.#on.joined?.({
      playerId: record.getUint32(4),
      tickHz: record.getUint16(2),
      epoch: String(record.getBigUint64(8)),
      bounds: { minX, minY, maxX, maxY },
      maxSpeed,
      resumed,
      missedFollow,
      development: (flags & 4) !== 0,
    });
  }

  #event(record) {
    const seq = record.getBigUint64(8);
    if (seq > this.#seq) this.#seq = seq;
    this.#on.event?.({
      code: record.getUint16(2),
      sender: record.getUint32(4),
      seq: String(seq),
      missed: seq <= this.#connection.seqAtJoin,
      payload: new Uint8Array(record.buffer, 16),
    });
  }

  #roster(record) {
    const flags = record.getUint8(1);
    const whole = (flags & 1) !== 0;
    if ((flags & 4) !== 0) {
      const answer = new Map();
      readJoined(record, answer);
      return this.#on.names?.(answer);
    }
    // A large roster comes in several records, of which only the first is marked as whole.
    this.#connection.roster ??= { whole, players: new Map(whole ? [] : this.#players), joined: [], left: [] };
    const { players, joined, left } = this.#connection.roster;
    const read = readJoined(record, players);
    joined.push(...read.ids);
    let { at } = read;
    for (let count = record.getUint16(4); count > 0; count--, at += 5) {
      const id = record.getUint32(at);
      left.push({ id, name: players.get(id)?.name, reason: LEAVE_REASONS[record.getUint8(at + 4)] ?? "?" });
      players.delete(id);
    }
    const continues = (flags & 2) !== 0;
    if (continues) return;
    this.#players = players;
    const crowd = (flags & 8) !== 0 ? record.getUint32(at) : null;
    this.#on.roster?.(new Map(players), { whole: this.#connection.roster.whole, joined, left, crowd });
    this.#connection.roster = null;
  }

  #notice(record) {
    const notice = {
      reason: NOTICE_REASONS[record.getUint8(1)] ?? "?",
      timeoutMs: record.getUint32(4),
      retryAfterMs: record.getUint32(8),
      jitterMs: record.getUint32(12),
    };
    if (notice.reason === "drain") this.#connection.drain = notice;
    this.#on.notice?.(notice);
  }
}

function recordOf(kind, bytes) {
  const record = new DataView(new ArrayBuffer(bytes));
  record.setUint8(0, kind);
  return record;
}

/** Adds to `players` who joined: their ids, and where the next list of the Roster starts. */
function readJoined(record, players) {
  const ids = [];
  let at = 6;
  for (let count = record.getUint16(2); count > 0; count--) {
    const id = record.getUint32(at);
    const userBytes = record.getUint8(at + 4);
    const nameAt = at + 5 + userBytes;
    const nameBytes = record.getUint8(nameAt);
    players.set(id, { user: textOf(record, at + 5, userBytes), name: textOf(record, nameAt + 1, nameBytes) });
    ids.push(id);
    at = nameAt + 1 + nameBytes;
  }
  return { ids, at };
}

function keyframe(record) {
  return { whole: true, tick: record.getUint32(4), gonePlayers: [], goneObjects: [], ...gameState(record, 8) };
}

function delta(record) {
  const [positions, objects] = [record.getUint32(8), record.getUint32(12)];
  const goneAt = 20 + 12 * positions + 16 * objects;
  const gonePlayers = idsOf(record, goneAt, record.getUint16(2));
  return {
    whole: false,
    tick: record.getUint32(4),
    ...entriesOf(record, 20, positions, objects),
    gonePlayers,
    goneObjects: idsOf(record, goneAt + 4 * gonePlayers.length, record.getUint32(16)),
  };
}

/** `n u32 | m u32 | n × (id u32, x f32, y f32) | m × (id u32, type u16, flags u16, x f32, y f32)`, which Phoenix clients get as `game_update`. */
export function gameState(view, at) {
  return entriesOf(view, at + 8, view.getUint32(at), view.getUint32(at + 4));
}

function entriesOf(view, at, positionCount, objectCount) {
  const positions = [];
  for (; positions.length < positionCount; at += 12)
    positions.push({ id: view.getUint32(at), x: view.getFloat32(at + 4), y: view.getFloat32(at + 8) });
  const objects = [];
  for (; objects.length < objectCount; at += 16)
    objects.push({
      id: view.getUint32(at),
      type: view.getUint16(at + 4),
      flags: view.getUint16(at + 6),
      x: view.getFloat32(at + 8),
      y: view.getFloat32(at + 12),
    });
  return { positions, objects };
}

function idsOf(view, at, count) {
  return Array.from({ length: count }, (_, index) => view.getUint32(at + 4 * index));
}

function textOf(view, at, bytes) {
  return new TextDecoder().decode(new Uint8Array(view.buffer, at, bytes));
}

function hexOf(view, at, bytes) {
  return Array.from(new Uint8Array(view.buffer, at, bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
