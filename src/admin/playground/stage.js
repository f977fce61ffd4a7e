// Draws the game: a grid in world units, objects, players with names and trails, and a ring where the last event came from.

/** Side of the visible square of a game without bounds, before anybody walks out of it. */
const OPEN_SIDE = 100;
/** Bounds beyond this are no playing field but the range of a float. */
const FIELD_SIDE_MAX = 1e6;
const FLASH_MS = 1600;
const TRAIL_POINTS = 22;
const OBJECT_SIDES = [4, 3, 5, 6];

/** Colour of a player: hues a golden angle apart, so that neighbours differ. */
export function hueOf(id) {
  return Math.round((id * 137.508 + 255) % 360);
}

export class Stage {
  #canvas;
  #context;
  #colors = {};
  #view = { x: 0, y: 0, width: OPEN_SIDE, height: OPEN_SIDE };
  #field = null;
  #flashes = [];
  #trails = new Map();
  #calm = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#readColors();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#readColors());
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  /** A game begins, with `bounds` or without. */
  start({ minX, minY, maxX, maxY }) {
    const [width, height] = [maxX - minX, maxY - minY];
    const isField = Math.max(width, height) <= FIELD_SIDE_MAX;
    this.#field = isField ? { minX, minY, maxX, maxY } : null;
    this.#view = isField
      ? { x: (minX + maxX) / 2, y: (minY + maxY) / 2, width: width * 1.08, height: height * 1.08 }
      : { x: 0, y: 0, width: OPEN_SIDE, height: OPEN_SIDE };
    this.#trails.clear();
    this.#flashes = [];
  }

  /** Height of what a player sees, in world units: speeds are chosen by it. */
  get span() {
    return this.#field ? Math.max(this.#field.maxX - this.#field.minX, this.#field.maxY - this.#field.minY) : OPEN_SIDE;
  }

  /** Where a new player may stand: the middle of the view. */
  get middle() {
    const { x, y } = this.#view;
    return { x, y };
  }

  /** An event of this player, with what it says. */
  flash(id, text) {
    this.#flashes = this.#flashes.filter((flash) => flash.id !== id);
    this.#flashes.push({ id, text, at: performance.now() });
  }

  toWorld(clientX, clientY) {
    const box = this.#canvas.getBoundingClientRect();
    const scale = this.#scale(box.width, box.height);
    return {
      x: this.#view.x + (clientX - box.left - box.width / 2) / scale,
      y: this.#view.y + (clientY - box.top - box.height / 2) / scale,
    };
  }

  /** `players`: [{id, name, x, y, me, away, relay?: {x, y}}], `objects`: Map of id → {type, x, y}. */
  draw(now, players, objects) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (width === 0 || height === 0) return;
    if (!this.#field) this.#follow(players);
    const density = this.#canvas.width / width;
    const scale = this.#scale(width, height);
    const context = this.#context;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    const place = ({ x, y }) => [width / 2 + (x - this.#view.x) * scale, height / 2 + (y - this.#view.y) * scale];
    this.#drawGrid(width, height, scale, place);
    for (const [id, object] of objects) this.#drawObject(id, object.type, place(object));
    for (const player of players) this.#drawTrail(player, place);
    for (const id of this.#trails.keys()) if (!players.some((player) => player.id === id)) this.#trails.delete(id);
    for (const player of players) this.#drawPlayer(now, player, place);
    this.#flashes = this.#flashes.filter(({ at }) => now - at < 2 * FLASH_MS);
  }

  #scale(width, height) {
    return Math.min(width / this.#view.width, height / this.#view.height);
  }

  #follow(players) {
    let most = OPEN_SIDE / 2;
    for (const { x, y } of players) most = Math.max(most, Math.abs(x) * 1.15, Math.abs(y) * 1.15);
    const side = this.#view.width + (2 * most - this.#view.width) * 0.08;
    this.#view = { x: 0, y: 0, width: side, height: side };
  }

