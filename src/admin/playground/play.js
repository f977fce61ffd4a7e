// The game that is played: what is told of it comes in, the own player moves, and everybody is drawn.

import { Known } from "./known.js";
import { Pilot } from "./pilot.js";
import { Sight } from "./sight.js";
import { Stage } from "./stage.js";

/** How long a player that has come back waits for where the relay has it. */
const PLACE_WAIT_MS = 1000;
/** How long the own player takes from the top of the map to the bottom. */
const CROSSING_S = 2.5;

export class Play {
  known = new Known();
  sight = new Sight();
  #stage;
  #pilot;
  /** NativeGame or PhoenixGame, and what it said when it was joined; null: none is. */
  #game = null;
  #welcome = null;
  #placeUntilMs = null;
  #turnedAtMs = performance.now();
  /** What was asked for, as long as the page plays one game. */
  #radius = null;

  constructor(canvas, wave) {
    this.#stage = new Stage(canvas);
    const send = (place) => this.#game?.step(place) ?? null;
    this.#pilot = new Pilot(canvas, (x, y) => this.#stage.toWorld(x, y), wave, send);
  }

  /** A connection has joined. */
  start(game, welcome) {
    const { bounds, layout, tickHz } = welcome;
    this.#game = game;
    this.#welcome = welcome;
    // The first frame brings back what a resumed seat has; positions of another life would be wrong.
    this.sight.start(layout);
    this.#stage.start(bounds, layout, this.sight);
    this.known.start(tickHz, this.#stage.span / 2);
    this.#pilot.stop();
    this.#placeUntilMs = performance.now() + (welcome.resumed ? PLACE_WAIT_MS : 0);
    if (this.#radius !== null && layout.views) this.#look(this.#radius);
  }

  /** The connection is lost: the map stays. */
  pause() {
    this.#pilot.stop();
    this.#placeUntilMs = null;
  }

  end() {
    this.pause();
    this.#game = this.#welcome = this.#radius = null;
    this.known.clear();
  }

  frame(frame) {
    this.known.apply(frame, performance.now());
    if (!frame.silent && !frame.renamed?.length && frame.crowdLevel !== undefined) this.sight.level = frame.crowdLevel;
  }

  ack(ack) {
    this.#pilot.ack(ack, performance.now());
  }

  correction(correction) {
    this.#pilot.correct(correction, performance.now());
  }

  flash(id, text) {
    this.#stage.flash(id, text);
  }

  toWorld(clientX, clientY) {
    return this.#stage.toWorld(clientX, clientY);
  }

  /** Height of what a player sees, in world units. */
  get span() {
    return this.#stage.span;
  }

  /** Where the own player is; null: nowhere yet. */
  get ownPlace() {
    return this.#pilot.position;
  }

  /** Sees so many cells farther. */
  lookFarther(cells) {
    if (!this.#welcome?.layout.views) return;
    this.#look(this.sight.radius + cells);
  }

  /** A frame of the screen. `about(id)`: the name of a player, and whether it is away. */
  turn(about) {
    // Not the browser's own time of the frame, which can be before what was drawn in between.
    const now = performance.now();
    const seconds = (now - this.#turnedAtMs) / 1000;
    this.#turnedAtMs = now;
    if (this.#placeUntilMs !== null) this.#takePlace(now);
    this.#pilot.step(now, seconds);
    if (this.ownPlace) this.sight.follow(this.ownPlace, now);
    const players = this.players(about);
    this.#stage.draw(now, { players, objects: this.known.objects, sight: this.sight, overview: this.overview });
  }

  /** Everybody as the map shows them. */
  players(about) {
    if (!this.#welcome) return [];
    const now = performance.now();
    const { playerId } = this.#welcome;
    const own = this.#pilot.drawnAt(now);
    const shown = this.known.draw(now, (place) => this.sight.ticksMax(place));
    const others = shown.filter(({ id }) => id !== playerId || !own).map((place) => ({ ...place, ...about(place.id), me: false }));
    if (!own) return others;
    return [...others, { ...own, id: playerId, ...about(playerId), away: false, age: 0, me: true, relay: this.known.latestOf(playerId) }];
  }

  /** Everybody in the game, roughly: [{ id, x, y }], if the game tells that. */
  get overview() {
    return [...(this.#game?.world.overview.values() ?? [])];
  }

  #look(radius) {
    const { radiusMax } = this.#welcome.layout;
    this.#radius = Math.min(radiusMax, Math.max(1, radius));
    this.sight.radius = this.#radius;
    this.#game.setView(this.#radius);
  }

  #takePlace(nowMs) {
    const { playerId, tickHz, layout, maxSpeed } = this.#welcome;
    const held = this.known.latestOf(playerId);
    if (!held && nowMs < this.#placeUntilMs) return;
    this.#placeUntilMs = null;
    const { min, max } = layout;
    const spread = () => (Math.random() - 0.5) * this.#stage.span * 0.5;
    const near = (axis, value) => Math.min(max[axis], Math.max(min[axis], value));
    const { x, y } = this.#stage.middle;
    const { x: atX, y: atY, z = near(2, 0), pose = new Uint8Array(layout.poseBytes) } = held ?? { x: near(0, x + spread()), y: near(1, y + spread()) };
    const place = { x: atX, y: atY, ...(layout.axes === 3 && { z }), ...(layout.poseBytes > 0 && { pose }) };
    const speed = Math.min(this.#stage.span / CROSSING_S, 0.9 * (maxSpeed || Infinity));
    this.#pilot.start(place, { tickHz, layout, speed }, nowMs);
  }
}
