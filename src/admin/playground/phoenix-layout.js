// What the Phoenix dialect says of a game's layout, as the native client's Layout; and what it sends by it.

import { PLAIN_LAYOUT } from "./records.mjs";

/** The layout in the reply to a join; the relay's null is no bound. @returns {import("./records.mjs").Layout} */
export function layoutOf({ layout, view, bounds }) {
  const { min_x: minX, min_y: minY, min_z: minZ, max_x: maxX, max_y: maxY, max_z: maxZ } = bounds;
  const axes = layout?.axes ?? 2;
  return {
    ...PLAIN_LAYOUT,
    number: layout?.number ?? "f32",
    axes,
    poseBytes: layout?.pose_bytes ?? 0,
    keys: layout?.keys ?? 0,
    keyBytesMax: layout?.key_bytes_max ?? 0,
    tick0Us: layout?.tick0_us ?? null,
    min: [minX, minY, minZ].slice(0, axes).map((bound) => bound ?? -Infinity),
    max: [maxX, maxY, maxZ].slice(0, axes).map((bound) => bound ?? Infinity),
    ...(view && { views: true, cell: view.cell, radius: view.radius, radiusMax: view.radius_max, overviewMs: view.overview_ms }),
  };
}

/** A `move` to a place. */
export function moveTo({ x, y, z, pose }, inputSeq, { axes, poseBytes }) {
  return {
    x,
    y,
    ...(axes === 3 && { z }),
    ...(poseBytes > 0 && pose && { pose: btoa(String.fromCharCode(...pose)) }),
    input_seq: inputSeq,
  };
}

/** An object there as a `game_state`, whose numbers are f32 on the way in. */
export function objectAt({ id, type = 0, flags = 0, ...place }, { axes, min, max }) {
  const state = new DataView(new ArrayBuffer(16 + 4 * axes));
  state.setUint32(4, 1);
  state.setUint32(8, id);
  state.setUint16(12, type);
  state.setUint16(14, flags);
  const coordinates = [place.x, place.y, place.z ?? Math.min(max[2], Math.max(min[2], 0))];
  for (let axis = 0; axis < axes; axis++) state.setFloat32(16 + 4 * axis, coordinates[axis]);
  return state.buffer;
}

/** Numbers frames, which name no tick in this dialect, by when they come. */
export class Beat {
  #tickMs = 50;
  #tick = 0;
  /** When the last frame would have come if all were evenly spaced. */
  #atMs = null;

  start(tickHz) {
    this.#tickMs = 1000 / tickHz;
  }

  /** The tick of the last frame. */
  get tick() {
    return this.#tick;
  }

  /** A frame has come: its tick. */
  next(nowMs) {
    const ticks = this.#atMs === null ? 1 : Math.max(1, Math.round((nowMs - this.#atMs) / this.#tickMs));
    this.#tick += ticks;
    const evenMs = this.#atMs === null ? nowMs : this.#atMs + ticks * this.#tickMs;
    this.#atMs = evenMs + (nowMs - evenMs) * 0.1;
    return this.#tick;
  }
}
