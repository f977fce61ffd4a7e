// The meters below the map: what the connection of the game carries, taken once a second.

import { inUnits } from "./figures.js";
import { Rate, Sparkline } from "./meter.js";

const element = (id) => document.getElementById(id);

export class Measurements {
  /** Milliseconds to the relay and back; null: not known. */
  latency = null;
  /** What comes in. */
  bytesPerSecond = 0;
  /** Null: no frame has come in the last second. */
  positionsPerFrame = null;
  #traffic;
  #known;
  #rates = { in: new Rate(), out: new Rate(), frames: new Rate(), positions: new Rate() };
  #sparklines = Object.fromEntries(["latency", "bytes-in", "bytes-out", "frames"].map((id) => [id, new Sparkline(element(`${id}-spark`))]));

  /** `traffic`: { in, out } bytes, `known`: { frames, positions }, all of them growing. */
  constructor(traffic, known) {
    this.#traffic = traffic;
    this.#known = known;
  }

  clear() {
    for (const id of ["latency", "bytes-in", "bytes-out", "frames", "tick-rate", "players"]) element(id).value = "–";
    for (const sparkline of Object.values(this.#sparklines)) sparkline.clear();
    this.bytesPerSecond = 0;
    this.positionsPerFrame = null;
  }

  /** Since the last call; shown if `isPlaying`, which is returned. */
  take(isPlaying, players) {
    const [bytesIn, bytesOut] = [this.#rates.in.take(this.#traffic.in), this.#rates.out.take(this.#traffic.out)];
    const [frames, positions] = [this.#rates.frames.take(this.#known.frames), this.#rates.positions.take(this.#known.positions)];
    if (!isPlaying) return false;
    this.bytesPerSecond = bytesIn;
    this.positionsPerFrame = frames > 0 ? positions / frames : null;
    this.#showBytes("bytes-in", bytesIn);
    this.#showBytes("bytes-out", bytesOut);
    element("frames").value = frames.toFixed(frames < 9.95 ? 1 : 0);
    element("players").value = String(players);
    this.#sparklines.frames.push(frames);
    if (this.latency !== null) {
      element("latency").value = this.latency.toFixed(this.latency < 9.95 ? 1 : 0);
      this.#sparklines.latency.push(this.latency);
    }
    return true;
  }

  #showBytes(id, bytesPerSecond) {
    const [value, unit] = inUnits(bytesPerSecond);
    element(id).value = value;
    element(`${id}-unit`).textContent = unit;
    this.#sparklines[id].push(bytesPerSecond);
  }
}
