// What the relay has told of the players and objects of a game, how old it is, and where to draw it now.

import { Timeline } from "./timeline.mjs";
import { interpolatePose } from "./yaw.js";

/** The age that is shown follows the real one, which falls at each frame, within about this time. */
const AGE_EASE_MS = 400;

export class Known {
  /** Object id → { type, flags, x, y, z? }. */
  objects = new Map();
  /** Frames and positions in them, of all time. */
  frames = 0;
  positions = 0;
  /** Player id → { x, y, z?, pose?, atMs, age }: what was told last, when it came, and how many ticks ago that was as shown. */
  #latest = new Map();
  #timeline = null;
  #tickMs = 50;
  #drawnAtMs = 0;

  /** A game begins. A step longer than `snapDistance` is a teleport. */
  start(tickHz, snapDistance) {
    this.clear();
    this.#tickMs = 1000 / tickHz;
    this.#timeline = new Timeline({ snapDistance, interpolate: interpolatePose });
    this.#timeline.start(tickHz);
  }

  clear() {
    this.#latest.clear();
    this.objects.clear();
    this.#timeline = null;
  }

  /** How many players have a place. */
  get size() {
    return this.#latest.size;
  }

  /** Takes a frame as NativeGame tells it. A frame that is `silent` is the page's own. */
  apply(frame, nowMs) {
    const { whole, positions, objects, gonePlayers, goneObjects, renamed = [], silent = false } = frame;
    if (!this.#timeline) return;
    this.#timeline.apply(frame, nowMs);
    if (whole) for (const map of [this.#latest, this.objects]) keepOnly(map, map === this.objects ? objects : positions);
    for (const id of gonePlayers) this.#latest.delete(id);
    for (const id of goneObjects) this.objects.delete(id);
    for (const { id, ...place } of positions) this.#latest.set(id, { ...place, atMs: nowMs, age: this.#latest.get(id)?.age ?? 0 });
    for (const { id, ...object } of objects) this.objects.set(id, object);
    if (silent || renamed.length > 0) return;
    this.frames += 1;
    this.positions += positions.length;
  }

  /** What the relay said last. */
  latestOf(id) {
    return this.#latest.get(id);
  }

  /**
   * Everybody, where they are to be drawn now: [{ id, x, y, z?, pose?, age }]. `ticksMax(place)`: who was not named for longer has not moved
   * since, so that what is known is no older.
   */
  draw(nowMs, ticksMax) {
    const part = 1 - Math.exp(-(nowMs - this.#drawnAtMs) / AGE_EASE_MS);
    this.#drawnAtMs = nowMs;
    return (this.#timeline?.draw(nowMs) ?? []).map((place) => {
      const latest = this.#latest.get(place.id);
      if (!latest) return { ...place, age: 0 };
      latest.age += (Math.min((nowMs - latest.atMs) / this.#tickMs, ticksMax(latest)) - latest.age) * part;
      return { ...place, age: latest.age };
    });
  }
}

function keepOnly(map, entries) {
  const named = new Set(entries.map(({ id }) => id));
  for (const id of map.keys()) if (!named.has(id)) map.delete(id);
}
