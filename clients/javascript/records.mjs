// The records of the relay as values, by the game's layout: docs/PROTOCOL.md, section 3. Big-endian, one per binary message; pure.
// `decode` throws a RangeError for a record that is malformed. What a client sends is in requests.mjs.

/** Why a player is gone, by the number in the Roster record. */
const LEAVE_REASONS = ["left", "timed out", "kicked", "replaced"];
const RATE_CLASSES = ["?", "move", "object", "event", "ping", "bytes"];
const CORRECTION_REASONS = ["?", "out of bounds", "too fast"];
const NOTICE_REASONS = ["?", "idle", "drain"];
const ERROR_CODES = ["?", "malformed", "unauthorized", "not yours", "limit reached", "no such player"];
const NUMBERS = ["f32", "u16"];

/**
 * @typedef {{
 *   number: "f32" | "u16", axes: 2 | 3, poseBytes: number, keys: number, keyBytesMax: number,
 *   rosterCountsOnly: boolean, views: boolean, radius: number, radiusMax: number, rings: number, cell: number,
 *   overviewMs: number, tick0Us: number | null, players: number, min: number[], max: number[],
 * }} Layout what the state of a player is; `tick0Us` null: the relay has not said when its ticks are. `min`, `max`: bounds per axis
 * @typedef {{ x: number, y: number, z?: number, pose?: Uint8Array }} Place
 */

/** The layout of a game whose relay tells none. @type {Layout} */
export const PLAIN_LAYOUT = Object.freeze({
  number: "f32",
  axes: 2,
  poseBytes: 0,
  keys: 0,
  keyBytesMax: 0,
  rosterCountsOnly: false,
  views: false,
  radius: 0,
  radiusMax: 0,
  rings: 0,
  cell: 0,
  overviewMs: 0,
  tick0Us: null,
  players: 0,
  min: Object.freeze([-Infinity, -Infinity]),
  max: Object.freeze([Infinity, Infinity]),
});

/** The seat of a player: u16 positions and the Overview name it. */
export function seatOf(id) {
  return (id & 0xffff) - 1;
}

/** What stands for "whoever has this seat" where a player id is meant: its low half, with an upper half of 0. */
export function bareId(seat) {
  return seat + 1;
}

/** Kind → its name, its least bytes, and how it is read. */
const KINDS = new Map([
  [0x81, ["Welcome", 72, readWelcome]],
  [0x82, ["Keyframe", 16, readKeyframe]],
  [0x83, ["Delta", 20, readDelta]],
  [0x84, ["Event", 16, readEvent]],
  [0x85, ["Pong", 28, readPong]],
  [0x86, ["Roster", 6, readRoster]],
  [0x87, ["RateLimited", 8, readRateLimited]],
  [0x88, ["Correction", 12, readCorrection]],
  [0x89, ["Notice", 16, readNotice]],
  [0x8a, ["Error", 4, readError]],
  [0x8b, ["Layout", 48, readLayout]],
  [0x8c, ["Ack", 12, readAck]],
  [0x8d, ["Overview", 8, readOverview]],
  [0x8e, ["States", 8, readStates]],
  [0x8f, ["Near", 8, readNear]],
]);

/** The name of a record's kind; null: it is not known here. */
export function nameOf(kind) {
  return KINDS.get(kind)?.[0] ?? null;
}

/**
 * A record of the relay as `{ name, …fields }`; null: its kind is not known, and the client passes over it.
 * With u16 layouts a position has a `seat` in place of an `id`.
 * @param {DataView} record @param {Layout} layout
 */
export function decode(record, layout) {
  if (record.byteLength === 0) throw new RangeError("an empty message");
  const known = KINDS.get(record.getUint8(0));
  if (!known) return null;
  const [name, bytesMin, read] = known;
  if (record.byteLength < bytesMin) throw new RangeError(`${record.byteLength} bytes, fewer than the ${bytesMin} of a ${name}`);
  return { name, ...read(record, layout) };
}

/** `n u32 | m u32 | n × Position | m × Object`, which Phoenix clients get as `game_update`. */
export function gameState(view, at, layout = PLAIN_LAYOUT) {
  return readEntries(view, at + 8, view.getUint32(at), view.getUint32(at + 4), layout);
}

function readWelcome(record) {
  const flags = record.getUint8(1);
  const [minX, minY, maxX, maxY, maxSpeed] = [52, 56, 60, 64, 68].map((at) => record.getFloat32(at));
  return {
    playerId: record.getUint32(4),
    tickHz: record.getUint16(2),
    epoch: String(record.getBigUint64(8)),
    seq: record.getBigUint64(16),
    tick: record.getUint32(24),
    serverTimeUs: Number(record.getBigUint64(28)),
    resumeToken: hexOf(record, 36, 16),
    bounds: { minX, minY, maxX, maxY },
    maxSpeed,
    resumed: (flags & 1) !== 0,
    missedFollow: (flags & 2) !== 0,
    development: (flags & 4) !== 0,
  };
}