  #resize() {
    const density = Math.min(3, devicePixelRatio || 1);
    this.#canvas.width = Math.round(this.#canvas.clientWidth * density);
    this.#canvas.height = Math.round(this.#canvas.clientHeight * density);
  }

  #readColors() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    this.#colors = {
      grid: color("grid"), axis: color("axis"), muted: color("muted"), ink: color("ink"), stage: color("stage"),
      lightness: color("player-lightness"), chroma: color("player-chroma"),
    };
  }

  #colorOf(id, alpha = 1) {
    return `oklch(${this.#colors.lightness} ${this.#colors.chroma} ${hueOf(id)} / ${alpha})`;
  }

  #drawGrid(width, height, scale, place) {
    const context = this.#context;
    // The step of 1, 2 or 5 × 10ⁿ that is at least 44 pixels.
    const least = 44 / scale;
    const power = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= least);
    const [halfX, halfY] = [width / 2 / scale, height / 2 / scale];
    const lines = (from, to) => {
      const values = [];
      for (let index = Math.ceil(from / step); index * step <= to; index++) values.push(index * step);
      return values;
    };
    context.lineWidth = 1;
    context.font = "10px ui-monospace, Menlo, Consolas, monospace";
    context.textBaseline = "top";
    context.textAlign = "left";
    const label = (value) => String(Number(value.toPrecision(6)));
    for (const x of lines(this.#view.x - halfX, this.#view.x + halfX)) {
      const at = Math.round(place({ x, y: 0 })[0]) + 0.5;
      this.#line(x === 0 ? this.#colors.axis : this.#colors.grid, at, 0, at, height);
      context.fillStyle = this.#colors.muted;
      if (at > 44) context.fillText(label(x), at + 4, 5);
    }
    for (const y of lines(this.#view.y - halfY, this.#view.y + halfY)) {
      const at = Math.round(place({ x: 0, y })[1]) + 0.5;
      this.#line(y === 0 ? this.#colors.axis : this.#colors.grid, 0, at, width, at);
      context.fillStyle = this.#colors.muted;
      if (at > 24) context.fillText(label(y), 6, at + 4);
    }
    if (this.#field) {
      const [left, top] = place({ x: this.#field.minX, y: this.#field.minY });
      const [right, bottom] = place({ x: this.#field.maxX, y: this.#field.maxY });
      context.strokeStyle = this.#colors.muted;
      context.strokeRect(Math.round(left) + 0.5, Math.round(top) + 0.5, Math.round(right - left), Math.round(bottom - top));
    }
  }

  #line(color, fromX, fromY, toX, toY) {
    const context = this.#context;
    context.strokeStyle = color;
    context.beginPath();
    context.moveTo(fromX, fromY);
    context.lineTo(toX, toY);
    context.stroke();
  }

  #drawObject(id, type, [x, y]) {
    const context = this.#context;
    const sides = OBJECT_SIDES[type % OBJECT_SIDES.length];
    context.beginPath();
    for (let corner = 0; corner < sides; corner++) {
      const angle = (2 * Math.PI * corner) / sides - Math.PI / 2;
      context.lineTo(x + 6.5 * Math.cos(angle), y + 6.5 * Math.sin(angle));
    }
    context.closePath();
    context.fillStyle = this.#colorOf(id >>> 8, 0.22);
    context.strokeStyle = this.#colorOf(id >>> 8);
    context.lineWidth = 1.5;
    context.fill();
    context.stroke();
  }

  #drawTrail({ id, x, y }, place) {
    const trail = this.#trails.get(id) ?? [];
    this.#trails.set(id, trail);
    trail.push({ x, y });
    if (trail.length > TRAIL_POINTS) trail.shift();
    if (this.#calm.matches) return;
    const context = this.#context;
    context.lineCap = "round";
    for (let index = 1; index < trail.length; index++) {
      const part = index / trail.length;
      context.lineWidth = 1 + 5 * part;
      this.#line(this.#colorOf(id, 0.28 * part * part), ...place(trail[index - 1]), ...place(trail[index]));
    }
  }

  #drawPlayer(now, player, place) {
    const context = this.#context;
    const [x, y] = place(player);
    if (player.relay) {
      const [relayX, relayY] = place(player.relay);
      if (Math.hypot(relayX - x, relayY - y) > 3) {
        context.strokeStyle = this.#colorOf(player.id, 0.6);
        context.lineWidth = 1;
        context.beginPath();
        context.arc(relayX, relayY, 7, 0, 2 * Math.PI);
        context.stroke();
      }
    }
    const flash = this.#flashes.find(({ id }) => id === player.id);
    if (flash) this.#drawRing(now - flash.at, player.id, x, y);
    context.globalAlpha = player.away ? 0.4 : 1;
    context.fillStyle = this.#colorOf(player.id);
    context.beginPath();
    context.arc(x, y, 8, 0, 2 * Math.PI);
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = this.#colors.stage;
    context.stroke();
    if (player.me) {
      context.strokeStyle = this.#colors.ink;
      context.lineWidth = 1.5;
      context.beginPath();
      context.arc(x, y, 11, 0, 2 * Math.PI);
      context.stroke();
    }
    this.#drawText(player.name, x, y + 16, player.me ? 600 : 400, this.#colors.ink);
    if (flash?.text) this.#drawText(flash.text, x, y - 30, 600, this.#colorOf(player.id));
    context.globalAlpha = 1;
  }

  #drawRing(age, id, x, y) {
    if (age > FLASH_MS) return;
    const context = this.#context;
    const part = this.#calm.matches ? 0.3 : age / FLASH_MS;
    context.strokeStyle = this.#colorOf(id, 1 - age / FLASH_MS);
    context.lineWidth = 3 - 2 * part;
    context.beginPath();
    context.arc(x, y, 12 + 40 * Math.sqrt(part), 0, 2 * Math.PI);
    context.stroke();
  }

  #drawText(text, x, y, weight, color) {
    const context = this.#context;
    const shown = text.length > 24 ? `${text.slice(0, 23)}…` : text;
    context.font = `${weight} 12px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "top";
    context.lineWidth = 4;
    context.lineJoin = "round";
    context.strokeStyle = this.#colors.stage;
    context.strokeText(shown, x, y);
    context.fillStyle = color;
    context.fillText(shown, x, y);
  }
}
