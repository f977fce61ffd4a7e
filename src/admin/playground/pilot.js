// Moves the own player: by keys, or towards where the pointer is or was. It moves at once; what the relay says of it comes later.

import { Pacing } from "./pacing.mjs";
import { Prediction } from "./prediction.mjs";
import { poseTowards } from "./yaw.js";

const DIRECTIONS = {
  ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, -1, 0], ArrowDown: [0, 1, 0],
  KeyA: [-1, 0, 0], KeyD: [1, 0, 0], KeyW: [0, -1, 0], KeyS: [0, 1, 0], KeyQ: [0, 0, -1], KeyE: [0, 0, 1],
};
/** Below what the relay allows per second by default, whatever the tick rate. */
const MOVES_PER_S_MAX = 50;
/** Where a pointer is held for longer, the player goes on while the map moves below it; a click means a place. */
const HOLD_MS = 300;
/** A tab that slept takes up where it was, instead of leaping. */
const STEP_MAX_S = 0.1;

export class Pilot {
  #own;
  #pacing = new Pacing();
  #held = new Set();
  /** Where the pointer is held down, in pixels of the page, and since when it is there: { x, y, sinceMs }. */
  #pointer = null;
  #target = null;
  #toWorld;
  /** Of the game that is played: { tickHz, layout, speed }; null: none is. */
  #rules = null;

  /** `toWorld(clientX, clientY)` gives a place; `wave()` is called for the space bar; `send(place)` returns the input_seq. */
  constructor(canvas, toWorld, wave, send) {
    this.#toWorld = toWorld;
    this.#own = new Prediction({ send, advance: (place, input) => this.#advance(place, input) });
    const point = ({ clientX: x, clientY: y }) => {
      this.#pointer = { x, y, sinceMs: performance.now() };
      this.#target = toWorld(x, y);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.position || event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      point(event);
    });
    canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && point(event));
    canvas.addEventListener("lostpointercapture", () => (this.#pointer = null));
    addEventListener("keydown", (event) => {
      const forTheGame = event.target === canvas || event.target === document.body;
      if (!this.position || !forTheGame || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.code === "Space") {
        if (!event.repeat) wave();
      } else if (event.code in DIRECTIONS) {
        this.#held.add(event.code);
      } else {
        return;
      }
      event.preventDefault();
    });
    addEventListener("keyup", ({ code }) => this.#held.delete(code));
    addEventListener("blur", () => this.#held.clear());
  }

  /** Where the own player is; null: it is nowhere yet. */
  get position() {
    return this.#rules && this.#own.place;
  }

  /** Where to draw it. */
  drawnAt(nowMs) {
    return this.#rules && this.#own.drawnAt(nowMs);
  }

  /** A game begins at `place`. `rules`: tickHz, layout, speed in units per second. */
  start(place, rules, nowMs) {
    this.#rules = rules;
    this.#pointer = this.#target = null;
    this.#own.start(place);
    this.#pacing.start(Math.min(rules.tickHz, MOVES_PER_S_MAX), nowMs);
    // So that others are told where it stands.
    this.#own.input({});
  }

  stop() {
    this.#rules = this.#pointer = this.#target = null;
    this.#held.clear();
  }

  /** The relay has used what was sent. */
  ack(ack, nowMs) {
    if (!this.#rules) return;
    this.#own.ack(ack, nowMs);
    this.#pacing.ack(ack);
  }

  /** The relay holds another position. */
  correct(correction, nowMs) {
    if (!this.#rules) return;
    this.#own.correct(correction, nowMs);
    this.#pointer = this.#target = null;
  }

  /** One animation frame: a place is sent once per tick at most, and a stop at once. */
  step(nowMs, seconds) {
    if (!this.#rules) return;
    const [dx, dy, dz] = this.#way(nowMs, Math.min(seconds, STEP_MAX_S));
    if (dx !== 0 || dy !== 0 || dz !== 0) {
      const { poseBytes } = this.#rules.layout;
      this.#own.input({ dx, dy, dz, ...(poseBytes > 0 && (dx !== 0 || dy !== 0) && { pose: poseTowards(dx, dy, poseBytes) }) });
    } else {
      this.#pacing.sent(this.#own.stop(), nowMs);
    }
    if (this.#pacing.isDue(nowMs)) this.#pacing.sent(this.#own.flush(), nowMs);
  }

  #advance(place, { dx = 0, dy = 0, dz = 0, pose = place.pose }) {
    const { min, max, axes } = this.#rules.layout;
    const within = (axis, value) => Math.min(max[axis], Math.max(min[axis], value));
    return { ...place, x: within(0, place.x + dx), y: within(1, place.y + dy), ...(axes === 3 && { z: within(2, place.z + dz) }), ...(pose && { pose }) };
  }

  /** How far the player goes now. */
  #way(nowMs, seconds) {
    const reach = this.#rules.speed * seconds;
    const way = [0, 0, 0];
    for (const code of this.#held) DIRECTIONS[code].forEach((part, axis) => (way[axis] += part));
    if (this.#rules.layout.axes === 2) way[2] = 0;
    const length = Math.hypot(...way);
    if (length > 0) {
      this.#pointer = this.#target = null;
      return way.map((part) => (part * reach) / length);
    }
    const pointer = this.#pointer;
    if (pointer && nowMs - pointer.sinceMs > HOLD_MS) this.#target = this.#toWorld(pointer.x, pointer.y);
    if (!this.#target) return [0, 0, 0];
    const [dx, dy] = [this.#target.x - this.#own.place.x, this.#target.y - this.#own.place.y];
    const distance = Math.hypot(dx, dy);
    if (distance > reach) return [(dx * reach) / distance, (dy * reach) / distance, 0];
    this.#target = null;
    return [dx, dy, 0];
  }
}
