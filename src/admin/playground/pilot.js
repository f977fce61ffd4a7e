// Moves the own player: by keys, or towards where the pointer is or was.

const DIRECTIONS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  KeyA: [-1, 0], KeyD: [1, 0], KeyW: [0, -1], KeyS: [0, 1],
};
/** Below what the relay allows per second by default, whatever the tick rate. */
const MOVES_PER_S_MAX = 50;
/** A tab that slept takes up where it was, instead of leaping. */
const STEP_MAX_S = 0.1;

export class Pilot {
  /** {x, y} of the own player, or null before it is known. */
  position = null;
  #held = new Set();
  #target = null;
  #sentAt = 0;
  #unsent = false;
  #rules = null;

  /** `toWorld(clientX, clientY)` gives world coordinates; `wave()` is called for the space bar. */
  constructor(canvas, toWorld, wave) {
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.position || event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.#target = toWorld(event.clientX, event.clientY);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) this.#target = toWorld(event.clientX, event.clientY);
    });
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

  /** A game begins at `position`. `rules`: tickHz, bounds of the playground, speed in units per second. */
  start(position, rules) {
    this.#rules = rules;
    this.#target = null;
    this.position = { ...position };
    this.#unsent = true;
  }

  stop() {
    this.position = null;
    this.#target = null;
    this.#held.clear();
  }

  /** The relay holds another position. */
  correct(x, y) {
    if (!this.position) return;
    this.position = { x, y };
    this.#target = null;
    this.#unsent = false;
  }

  /** One animation frame; `send(x, y)` is called at the tick rate at most. */
  step(now, seconds, send) {
    if (!this.position) return;
    const [dx, dy] = this.#step(Math.min(seconds, STEP_MAX_S));
    if (dx !== 0 || dy !== 0) {
      const { minX, minY, maxX, maxY } = this.#rules.bounds;
      this.position.x = clamp(this.position.x + dx, minX, maxX);
      this.position.y = clamp(this.position.y + dy, minY, maxY);
      this.#unsent = true;
    }
    // An animation frame that is a little early counts, or every second tick would go without a move.
    const interval = 1000 / Math.min(this.#rules.tickHz, MOVES_PER_S_MAX);
    if (this.#unsent && now - this.#sentAt >= interval - 4) {
      this.#unsent = false;
      this.#sentAt = Math.max(this.#sentAt + interval, now - interval);
      send(this.position.x, this.position.y);
    }
  }

  #step(seconds) {
    const reach = this.#rules.speed * seconds;
    let [x, y] = [0, 0];
    for (const code of this.#held) {
      x += DIRECTIONS[code][0];
      y += DIRECTIONS[code][1];
    }
    if (x !== 0 || y !== 0) {
      this.#target = null;
      const length = Math.hypot(x, y);
      return [(x * reach) / length, (y * reach) / length];
    }
    if (!this.#target) return [0, 0];
    const [dx, dy] = [this.#target.x - this.position.x, this.#target.y - this.position.y];
    const distance = Math.hypot(dx, dy);
    if (distance <= reach) {
      this.#target = null;
      return [dx, dy];
    }
    return [(dx * reach) / distance, (dy * reach) / distance];
  }
}

function clamp(value, least, most) {
  return Math.min(most, Math.max(least, value));
}
