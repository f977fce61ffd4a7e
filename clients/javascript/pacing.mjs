// When to send: late enough that what is sent is fresh when its tick comes, early enough that it is there. The relay says in each Ack
// how long before its tick an input had arrived (slack); the send phase moves until that is twice the jitter and 3 ms.
//
//   const pacing = new Pacing();
//   joined: ({ tickHz }) => pacing.start(tickHz, performance.now()),
//   ack: (ack) => pacing.ack(ack),
//   const turn = () => {
//     const now = performance.now();
//     if (pacing.isDue(now)) pacing.sent(game.step(place), now);
//     setTimeout(turn, pacing.waitMs(performance.now()));
//   };
//
// Without Acks sending is evenly spaced, once per tick.

const MARGIN_MS = 3;
const JITTERS = 2;
/** Acks that say where the tick is. */
const WINDOW = 64;
const WINDOW_MIN = 4;
/** How long they say so: clocks drift. */
const WINDOW_MS = 10_000;
/** How much longer or shorter than a tick the time between two sendings may be. */
const STEP_MS_MAX = 2;
const STEP_PART_MAX = 0.1;
/** Inputs whose Ack may still come. */
const SENT_MAX = 64;

export class Pacing {
  #tickMs = 50;
  #nextMs = 0;
  /** Of the last time that it was due: when that was meant to be, and when it was noticed. */
  #due = { plannedMs: 0, atMs: null };
  /** input_seq → when it was sent, or should have been. */
  #sent = new Map();
  /** Moments { atMs, deadlineMs } of sending that would have arrived just at a tick, by Acks; oldest first. */
  #deadlines = [];

  /** A connection has begun. */
  start(tickHz, nowMs) {
    this.#tickMs = 1000 / tickHz;
    this.#nextMs = nowMs;
    this.#sent.clear();
    this.#deadlines = [];
  }

  /** Whether to send now; then the next time is a tick later, give or take a step. */
  isDue(nowMs) {
    if (nowMs < this.#nextMs) return false;
    this.#due = { plannedMs: this.#nextMs, atMs: nowMs };
    this.#nextMs += this.#tickMs + this.#step(nowMs);
    // A timer that was held back does not bring several at once.
    if (this.#nextMs <= nowMs) this.#nextMs += Math.ceil((nowMs - this.#nextMs) / this.#tickMs + 1e-9) * this.#tickMs;
    return true;
  }

  /** How long until it is due. */
  waitMs(nowMs) {
    return Math.max(0, this.#nextMs - nowMs);
  }

  /** An input was sent, also one that was not waited for; null, which `step` returns without a connection, is passed over. */
  sent(inputSeq, nowMs) {
    if (inputSeq === null) return;
    // How late a timer is belongs to the way.
    const isPlanned = nowMs === this.#due.atMs && nowMs - this.#due.plannedMs < this.#tickMs / 2;
    this.#sent.delete(inputSeq);
    this.#sent.set(inputSeq, isPlanned ? this.#due.plannedMs : nowMs);
    if (this.#sent.size > SENT_MAX) this.#sent.delete(this.#sent.keys().next().value);
  }

  /** @param {{ inputSeq: number, slackMs: number | null }} ack */
  ack({ inputSeq, slackMs }) {
    const atMs = this.#sent.get(inputSeq);
    if (atMs === undefined) return;
    this.#sent.delete(inputSeq);
    if (slackMs === null) return;
    this.#deadlines.push({ atMs, deadlineMs: atMs + slackMs });
    if (this.#deadlines.length > WINDOW) this.#deadlines.shift();
  }

  /** How uneven the way to the relay is, what slack is aimed at, and how much more there is as planned; null: too few Acks. */
  at(nowMs) {
    const known = this.#deadlines.filter(({ atMs }) => nowMs - atMs <= WINDOW_MS);
    if (known.length < WINDOW_MIN) return null;
    // Of ticks only their phase counts, so all are brought within half a tick of the newest.
    const reference = known.at(-1).deadlineMs;
    const phases = known.map(({ deadlineMs }) => around(deadlineMs - reference, this.#tickMs)).sort((one, other) => one - other);
    const middle = phases[phases.length >> 1];
    const jitterMs = phases.reduce((sum, phase) => sum + Math.abs(phase - middle), 0) / phases.length;
    const targetMs = JITTERS * jitterMs + MARGIN_MS;
    return { jitterMs, targetMs, aheadMs: around(reference + middle - this.#nextMs - targetMs, this.#tickMs) };
  }

  #step(nowMs) {
    const most = Math.min(STEP_MS_MAX, STEP_PART_MAX * this.#tickMs);
    return Math.min(most, Math.max(-most, this.at(nowMs)?.aheadMs ?? 0));
  }
}

/** `value` less as many whole periods as leave it between minus and plus half of one. */
function around(value, period) {
  return value - period * Math.round(value / period);
}
