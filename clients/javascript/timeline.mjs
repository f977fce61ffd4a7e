// Where to draw everybody now. Frames come in ticks, unevenly, and each names only who has moved; what is drawn is a little in the
// past, between two ticks that are both known, so that it glides.
//
//   const others = new Timeline({ snapDistance: 20 });
//   joined: ({ tickHz }) => others.start(tickHz),
//   frame: (frame) => others.apply(frame, performance.now()),
//   for (const { id, x, y, pose } of others.draw(performance.now())) …
//
// Times are of one clock, whichever. Samples are placed by their ticks, never by their arrival; only how late frames come is measured
// by it. An id that a Delta does not name stands still.

const DELAY_MS_MAX = 400;
const EXTRAPOLATION_MS_MAX = 250;
/** When the base and the delay of an id change, what is drawn runs so much faster or slower. */
const BASE_SLEW = 0.04;
const FASTER = 0.1;
const SLOWER = 0.25;
const BLEND_MS = 100;
/** Nothing drawn for so long: the tab was hidden. */
const HIDDEN_MS = 1000;
/** Frames that are so late come in a burst, after a standstill, and say nothing about jitter. */
const BURST_MS = 1000;
/** But who is so late for so long is that far away now. */
const FAR_AWAY_MS = 3000;
/** A relay that has nothing to tell says nothing. */
const SILENCE_MS = 1000;
/** After a Keyframe that tells of a longer gap, nobody knows how the way in between went. */
const GAP_MS_MAX = 500;
const LATENESS_WINDOW_MS = 10_000;
const LATENESS_MAX = 256;
const SAMPLES_MAX = 64;
const GAPS_MAX = 5;
/** The rarest that somebody who moves is told of; who is told of after longer had stood still. */
const GAP_TICKS_MAX = 16;

/**
 * @typedef {import("./records.mjs").Place & { id: number }} Entry
 * @typedef {{ tick: number, entry: Entry, isJump: boolean }} Sample `isJump`: nothing is between it and the one before
 */

export class Timeline {
  #of;
  #snapDistance;
  #interpolate;
  #delayMsMax;
  #extrapolationMsMax;
  #tickMs = 50;
  /** @type {Map<number, Track>} */
  #tracks = new Map();
  #latestTick = -1;
  #framedAtMs = -Infinity;
  #lateness = new Lateness();
  /** How much later than its tick's time the quickest frames come, as drawn; null: not yet. */
  #baseMs = null;
  #drawnAtMs = null;

  /**
   * @param {{
   *   of?: "positions" | "objects", snapDistance?: number, delayMsMax?: number, extrapolationMsMax?: number,
   *   interpolate?: (from: Uint8Array, to: Uint8Array, fraction: number) => Uint8Array,
   * }} options `snapDistance`: a longer way between two samples is a jump; `interpolate`: of poses, default the nearer one
   */
  constructor(options = {}) {
    this.#of = options.of ?? "positions";
    this.#snapDistance = options.snapDistance ?? Infinity;
    this.#interpolate = options.interpolate ?? ((from, to, fraction) => (fraction < 0.5 ? from : to));
    this.#delayMsMax = options.delayMsMax ?? DELAY_MS_MAX;
    this.#extrapolationMsMax = options.extrapolationMsMax ?? EXTRAPOLATION_MS_MAX;
  }

