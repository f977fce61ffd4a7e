// The records that a client sends, by the game's layout: docs/PROTOCOL.md, section 3. Big-endian, one per binary message; pure.

/** Scopes of an event, by the word that Phoenix clients use. */
const SCOPES = { others: 0, all: 1, near: 3 };
const PLAYER_SCOPE = 2;
const WHO_MAX = 256;

/** @typedef {import("./records.mjs").Layout} Layout @typedef {import("./records.mjs").Place} Place */

export function move(inputSeq, { x, y }) {
  const record = recordOf(0x01, 12);
  record.setUint16(2, inputSeq);
  record.setFloat32(4, x);
  record.setFloat32(8, y);
  return record;
}

/** @param {Place} place @param {Layout} layout */
export function step(inputSeq, place, layout) {
  const record = recordOf(0x09, 4 + placeBytes(layout));
  record.setUint16(2, inputSeq);
  writePlace(record, 4, place, layout);
  return record;
}

/** @param {{ id: number, inputSeq?: number, x: number, y: number, z?: number, pose?: Uint8Array }[]} steps */
export function hostSteps(steps, layout) {
  const stride = 8 + placeBytes(layout);
  const record = recordOf(0x0d, 8 + stride * steps.length);
  record.setUint32(4, steps.length);
  steps.forEach(({ id, inputSeq = 0, ...place }, index) => {
    const at = 8 + stride * index;
    record.setUint32(at, id);
    record.setUint16(at + 4, inputSeq);
    writePlace(record, at + 8, place, layout);
  });
  return record;
}

export function putObject({ id, type = 0, flags = 0, ...place }, layout) {
  const record = recordOf(0x04, 12 + 4 * layout.axes);
  record.setUint32(4, id);
  record.setUint16(8, type);
  record.setUint16(10, flags);
  writeAxes(record, 12, place, layout);
  return record;
}

export function removeObject(id) {
  const record = recordOf(0x05, 8);
  record.setUint32(4, id);
  return record;
}

/** @param {"others" | "all" | "near" | number} to a number: this player only */
export function event(code, payload, to) {
  const isToPlayer = typeof to === "number";
  if (!isToPlayer && SCOPES[to] === undefined) throw new RangeError(`an event goes to "others", "all", "near" or a player id, not to ${to}`);
  const record = recordOf(0x06, 8 + payload.length);
  record.setUint8(1, isToPlayer ? PLAYER_SCOPE : SCOPES[to]);
  record.setUint16(2, code);
  record.setUint32(4, isToPlayer ? to : 0);
  new Uint8Array(record.buffer).set(payload, 8);
  return record;
}

export function ping(clientTimeUs) {
  const record = recordOf(0x07, 16);
  record.setBigUint64(8, BigInt(clientTimeUs));
  return record;
}

/** @param {Uint8Array} value empty: the key is removed */
export function setState(key, value, { keyBytesMax }) {
  if (value.length > keyBytesMax) throw new RangeError(`the value has ${value.length} bytes; the game's layout allows ${keyBytesMax}`);
  const record = recordOf(0x0a, 4 + value.length);
  record.setUint8(1, key);
  record.setUint16(2, value.length);
  new Uint8Array(record.buffer).set(value, 4);
  return record;
}

export function setView(radius) {
  const record = recordOf(0x0b, 4);
  record.setUint8(1, radius);
  return record;
}

/** @param {number[]} ids player ids, or bare seats: `bareId` */
export function who(ids) {
  if (ids.length > WHO_MAX) throw new RangeError(`${ids.length} ids; a Who asks for at most ${WHO_MAX}`);
  const record = recordOf(0x0c, 4 + 4 * ids.length);
  record.setUint16(2, ids.length);
  ids.forEach((id, index) => record.setUint32(4 + 4 * index, id));
  return record;
}

function recordOf(kind, bytes) {
  const record = new DataView(new ArrayBuffer(bytes));
  record.setUint8(0, kind);
  return record;
}

function placeBytes({ axes, poseBytes }) {
  return 4 * axes + poseBytes;
}

function writePlace(record, at, place, layout) {
  const { axes, poseBytes } = layout;
  writeAxes(record, at, place, layout);
  const { pose } = place;
  if (pose === undefined) return;
  if (pose.length !== poseBytes) throw new RangeError(`the pose has ${pose.length} bytes; the game's layout says ${poseBytes}`);
  new Uint8Array(record.buffer).set(pose, at + 4 * axes);
}

function writeAxes(record, at, { x, y, z }, { axes, min, max }) {
  record.setFloat32(at, x);
  record.setFloat32(at + 4, y);
  if (axes === 3) record.setFloat32(at + 8, z ?? Math.min(max[2], Math.max(min[2], 0)));
}
