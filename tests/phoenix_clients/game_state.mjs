// The reference layout that `game_state` and `game_update` carry, big-endian:
// positions u32 | objects u32 | positions × (id u32 | x f32 | y f32) | objects × (id u32 | type u16 | flags u16 | x f32 | y f32)

const HEAD_BYTES = 8;
const POSITION_BYTES = 12;
const OBJECT_BYTES = 16;

/** The layout as an ArrayBuffer, which is what makes the client send it as binary. */
export function encode({ positions = [], objects = [] }) {
  const view = new DataView(
    new ArrayBuffer(HEAD_BYTES + positions.length * POSITION_BYTES + objects.length * OBJECT_BYTES),
  );
  view.setUint32(0, positions.length);
  view.setUint32(4, objects.length);
  let at = HEAD_BYTES;
  for (const { id, x, y } of positions) {
    view.setUint32(at, id);
    view.setFloat32(at + 4, x);
    view.setFloat32(at + 8, y);
    at += POSITION_BYTES;
  }
  for (const { id, type, flags, x, y } of objects) {
    view.setUint32(at, id);
    view.setUint16(at + 4, type);
    view.setUint16(at + 6, flags);
    view.setFloat32(at + 8, x);
    view.setFloat32(at + 12, y);
    at += OBJECT_BYTES;
  }
  return view.buffer;
}

/** What is in a binary payload; throws when its length is not what its counts say. */
export function decode(payload) {
  if (!(payload instanceof ArrayBuffer)) throw new Error(`not binary: ${JSON.stringify(payload)}`);
  const view = new DataView(payload);
  const [positionCount, objectCount] = [view.getUint32(0), view.getUint32(4)];
  const expected = HEAD_BYTES + positionCount * POSITION_BYTES + objectCount * OBJECT_BYTES;
  if (payload.byteLength !== expected) throw new Error(`${payload.byteLength} bytes instead of ${expected}`);
  const positions = Array.from({ length: positionCount }, (_, index) => {
    const at = HEAD_BYTES + index * POSITION_BYTES;
    return { id: view.getUint32(at), x: view.getFloat32(at + 4), y: view.getFloat32(at + 8) };
  });
  const objects = Array.from({ length: objectCount }, (_, index) => {
    const at = HEAD_BYTES + positionCount * POSITION_BYTES + index * OBJECT_BYTES;
    const [type, flags] = [view.getUint16(at + 4), view.getUint16(at + 6)];
    return { id: view.getUint32(at), type, flags, x: view.getFloat32(at + 8), y: view.getFloat32(at + 12) };
  });
  return { positions, objects };
}
