// What the relay says about the game, and where to draw it now: players are shown two ticks in the past, between two frames that
// both have arrived, so that they glide although frames come in steps.

const SAMPLES_MAX = 32;

export class World {
  /** Player id → {samples: [{at, x, y}], oldest first}. */
  players = new Map();
  /** Object id → {type, flags, x, y}. */
  objects = new Map();
  #tickMs = 50;

  start(tickHz) {
    this.#tickMs = 1000 / tickHz;
  }

  clear() {
    this.players.clear();
    this.objects.clear();
  }

  apply({ whole, positions, objects, gonePlayers, goneObjects }, now) {
    if (whole) this.#keepOnly(positions, objects);
    // What stands for the id of a seat may be gone and come in one frame.
    for (const id of gonePlayers) this.players.delete(id);
    for (const id of goneObjects) this.objects.delete(id);
    for (const position of positions) this.#sample(position, now);
    for (const { id, ...object } of objects) this.objects.set(id, object);
  }

  /** Where a player is drawn at `now`; undefined: nowhere. */
  positionOf(id, now) {
    const samples = this.players.get(id)?.samples;
    if (!samples) return undefined;
    const shown = now - 2 * this.#tickMs;
    let after = samples.length;
    while (after > 0 && samples[after - 1].at > shown) after--;
    if (after === 0) return samples[0];
    if (after === samples.length) return samples[after - 1];
    const [from, to] = [samples[after - 1], samples[after]];
    const part = (shown - from.at) / (to.at - from.at);
    return { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
  }

  /** What the relay said last. */
  latestOf(id) {
    return this.players.get(id)?.samples.at(-1);
  }

  #keepOnly(positions, objects) {
    const [players, things] = [positions, objects].map((entries) => new Set(entries.map(({ id }) => id)));
    for (const id of this.players.keys()) if (!players.has(id)) this.players.delete(id);
    for (const id of this.objects.keys()) if (!things.has(id)) this.objects.delete(id);
  }

  #sample({ id, x, y }, now) {
    const player = this.players.get(id) ?? { samples: [] };
    this.players.set(id, player);
    const last = player.samples.at(-1);
    // Frames hold changes only: who was not in the last ones stood still until a tick ago, and did not creep here since.
    if (last && now - last.at > 1.5 * this.#tickMs) player.samples.push({ ...last, at: now - this.#tickMs });
    player.samples.push({ at: Math.max(now, (last?.at ?? 0) + 0.1), x, y });
    if (player.samples.length > SAMPLES_MAX) player.samples.splice(0, player.samples.length - SAMPLES_MAX);
  }
}
