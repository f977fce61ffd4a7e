// What the own player is told of, in a game with views: the cells around its own. The relay does not name the cell; the page finds it
// by the same rules.

/** Part of a cell by which a player must be beyond the edge before it counts in the next cell. */
const HYSTERESIS = 0.25;
/** How often a view follows its player to a cell that touches its own. */
const FOLLOW_MS = 250;
/** The rarest that somebody who moves is told of. */
const PERIOD_TICKS_MAX = 16;

export class Sight {
  /** How far the player sees, in cells. */
  radius = 0;
  /** How often the relay has halved how often it tells, because of a crowd; null: it does not say. */
  level = null;
  /** @type {{ column: number, row: number } | null} the cell that the view is of */
  cell = null;
  #layout = null;
  #home = null;
  #movedAtMs = -Infinity;

  /** A game begins. @param {import("./records.mjs").Layout} layout */
  start(layout) {
    this.#layout = layout.views ? layout : null;
    this.radius = layout.radius;
    this.cell = this.#home = this.level = null;
  }

  /** Whether the game has views. */
  get isLimited() {
    return this.#layout !== null;
  }

  /** Longest side of what has to be on the canvas, wherever in its cell the player is; 0: there are no views. */
  get side() {
    return this.#layout ? (2 * this.radius + 3) * this.#layout.cell : 0;
  }

  /** Where the own player is now. */
  follow({ x, y }, nowMs) {
    if (!this.#layout) return;
    this.#home = { column: this.#index(0, x, this.#home?.column), row: this.#index(1, y, this.#home?.row) };
    const cells = this.cell ? distance(this.#home, this.cell) : Infinity;
    if (cells === 0 || (cells === 1 && nowMs - this.#movedAtMs < FOLLOW_MS)) return;
    this.cell = this.#home;
    this.#movedAtMs = nowMs;
  }

  /** How old, in ticks, what is known of a player at a place can be at most. */
  ticksMax({ x, y }) {
    if (!this.cell) return 0;
    const ring = distance({ column: this.#index(0, x), row: this.#index(1, y) }, this.cell);
    return Math.min(PERIOD_TICKS_MAX, 2 ** (Math.min(ring, 2) + (this.level ?? 0))) - 1;
  }

  /** The cells within `radius` of the view's, as one rectangle of the world; null: there is none. */
  areaWithin(radius) {
    if (!this.cell) return null;
    const { min, max, cell } = this.#layout;
    const edge = (axis, index) => Math.min(max[axis], Math.max(min[axis], min[axis] + index * cell));
    const { column, row } = this.cell;
    return { minX: edge(0, column - radius), minY: edge(1, row - radius), maxX: edge(0, column + radius + 1), maxY: edge(1, row + radius + 1) };
  }

  /** The edges between the cells of the view: { x: [...], y: [...] }. */
  get edges() {
    const area = this.areaWithin(this.radius);
    if (!area) return { x: [], y: [] };
    const { min, cell } = this.#layout;
    const between = (axis, least, most) => {
      const first = Math.round((least - min[axis]) / cell);
      const values = [];
      for (let index = first; min[axis] + index * cell <= most + cell * 1e-6; index++) values.push(min[axis] + index * cell);
      return values;
    };
    return { x: between(0, area.minX, area.maxX), y: between(1, area.minY, area.maxY) };
  }

  /** The column or row of a coordinate; `home`: the one that it was in. */
  #index(axis, value, home) {
    const { min, max, cell } = this.#layout;
    const index = (value - min[axis]) / cell;
    if (home !== undefined && index >= home - HYSTERESIS && index < home + 1 + HYSTERESIS) return home;
    const cells = Math.max(1, Math.ceil((max[axis] - min[axis]) / cell));
    return Math.min(cells - 1, Math.max(0, Math.floor(index)));
  }
}

function distance(one, other) {
  return Math.max(Math.abs(one.column - other.column), Math.abs(one.row - other.row));
}
