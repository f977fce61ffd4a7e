// Which part of the world is on the canvas: all of a small field, or what is around the own player in a large one.

/** Side of the visible square of a game without bounds, before anybody walks out of it. */
const OPEN_SIDE = 100;
/** Bounds beyond this are no playing field but the range of a float. */
const FIELD_SIDE_MAX = 1e6;
/** A longer field is not shown whole, because its players would crawl. */
const WHOLE_SIDE_MAX = 400;
/** Side of what is shown of such a field, where no view says how much is worth showing. */
const CLOSE_SIDE = 200;
/** How much of what lies beyond a field is shown at its edge. */
const MARGIN = 0.08;
/** How much of the way to another size is gone in a frame of the screen. */
const EASE = 0.08;

export class Camera {
  /** { minX, minY, maxX, maxY } of a game with bounds; null: without. */
  field = null;
  /** Whether it follows the own player. */
  isFollowing = false;
  #x = 0;
  #y = 0;
  #side = { width: OPEN_SIDE, height: OPEN_SIDE };
  #canvas = { width: 1, height: 1 };

  /** A game begins. `sightSide`: how far the own player is told of others, from one side to the other; 0: everywhere. */
  start({ minX, minY, maxX, maxY }, sightSide) {
    const [width, height] = [maxX - minX, maxY - minY];
    const longer = Math.max(width, height);
    this.field = longer <= FIELD_SIDE_MAX ? { minX, minY, maxX, maxY } : null;
    this.isFollowing = this.field !== null && longer > (sightSide || WHOLE_SIDE_MAX);
    [this.#x, this.#y] = this.field ? [(minX + maxX) / 2, (minY + maxY) / 2] : [0, 0];
    const whole = (side) => side * (1 + MARGIN);
    if (this.isFollowing) this.#side = square(sightSide || CLOSE_SIDE);
    else this.#side = this.field ? { width: whole(width), height: whole(height) } : square(OPEN_SIDE);
  }

  /** Height of what a player sees, in world units: speeds are chosen by it. */
  get span() {
    if (this.isFollowing) return this.#side.height;
    return this.field ? Math.max(this.field.maxX - this.field.minX, this.field.maxY - this.field.minY) : OPEN_SIDE;
  }

  /** Where a new player may stand. */
  get middle() {
    return { x: this.#x, y: this.#y };
  }

  /** Pixels per unit. */
  get scale() {
    return Math.min(this.#canvas.width / this.#side.width, this.#canvas.height / this.#side.height);
  }

  /** What is on the canvas, in world units. */
  get seen() {
    const [halfX, halfY] = [this.#canvas.width / 2 / this.scale, this.#canvas.height / 2 / this.scale];
    return { minX: this.#x - halfX, minY: this.#y - halfY, maxX: this.#x + halfX, maxY: this.#y + halfY };
  }

  /** A frame of the screen. `own`: where the own player is drawn, if it is; `sightSide` as in `start`. */
  turn(canvas, players, own, sightSide) {
    this.#canvas = canvas;
    if (!this.field) return this.#showAll(players);
    if (!this.isFollowing) return;
    this.#easeTo(sightSide || CLOSE_SIDE);
    if (!own) return;
    const { minX, minY, maxX, maxY } = this.seen;
    this.#x = within(own.x, this.field.minX, this.field.maxX, maxX - minX);
    this.#y = within(own.y, this.field.minY, this.field.maxY, maxY - minY);
  }

  /** Pixels of a place. */
  place({ x, y }) {
    const { width, height } = this.#canvas;
    return [width / 2 + (x - this.#x) * this.scale, height / 2 + (y - this.#y) * this.scale];
  }

  /** The place of pixels. */
  placeAt(x, y) {
    const { width, height } = this.#canvas;
    return { x: this.#x + (x - width / 2) / this.scale, y: this.#y + (y - height / 2) / this.scale };
  }

  #showAll(players) {
    let most = OPEN_SIDE / 2;
    for (const { x, y } of players) most = Math.max(most, Math.abs(x) * 1.15, Math.abs(y) * 1.15);
    this.#easeTo(2 * most);
  }

  #easeTo(side) {
    this.#side = square(this.#side.width + (side - this.#side.width) * EASE);
  }
}

function square(side) {
  return { width: side, height: side };
}

/** The middle of what is shown, so that little is shown of what lies beyond the edges. */
function within(middle, least, most, shown) {
  const spare = (0.5 - MARGIN) * shown;
  return least + spare > most - spare ? (least + most) / 2 : Math.min(most - spare, Math.max(least + spare, middle));
}