  /** A connection has begun. What is known stays until a Keyframe does not name it. */
  start(tickHz) {
    if (this.#tickMs !== 1000 / tickHz) this.#forget();
    this.#tickMs = 1000 / tickHz;
  }

  /** How many samples are kept, of all ids. */
  get samples() {
    return [...this.#tracks.values()].reduce((sum, { samples }) => sum + samples.length, 0);
  }

  /** How long behind the quickest frames an id is drawn; undefined: it is not there. */
  delayMsOf(id) {
    const track = this.#tracks.get(id);
    return track && (track.delayMs ?? this.#delayOf(track));
  }

  /** Takes a frame as NativeGame tells it. */
  apply(frame, nowMs) {
    const { tick, whole, renamed = [] } = frame;
    // Ticks go back only where another game has begun.
    if (tick < this.#latestTick) this.#forget();
    if (tick > this.#latestTick) this.#lateness.add(nowMs - tick * this.#tickMs, nowMs, this.#tickMs);
    for (const { from, to } of this.#of === "positions" ? renamed : []) this.#rename(from, to);
    for (const id of this.#of === "positions" ? frame.gonePlayers : frame.goneObjects) this.#tracks.delete(id);
    if (whole) this.#keepOnly(frame[this.#of]);
    this.#latestTick = tick;
    this.#framedAtMs = nowMs;
    const named = new Set();
    for (const entry of frame[this.#of]) {
      named.add(entry.id);
      this.#amend(this.#track(entry.id), (track) => track.add(tick, entry, whole, this.#tickMs, this.#snapDistance));
    }
    // Who was drawn ahead of what is known, and is not named, may stand still.
    for (const [id, track] of this.#tracks)
      if (track.isAhead && !track.isResting && !named.has(id) && track.restsBy(tick)) this.#amend(track, () => (track.isResting = true));
  }

  /** Everybody, where they are to be drawn now: entries as in frames. */
  draw(nowMs) {
    let elapsedMs = this.#drawnAtMs === null ? Infinity : nowMs - this.#drawnAtMs;
    if (elapsedMs < 0 || elapsedMs > HIDDEN_MS) {
      this.reset();
      elapsedMs = Infinity;
    }
    this.#drawnAtMs = nowMs;
    const quickestMs = this.#lateness.leastMs;
    if (quickestMs === null) return [];
    const isFar = this.#baseMs === null || Math.abs(quickestMs - this.#baseMs) > BURST_MS;
    this.#baseMs = isFar ? quickestMs : toward(this.#baseMs, quickestMs, BASE_SLEW * elapsedMs, BASE_SLEW * elapsedMs);
    const isSilent = nowMs - this.#framedAtMs > SILENCE_MS;
    return [...this.#tracks.values()].map((track) => {
      const delayMs = this.#delayOf(track);
      track.delayMs = toward(track.delayMs ?? delayMs, delayMs, SLOWER * elapsedMs, FASTER * elapsedMs);
      if (isSilent && track.isAhead && !track.isResting) this.#amend(track, () => (track.isResting = true));
      return this.#drawn(track, nowMs);
    });
  }

  /** Forgets how everybody was drawn, not where they are: the next frame that is drawn begins anew. */
  reset() {
    this.#baseMs = null;
    this.#drawnAtMs = null;
    for (const track of this.#tracks.values()) track.reset();
  }

  #forget() {
    this.#tracks.clear();
    this.#latestTick = -1;
    this.#lateness = new Lateness();
    this.#baseMs = null;
  }

  #track(id) {
    let track = this.#tracks.get(id);
    if (!track) this.#tracks.set(id, (track = new Track()));
    return track;
  }

  #keepOnly(entries) {
    const ids = new Set(entries.map(({ id }) => id));
    for (const id of this.#tracks.keys()) if (!ids.has(id)) this.#tracks.delete(id);
  }

  #rename(from, to) {
    const track = this.#tracks.get(from);
    if (!track) return;
    this.#tracks.delete(from);
    this.#tracks.set(to, track);
  }

  #delayOf(track) {
    return Math.min(this.#delayMsMax, 2 * track.intervalTicks * this.#tickMs + this.#lateness.jitterMs);
  }

  /** Changes what is known of an id; where that changes what was drawn last, the difference is blended away. */
  #amend(track, change) {
    if (!track.isAhead || this.#baseMs === null) return change(track);
    const atMs = this.#drawnAtMs;
    const before = this.#drawn(track, atMs);
    change(track);
    track.error = null;
    const after = this.#drawn(track, atMs);
    const error = { x: before.x - after.x, y: before.y - after.y, z: (before.z ?? 0) - (after.z ?? 0) };
    track.error = Math.hypot(error.x, error.y, error.z) > this.#snapDistance ? null : { ...error, sinceMs: atMs };
  }

  #drawn(track, nowMs) {
    const atMs = nowMs - this.#baseMs - track.delayMs;
    track.dropBefore(atMs / this.#tickMs);
    const drawn = this.#placeOf(track, atMs);
    if (track.error === null) return drawn;
    const left = 1 - (nowMs - track.error.sinceMs) / BLEND_MS;
    if (left <= 0) track.error = null;
    else shift(drawn, track.error, left);
    return drawn;
  }

  /** Where the samples have somebody at a time of the ticks. */
  #placeOf(track, atMs) {
    const { samples } = track;
    const later = samples.findIndex(({ tick }) => tick * this.#tickMs > atMs);
    const last = samples.at(-1);
    if (later < 0 && !track.isAhead && track.restsBy(this.#latestTick)) track.isResting = true;
    track.isAhead = later < 0;
    if (later === 0) return { ...samples[0].entry };
    if (later > 0) {
      const [from, to] = [samples[later - 1], samples[later]];
      if (to.isJump) return { ...from.entry };
      return this.#between(from, to, (atMs / this.#tickMs - from.tick) / (to.tick - from.tick));
    }
    const drawn = { ...last.entry };
    const previous = samples.at(-2);
    if (track.isResting || !previous || last.isJump) return drawn;
    const aheadMs = Math.min(this.#extrapolationMsMax, atMs - last.tick * this.#tickMs);
    const way = { x: last.entry.x - previous.entry.x, y: last.entry.y - previous.entry.y, z: (last.entry.z ?? 0) - (previous.entry.z ?? 0) };
    shift(drawn, way, aheadMs / ((last.tick - previous.tick) * this.#tickMs));
    return drawn;
  }

  #between({ entry: from }, { entry: to }, fraction) {
    const drawn = { ...(fraction < 0.5 ? from : to) };
    for (const axis of ["x", "y", "z"]) if (to[axis] !== undefined) drawn[axis] = from[axis] + (to[axis] - from[axis]) * fraction;
    if (from.pose && to.pose) drawn.pose = this.#interpolate(from.pose, to.pose, fraction);
    return drawn;
  }
}

/** What is known of one id, and how it is drawn. */
class Track {
  /** @type {Sample[]} oldest first, of different ticks */
  samples = [];
  /** It is known to stand still since the last sample. */
  isResting = false;
  /** It was drawn later than its last sample. */
  isAhead = false;
  delayMs = null;
  /** { x, y, z, sinceMs }: what is blended away. */
  error = null;
  /** Ticks between samples while it moved, newest last. */
  #gaps = [];

  /** How many ticks apart its samples usually are. */
  get intervalTicks() {
    if (this.#gaps.length === 0) return 1;
    return [...this.#gaps].sort((one, other) => one - other)[this.#gaps.length >> 1];
  }

  /** The longest that it is not named while it moves; one longer time is an exception. */
  get #patienceTicks() {
    return [...this.#gaps].sort((one, other) => other - one)[1] ?? 1;
  }

  /** Whether it stands still, if a frame of this tick does not name it. */
  restsBy(tick) {
    return tick - this.samples.at(-1).tick > this.#patienceTicks;
  }

  add(tick, entry, whole, tickMs, snapDistance) {
    const last = this.samples.at(-1);
    this.isResting = false;
    if (last?.tick === tick) this.samples.pop();
    const previous = this.samples.at(-1);
    const gap = previous ? tick - previous.tick : 0;
    const stood = whole ? gap * tickMs > GAP_MS_MAX : gap > this.#patienceTicks;
    if (previous && !whole && gap <= GAP_TICKS_MAX && last === previous) this.#gaps.push(gap);
    if (this.#gaps.length > GAPS_MAX) this.#gaps.shift();
    // It was not on its way here since its last sample.
    const leftAt = tick - this.intervalTicks;
    if (stood && leftAt > previous.tick) this.samples.push({ tick: leftAt, entry: previous.entry, isJump: false });
    this.samples.push({ tick, entry, isJump: previous !== undefined && distance(previous.entry, entry) > snapDistance });
    if (this.samples.length > SAMPLES_MAX) this.samples.splice(0, this.samples.length - SAMPLES_MAX);
  }

  /** Samples before the last one at or before a tick have been drawn; one more says how fast it was. */
  dropBefore(tick) {
    let count = 0;
    while (count + 2 < this.samples.length && this.samples[count + 1].tick <= tick) count++;
    this.samples.splice(0, count);
  }

  reset() {
    this.isAhead = false;
    this.delayMs = null;
    this.error = null;
  }
}

/** How late frames come: local time less the time of their tick, of the last seconds. */
class Lateness {
  /** The least; null: nothing has come. */
  leastMs = null;
  /** How much more than the least 95 % of them take at most. */
  jitterMs = 0;
  #samples = [];
  #lateSinceMs = null;
  #addedAtMs = -Infinity;

  add(lateMs, nowMs, tickMs) {
    // Frames that a network held back together were late once.
    const isTogether = nowMs - this.#addedAtMs < tickMs / 4;
    this.#addedAtMs = nowMs;
    if (isTogether && lateMs >= this.leastMs) return;
    const isBurst = this.leastMs !== null && lateMs - this.leastMs > BURST_MS;
    this.#lateSinceMs = isBurst ? (this.#lateSinceMs ?? nowMs) : null;
    if (isBurst && nowMs - this.#lateSinceMs < FAR_AWAY_MS) return;
    // The clock stood still while the machine slept.
    const hasSlept = this.leastMs !== null && this.leastMs - lateMs > BURST_MS;
    if (isBurst || hasSlept) this.#samples = [];
    this.#lateSinceMs = null;
    this.#samples.push({ lateMs, nowMs });
    this.#samples = this.#samples.filter((sample) => nowMs - sample.nowMs <= LATENESS_WINDOW_MS).slice(-LATENESS_MAX);
    const sorted = this.#samples.map((sample) => sample.lateMs).sort((one, other) => one - other);
    this.leastMs = sorted[0];
    this.jitterMs = sorted[Math.ceil(0.95 * sorted.length) - 1] - sorted[0];
  }
}

function distance(from, to) {
  return Math.hypot(to.x - from.x, to.y - from.y, (to.z ?? 0) - (from.z ?? 0));
}

function shift(entry, way, times) {
  for (const axis of ["x", "y", "z"]) if (entry[axis] !== undefined) entry[axis] += way[axis] * times;
}

/** `value` moved to `target`, by at most `up` or `down`. */
function toward(value, target, up, down) {
  return Math.min(value + up, Math.max(value - down, target));
}
