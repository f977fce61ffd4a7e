// The relay's records, written from the tables of docs/PROTOCOL.md and without the client's code, so that the two can be compared.

/** Bytes that grow, big-endian. */
class Bytes {
  #bytes = [];

  u8(...values) {
    this.#bytes.push(...values);
    return this;
  }

  u16(value) {
    return this.u8((value >> 8) & 0xff, value & 0xff);
  }

  u32(value) {
    return this.u16(Math.floor(value / 65536)).u16(value % 65536);
  }

  u64(value) {
    return this.u32(Math.floor(value / 2 ** 32)).u32(value % 2 ** 32);
  }

  f32(value) {
    return this.u32(new Uint32Array(new Float32Array([value]).buffer)[0]);
  }

  zeros(count) {
    return this.u8(...Array(count).fill(0));
  }

  each(values, write) {
    values.forEach((value) => write(value));
    return this;
  }

  get message() {
    return new Uint8Array(this.#bytes).buffer;
  }
}

const bytes = (kind) => new Bytes().u8(kind);

/** `bounds`: { min: [x, y], max: [x, y] } */
export function welcome({ flags = 0, playerId = 1, tickHz = 20, epoch = 1, seq = 0, tick = 0, serverTimeUs = 0, bounds = { min: [-100, -100], max: [100, 100] } } = {}) {
  const record = bytes(0x81).u8(flags).u16(tickHz).u32(playerId).u64(epoch).u64(seq).u32(tick).u64(serverTimeUs);
  return record.zeros(16).each([...bounds.min, ...bounds.max], (bound) => record.f32(bound)).f32(Infinity).message;
}

export function layout({ number = "f32", axes = 2, poseBytes = 0, keys = 0, keyBytesMax = 0, flags = 0, radius = 0, radiusMax = 0, rings = 0, cell = 0, overviewMs = 0, tick0Us = 0, minZ = 0, maxZ = 0, players = 1 }) {
  return bytes(0x8b)
    .u8(number === "u16" ? 1 : 0, axes, poseBytes, keys, keyBytesMax, flags, radius, radiusMax, rings)
    .zeros(2).f32(cell).u32(overviewMs).u64(tick0Us).f32(minZ).f32(maxZ).u32(players).zeros(8).message;
}

/** Positions { id, at: numbers as on the wire, pose: [bytes] }, objects { id, type, flags, at }. */
export function keyframe(layout, { tick, level = 0, positions = [], objects = [] }) {
  const record = bytes(0x82).u8(level).zeros(2).u32(tick).u32(positions.length).u32(objects.length);
  return entries(record, layout, positions, objects).message;
}

/** Gone players are ids, also where the layout names seats. */
export function delta(layout, { tick, level = 0, positions = [], objects = [], gonePlayers = [], goneObjects = [] }) {
  const record = bytes(0x83).u8(level).u16(gonePlayers.length).u32(tick).u32(positions.length).u32(objects.length).u32(goneObjects.length);
  entries(record, layout, positions, objects);
  return record.each(gonePlayers, (id) => player(record, layout, id)).each(goneObjects, (id) => record.u32(id)).message;
}

function entries(record, layout, positions, objects) {
  const numbers = (at) => at.forEach((number) => (layout.number === "u16" ? record.u16(number) : record.f32(number)));
  record.each(positions, ({ id, at, pose }) => {
    player(record, layout, id);
    numbers(at);
    record.u8(...pose);
  });
  return record.each(objects, ({ id, type, flags, at }) => {
    record.u32(id).u16(type).u16(flags);
    numbers(at);
  });
}

function player(record, { number }, id) {
  if (number === "u16") record.u16((id % 65536) - 1);
  else record.u32(id);
}

export function roster(flags, joined, left = [], players = null) {
  const text = new TextEncoder();
  const record = bytes(0x86).u8(flags).u16(joined.length).u16(left.length);
  record.each(joined, ([id, name]) => {
    const named = text.encode(name);
    record.u32(id).u8(1, 0x75, named.length, ...named);
  });
  record.each(left, (id) => record.u32(id).u8(0));
  return (players === null ? record : record.u32(players)).message;
}

/** States [id, key, bytes]. */
export function states(tick, list, { whole = false } = {}) {
  const record = bytes(0x8e).u8(whole ? 1 : 0).u16(list.length).u32(tick);
  return record.each(list, ([id, key, value]) => record.u32(id).u8(key, value.length, ...value)).message;
}

/** Players [seat, x, y], coordinates as bytes. */
export function overview(tick, players, { begins = false } = {}) {
  const record = bytes(0x8d).u8(begins ? 1 : 0).u16(players.length).u32(tick);
  return record.each(players, ([seat, x, y]) => record.u16(seat).u8(x, y)).message;
}

export const ack = (inputSeq, tick, slack) => bytes(0x8c).u8(0).u16(inputSeq).u32(tick).u16(slack).u16(0).message;
export const near = (code, sender, payload) => bytes(0x8f).u8(0).u16(code).u32(sender).u8(...payload).message;
export const event = (code, sender, seq, payload) => bytes(0x84).u8(0).u16(code).u32(sender).u64(seq).u8(...payload).message;
export const pong = (clientTimeUs, serverTimeUs, tick = 0) => bytes(0x85).zeros(7).u64(clientTimeUs).u64(serverTimeUs).u32(tick).message;
export const rateLimited = (what, ms) => bytes(0x87).u8(what).u16(0).u32(ms).message;
export function correction(reason, inputSeq, at) {
  const record = bytes(0x88).u8(reason).u16(inputSeq);
  return record.each(at, (number) => record.f32(number)).message;
}
export const notice = (reason, ...times) => times.reduce((record, ms) => record.u32(ms), bytes(0x89).u8(reason).u16(0)).message;
export const error = (code, text) => bytes(0x8a).u8(code).u16(0).u8(...new TextEncoder().encode(text)).message;