function readLayout(record, { min, max }) {
  const number = NUMBERS[record.getUint8(1)];
  const axes = record.getUint8(2);
  if (number === undefined || (axes !== 2 && axes !== 3)) throw new RangeError(`numbers of kind ${record.getUint8(1)}, ${axes} axes`);
  const flags = record.getUint8(6);
  return {
    layout: {
      number,
      axes,
      poseBytes: record.getUint8(3),
      keys: record.getUint8(4),
      keyBytesMax: record.getUint8(5),
      rosterCountsOnly: (flags & 1) !== 0,
      views: (flags & 2) !== 0,
      radius: record.getUint8(7),
      radiusMax: record.getUint8(8),
      rings: record.getUint8(9),
      cell: record.getFloat32(12),
      overviewMs: record.getUint32(16),
      tick0Us: Number(record.getBigUint64(20)),
      players: record.getUint32(36),
      min: axes === 3 ? [min[0], min[1], record.getFloat32(28)] : [min[0], min[1]],
      max: axes === 3 ? [max[0], max[1], record.getFloat32(32)] : [max[0], max[1]],
    },
  };
}

function readKeyframe(record, layout) {
  const [positions, objects] = [record.getUint32(8), record.getUint32(12)];
  expectBytes(record, 16 + positionBytes(layout) * positions + objectBytes(layout) * objects);
  return {
    whole: true,
    tick: record.getUint32(4),
    crowdLevel: record.getUint8(1),
    ...readEntries(record, 16, positions, objects, layout),
    gonePlayers: [],
    goneObjects: [],
  };
}

function readDelta(record, layout) {
  const [positions, objects] = [record.getUint32(8), record.getUint32(12)];
  const [gonePlayers, goneObjects] = [record.getUint16(2), record.getUint32(16)];
  const isSeats = layout.number === "u16";
  const playersAt = 20 + positionBytes(layout) * positions + objectBytes(layout) * objects;
  const objectsAt = playersAt + (isSeats ? 2 : 4) * gonePlayers;
  expectBytes(record, objectsAt + 4 * goneObjects);
  return {
    whole: false,
    tick: record.getUint32(4),
    crowdLevel: record.getUint8(1),
    ...readEntries(record, 20, positions, objects, layout),
    gonePlayers: listOf(gonePlayers, (index) => (isSeats ? record.getUint16(playersAt + 2 * index) : record.getUint32(playersAt + 4 * index))),
    goneObjects: listOf(goneObjects, (index) => record.getUint32(objectsAt + 4 * index)),
  };
}

function positionBytes({ number, axes, poseBytes }) {
  return number === "u16" ? 2 + 2 * axes + poseBytes : 4 + 4 * axes + poseBytes;
}

function objectBytes({ number, axes }) {
  return 8 + (number === "u16" ? 2 : 4) * axes;
}

function readEntries(view, at, positionCount, objectCount, layout) {
  const { number, axes, poseBytes } = layout;
  const isSeats = number === "u16";
  const [idBytes, axesBytes, stride] = [isSeats ? 2 : 4, (isSeats ? 2 : 4) * axes, positionBytes(layout)];
  const positions = listOf(positionCount, (index) => {
    const start = at + stride * index;
    const key = isSeats ? { seat: view.getUint16(start) } : { id: view.getUint32(start) };
    const place = readPlace(view, start + idBytes, layout);
    if (poseBytes > 0) place.pose = bytesOf(view, start + idBytes + axesBytes, poseBytes);
    return Object.assign(key, place);
  });
  const objectsAt = at + stride * positionCount;
  const objects = listOf(objectCount, (index) => {
    const start = objectsAt + objectBytes(layout) * index;
    return {
      id: view.getUint32(start),
      type: view.getUint16(start + 4),
      flags: view.getUint16(start + 6),
      ...readPlace(view, start + 8, layout),
    };
  });
  return { positions, objects };
}

function readPlace(view, at, { number, axes, min, max }) {
  const isRaw = number === "u16";
  const coordinate = (axis) =>
    isRaw ? min[axis] + (view.getUint16(at + 2 * axis) * (max[axis] - min[axis])) / 65535 : view.getFloat32(at + 4 * axis);
  const place = { x: coordinate(0), y: coordinate(1) };
  if (axes === 3) place.z = coordinate(2);
  return place;
}

