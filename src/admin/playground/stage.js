// Draws the game: the ground, objects, players with names and trails, and a ring where the last event came from.

import { Camera } from "./camera.js";
import { drawField, drawGrid, drawMinimap, drawSight, line } from "./ground.js";
import { yawOf } from "./yaw.js";

const FLASH_MS = 1600;
const TRAIL_POINTS = 22;
const OBJECT_SIDES = [4, 3, 5, 6];
const RADIUS = 8;
/** How far above its shadow a player is drawn that is as high up as it can be, in pixels. */
const LIFT_MAX = 40;
/** Names and trails of more players would hide the players, and take too long; then only the own are drawn. */
const DETAILED_MAX = 100;
/** Each doubling of the age of what is known of a player takes so much of its colour; at 15 ticks a third is left. */
const FADE = 0.17;

/** Colour of a player: hues a golden angle apart, so that neighbours differ. */
export function hueOf(id) {
  return Math.round((id * 137.508 + 255) % 360);
}

export class Stage {
  #canvas;
  #context;
  #colors = {};
  #camera = new Camera();
  #layout = null;
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

  /** A game begins, with `bounds` or without; `sight`: what of it is told. */
  start(bounds, layout, sight) {
    this.#camera.start(bounds, sight.side);
    this.#layout = layout;
    this.#trails.clear();
    this.#flashes = [];
  }

  /** Height of what a player sees, in world units: speeds are chosen by it. */
  get span() {
    return this.#camera.span;
  }

  /** Where a new player may stand: the middle of what is shown. */
  get middle() {
    return this.#camera.middle;
  }

  /** An event of this player, with what it says. */
  flash(id, text) {
    this.#flashes = this.#flashes.filter((flash) => flash.id !== id);
    this.#flashes.push({ id, text, at: performance.now() });
  }

  toWorld(clientX, clientY) {
    const box = this.#canvas.getBoundingClientRect();
    return this.#camera.placeAt(clientX - box.left, clientY - box.top);
  }

  /**
   * `players`: [{id, name, x, y, z?, pose?, me, away, age, relay?: {x, y}}], `objects`: Map of id → {type, x, y}, `overview`: [{id, x, y}] of
   * everybody, if that is told.
   */
  draw(now, { players, objects, sight, overview }) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (width === 0 || height === 0) return;
    const canvas = { width, height };
    const own = players.find(({ me }) => me) ?? null;
    this.#camera.turn(canvas, players, own, sight.side);
    const density = this.#canvas.width / width;
    const context = this.#context;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    const place = (at) => this.#camera.place(at);
    drawGrid(context, this.#camera, canvas, this.#colors);
    drawSight(context, this.#camera, sight, this.#colors);
    drawField(context, this.#camera, canvas, this.#colors);
    for (const [id, object] of objects) this.#drawObject(id, object.type, place(object));
    const detailed = players.length <= DETAILED_MAX ? players : players.filter(({ me }) => me);
    for (const player of detailed) this.#drawTrail(player, place);
    const ids = new Set(detailed.map(({ id }) => id));
    for (const id of this.#trails.keys()) if (!ids.has(id)) this.#trails.delete(id);
    for (const player of players) this.#drawPlayer(now, player, place, ids.has(player.id));
    drawMinimap(context, this.#camera, canvas, overview, own, this.#colors);
    this.#flashes = this.#flashes.filter(({ at }) => now - at < 2 * FLASH_MS);
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
      ...Object.fromEntries(["grid", "axis", "muted", "ink", "stage", "surface", "accent", "beyond", "shade"].map((name) => [name, color(name)])),
      lightness: color("player-lightness"), chroma: color("player-chroma"),
    };
  }

  #colorOf(id, alpha = 1) {
    return `oklch(${this.#colors.lightness} ${this.#colors.chroma} ${hueOf(id)} / ${alpha})`;
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
      const [from, to] = [trail[index - 1], trail[index]];
      if (from.x === to.x && from.y === to.y) continue;
      const part = index / trail.length;
      context.lineWidth = 1 + 5 * part;
      line(context, this.#colorOf(id, 0.28 * part * part), ...place(from), ...place(to));
    }
  }

  #drawPlayer(now, player, place, isNamed) {
    const context = this.#context;
    const [x, ground] = place(player);
    if (player.relay) this.#drawRelays(player, x, ground, place);
    context.globalAlpha = (player.away ? 0.4 : 1) * Math.max(0.25, 1 - FADE * Math.log2(1 + (player.age ?? 0)));
    const lift = this.#liftOf(player);
    if (lift > 0.5) this.#drawShadow(x, ground, lift);
    const y = ground - lift;
    const flash = this.#flashes.find(({ id }) => id === player.id);
    if (flash) this.#drawRing(now - flash.at, player.id, x, y);
    context.fillStyle = this.#colorOf(player.id);
    context.beginPath();
    context.arc(x, y, RADIUS, 0, 2 * Math.PI);
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = this.#colors.stage;
    context.stroke();
    const yaw = yawOf(player.pose);
    if (yaw !== null) this.#drawTick(x, y, yaw, this.#colorOf(player.id));
    if (player.me) {
      context.strokeStyle = this.#colors.ink;
      context.lineWidth = 1.5;
      context.beginPath();
      context.arc(x, y, RADIUS + 3, 0, 2 * Math.PI);
      context.stroke();
    }
    if (isNamed) this.#drawText(player.name, x, lift > 0.5 ? ground + 8 : y + 16, player.me ? 600 : 400, this.#colors.ink);
    if (flash?.text) this.#drawText(flash.text, x, y - 30, 600, this.#colorOf(player.id));
    context.globalAlpha = 1;
  }

  /** Where the relay has the own player, if that is elsewhere. */
  #drawRelays({ id, relay }, x, y, place) {
    const [relayX, relayY] = place(relay);
    if (Math.hypot(relayX - x, relayY - y) <= 3) return;
    const context = this.#context;
    context.strokeStyle = this.#colorOf(id, 0.6);
    context.lineWidth = 1;
    context.beginPath();
    context.arc(relayX, relayY, 7, 0, 2 * Math.PI);
    context.stroke();
  }

  /** How many pixels above the ground a player is, by its third coordinate. */
  #liftOf({ z = 0 }) {
    if (this.#layout?.axes !== 3) return 0;
    const [min, max] = [this.#layout.min[2], this.#layout.max[2]];
    const isFinite = Math.abs(min) < 1e9 && Math.abs(max) < 1e9 && max > min;
    const part = isFinite ? (z - min) / (max - min) : z / this.#camera.span;
    return LIFT_MAX * Math.min(1, Math.max(0, part));
  }

  #drawShadow(x, y, lift) {
    const context = this.#context;
    context.fillStyle = this.#colors.shade;
    context.strokeStyle = this.#colors.shade;
    context.lineWidth = 1;
    context.beginPath();
    context.ellipse(x, y, RADIUS * 0.9, RADIUS * 0.45, 0, 0, 2 * Math.PI);
    context.fill();
    line(context, this.#colors.shade, x, y, x, y - lift);
  }

  #drawTick(x, y, yaw, color) {
    const context = this.#context;
    const [dx, dy] = [Math.cos(yaw), Math.sin(yaw)];
    context.lineCap = "round";
    context.lineWidth = 3;
    line(context, color, x + dx * RADIUS, y + dy * RADIUS, x + dx * (RADIUS + 6), y + dy * (RADIUS + 6));
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
