// The relay's clock, estimated from Pings. Ticks are stamped in it: tick n is at `tick0Us + n * 1e6 / tickHz`.
//
//   const clock = new RelayClock();
//   joined: ({ serverTimeUs }) => clock.welcome(serverTimeUs, performance.now()),
//   pong: (pong) => clock.pong(pong),
//   setInterval(() => clock.isPingDue(performance.now()) && game.ping(), 100);
//   clock.usAt(performance.now());
//
// A Pong proves that the relay's clock is ahead by its time less the middle of the way there and back, give or take half of that
// way. So the quickest Pong of the last seconds knows best, and the others bound what it may say.

const WINDOW_MS = 10_000;
const PINGS_PER_WINDOW = 8;
const BEST_MS = 60_000;
/** At first, to be right soon. */
const FIRST_PINGS = 4;
const FIRST_INTERVAL_MS = 150;
/** How fast the estimate follows what is known: time then runs between 96 and 104 % of its speed. */
const SLEW = 0.04;
/** How far two good clocks run apart; what an old Pong has proven gets vaguer by it. */
const DRIFT = 0.0002;
/** Browsers round their clock. */
const RESOLUTION_MS = 1;
/** What no slew should have to make up for: the machine slept, or the relay is another one. */
const JUMP_MS = 250;
/** How old a Welcome can be when it is read. */
const WELCOME_AGE_MS = 5000;

export class RelayClock {
  /** How often the estimate jumped, the first time included: what is drawn by it starts anew then. */
  jumps = 0;

  /** Pongs of the window: { atMs, offsetMs, rttMs }, oldest first. */
  #pongs = [];
  /** Relay's ms less local ms, as of #sinceMs; null: not known. */
  #offsetMs = null;
  #sinceMs = 0;
  #targetMs = 0;
  #pingedAtMs = -Infinity;
  #pings = 0;

  /** Whether something is known. */
  get isSet() {
    return this.#offsetMs !== null;
  }

  /** The relay's time in µs at a local time. It never runs backwards between two jumps. */
  usAt(nowMs) {
    return (nowMs + this.#offsetAt(nowMs)) * 1000;
  }

  /** Which tick it is at a local time, with its fraction. @param {{ tick0Us: number }} layout */
  tickAt(nowMs, { tick0Us }, tickHz) {
    return ((this.usAt(nowMs) - tick0Us) * tickHz) / 1e6;
  }

  /** How far the estimate may be off at a local time, by what Pongs have proven; Infinity before the first. */
  errorMsAt(nowMs) {
    if (this.#pongs.length === 0) return Infinity;
    const { leastMs, mostMs } = this.#bounds(nowMs);
    const offsetMs = this.#offsetAt(nowMs);
    return Math.max(mostMs - offsetMs, offsetMs - leastMs);
  }

  /** A new connection: its Welcome is a first guess, and shows whether the relay is the one that is known. */
  welcome(serverTimeUs, nowMs) {
    const offsetMs = serverTimeUs / 1000 - nowMs;
    const isKnown = this.isSet && this.#offsetAt(nowMs) > offsetMs - JUMP_MS && this.#offsetAt(nowMs) < offsetMs + WELCOME_AGE_MS;
    this.#pings = 0;
    this.#pingedAtMs = -Infinity;
    if (isKnown) return;
    this.#pongs = [];
    this.#jump(offsetMs, nowMs);
  }

  /** Whether to send a Ping now; then it counts as sent. To be asked every 100 ms or so. */
  isPingDue(nowMs) {
    const intervalMs = this.#pings < FIRST_PINGS ? FIRST_INTERVAL_MS : WINDOW_MS / PINGS_PER_WINDOW;
    if (nowMs - this.#pingedAtMs < intervalMs) return false;
    this.#pingedAtMs = nowMs;
    this.#pings += 1;
    return true;
  }

  /** @param {{ sentAtMs: number, receivedAtMs: number, serverTimeUs: number }} pong local times, and the relay's between them */
  pong({ sentAtMs, receivedAtMs, serverTimeUs }) {
    const rttMs = receivedAtMs - sentAtMs;
    if (!(rttMs >= 0)) return;
    const pong = { atMs: receivedAtMs, offsetMs: serverTimeUs / 1000 - (sentAtMs + receivedAtMs) / 2, rttMs };
    const isFirst = this.#pongs.length === 0;
    const contradictionMs = isFirst ? 0 : this.#contradiction(pong);
    // Clocks that both run on do not contradict themselves.
    if (contradictionMs > 0) this.#pongs = [];
    this.#keep(pong);
    const targetMs = this.#best(receivedAtMs);
    if (isFirst || contradictionMs > JUMP_MS) return this.#jump(targetMs, receivedAtMs);
    this.#offsetMs = this.#offsetAt(receivedAtMs);
    this.#sinceMs = receivedAtMs;
    this.#targetMs = targetMs;
  }

  /** Pongs of the window, and the best one for longer: in a bad hour none of a window may be any good. */
  #keep(pong) {
    const nowMs = pong.atMs;
    const best = quickest(this.#pongs, nowMs);
    const lately = this.#pongs.filter((earlier) => earlier !== best && nowMs - earlier.atMs <= WINDOW_MS);
    this.#pongs = [...lately.slice(1 - PINGS_PER_WINDOW), pong];
    if (best && nowMs - best.atMs <= BEST_MS) this.#pongs.unshift(best);
  }

  #offsetAt(nowMs) {
    if (this.#offsetMs === null) return 0;
    const mostMs = SLEW * Math.max(0, nowMs - this.#sinceMs);
    return this.#offsetMs + clamp(this.#targetMs - this.#offsetMs, -mostMs, mostMs);
  }

  #jump(offsetMs, nowMs) {
    this.#offsetMs = this.#targetMs = offsetMs;
    this.#sinceMs = nowMs;
    this.jumps += 1;
  }

  /** What the quickest Pong says, within what all have proven. */
  #best(nowMs) {
    const { leastMs, mostMs } = this.#bounds(nowMs);
    const { offsetMs } = quickest(this.#pongs, nowMs);
    return leastMs <= mostMs ? clamp(offsetMs, leastMs, mostMs) : offsetMs;
  }

  /** Between what the offset is, by all Pongs together. */
  #bounds(nowMs) {
    let [leastMs, mostMs] = [-Infinity, Infinity];
    for (const pong of this.#pongs) {
      leastMs = Math.max(leastMs, pong.offsetMs - vagueness(pong, nowMs));
      mostMs = Math.min(mostMs, pong.offsetMs + vagueness(pong, nowMs));
    }
    return { leastMs, mostMs };
  }

  /** How far a Pong is from being possible beside the earlier ones. */
  #contradiction({ atMs, offsetMs, rttMs }) {
    const { leastMs, mostMs } = this.#bounds(atMs);
    return Math.max(0, offsetMs - rttMs / 2 - mostMs, leastMs - (offsetMs + rttMs / 2));
  }
}

function quickest(pongs, nowMs) {
  return pongs.reduce((best, pong) => (best && vagueness(best, nowMs) <= vagueness(pong, nowMs) ? best : pong), null);
}

/** A pong's offset is right give or take this. */
function vagueness({ atMs, rttMs }, nowMs) {
  return rttMs / 2 + RESOLUTION_MS + DRIFT * Math.max(0, nowMs - atMs);
}

function clamp(value, least, most) {
  return Math.min(most, Math.max(least, value));
}