function readEvent(record) {
  return { code: record.getUint16(2), sender: record.getUint32(4), seq: record.getBigUint64(8), payload: bytesOf(record, 16) };
}

function readNear(record) {
  return { code: record.getUint16(2), sender: record.getUint32(4), payload: bytesOf(record, 8) };
}

function readPong(record) {
  return {
    sentAtMs: Number(record.getBigUint64(8)) / 1000,
    serverTimeUs: Number(record.getBigUint64(16)),
    tick: record.getUint32(24),
  };
}

function readRoster(record) {
  const flags = record.getUint8(1);
  const joined = new Map();
  let at = 6;
  for (let count = record.getUint16(2); count > 0; count--) {
    const id = record.getUint32(at);
    const userBytes = record.getUint8(at + 4);
    const nameAt = at + 5 + userBytes;
    const nameBytes = record.getUint8(nameAt);
    joined.set(id, { user: textOf(record, at + 5, userBytes), name: textOf(record, nameAt + 1, nameBytes) });
    at = nameAt + 1 + nameBytes;
  }
  const left = listOf(record.getUint16(4), () => {
    const entry = { id: record.getUint32(at), reason: LEAVE_REASONS[record.getUint8(at + 4)] ?? "?" };
    at += 5;
    return entry;
  });
  return {
    whole: (flags & 1) !== 0,
    continues: (flags & 2) !== 0,
    isAnswer: (flags & 4) !== 0,
    crowd: (flags & 8) !== 0 ? record.getUint32(at) : null,
    joined,
    left,
  };
}

function readRateLimited(record) {
  return { what: RATE_CLASSES[record.getUint8(1)] ?? "?", retryAfterMs: record.getUint32(4) };
}

function readCorrection(record, { axes }) {
  const place = readPlace(record, 4, { number: "f32", axes });
  return { reason: CORRECTION_REASONS[record.getUint8(1)] ?? "?", inputSeq: record.getUint16(2), ...place };
}

function readNotice(record) {
  return {
    reason: NOTICE_REASONS[record.getUint8(1)] ?? "?",
    timeoutMs: record.getUint32(4),
    retryAfterMs: record.getUint32(8),
    jitterMs: record.getUint32(12),
  };
}

function readError(record) {
  return { code: ERROR_CODES[record.getUint8(1)] ?? "?", text: textOf(record, 4, record.byteLength - 4) };
}

function readAck(record) {
  const slack = record.getUint16(8);
  // No slack: a host has set the state.
  return { inputSeq: record.getUint16(2), tick: record.getUint32(4), slackMs: slack === 0xffff ? null : slack / 10 };
}

function readOverview(record, { min, max }) {
  const count = record.getUint16(2);
  expectBytes(record, 8 + 4 * count);
  const coordinate = (axis, at) => min[axis] + (record.getUint8(at) * (max[axis] - min[axis])) / 255;
  const players = listOf(count, (index) => {
    const at = 8 + 4 * index;
    return { seat: record.getUint16(at), x: coordinate(0, at + 2), y: coordinate(1, at + 3) };
  });
  return { begins: (record.getUint8(1) & 1) !== 0, tick: record.getUint32(4), players };
}

function readStates(record) {
  let at = 8;
  const states = listOf(record.getUint16(2), () => {
    const bytes = record.getUint8(at + 5);
    const entry = { id: record.getUint32(at), key: record.getUint8(at + 4), value: bytesOf(record, at + 6, bytes) };
    at += 6 + bytes;
    return entry;
  });
  expectBytes(record, at);
  return { whole: (record.getUint8(1) & 1) !== 0, tick: record.getUint32(4), states };
}

/** Frames are of exactly this length: another one was written by another layout, and what was read would be nonsense. */
function expectBytes(record, bytes) {
  if (record.byteLength !== bytes) throw new RangeError(`${record.byteLength} bytes in place of ${bytes}`);
}

function listOf(count, read) {
  const list = [];
  while (list.length < count) list.push(read(list.length));
  return list;
}

/** A copy: a part of the message would keep all of it in memory. */
function bytesOf(view, at, bytes = view.byteLength - at) {
  if (at + bytes > view.byteLength) throw new RangeError(`${view.byteLength} bytes, fewer than ${at + bytes}`);
  return new Uint8Array(view.buffer, view.byteOffset + at, bytes).slice();
}

function textOf(view, at, bytes) {
  if (at + bytes > view.byteLength) throw new RangeError(`${view.byteLength} bytes, fewer than ${at + bytes}`);
  return new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + at, bytes));
}

function hexOf(view, at, bytes) {
  return Array.from(bytesOf(view, at, bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
