// The own player moves at once, before the relay has seen it; when the relay says otherwise, what it has not seen yet is done again
// from where it holds the player, and the difference is blended away.
//
//   const own = new Prediction({ send: (place) => game.step(place) });
//   own.input({ x: speed * seconds, y: 0 }, performance.now());   // every frame that is drawn
//   own.flush();                                                  // whenever it is time to send
//   own.stop();                                                   // no key is down any more
//   ack: (ack) => own.ack(ack, performance.now()),
//   correction: (correction) => own.correct(correction, performance.now()),
//   own.drawnAt(performance.now());                               // { x, y, z, pose }

const BLEND_MS_MIN = 65;
const BLEND_MS_MAX = 100;
/** Places that were sent and not acknowledged; more than a relay that gives Acks leaves waiting for 2 s at 60 Hz. */
const SENT_MAX = 128;
const AXES = ["x", "y", "z"];

/**
 * @typedef {import("./records.mjs").Place} Place
 * @typedef {{ inputs: object[], inputSeq: number, place: Place }} Sent what was sent: the inputs since the one before, and where they had led
 */

export class Prediction {
  #send;
  #advance;
  #blendMs;
  #snapDistance;

  /** Where the relay holds the player, by what is acknowledged. */
  #base = { x: 0, y: 0, z: 0 };
  /** @type {Sent[]} oldest first */
  #sent = [];
  /** Inputs since the last sending. */
  #unsent = [];
  /** What all inputs make of #base. */
  #place = this.#base;
  /** Drawn is #place and this, which fades from #errorSinceMs on. */
  #error = { x: 0, y: 0, z: 0 };
  #errorSinceMs = 0;
  #isMoving = false;

  /**
   * @param {{
   *   send: (place: Place) => number | null,
   *   advance?: (place: Place, input: object) => Place,
   *   blendMs?: number,
   *   snapDistance?: number,
   * }} options `send` returns the input_seq; `advance` says what an input makes of a place, and is called again for the same input: default, `input`
   * is how far to go, and the pose from then on. `blendMs` 65 to 100. Errors beyond `snapDistance` are not blended
   */
  constructor({ send, advance = goBy, blendMs = 80, snapDistance = Infinity }) {
    this.#send = send;
    this.#advance = advance;
    this.#blendMs = Math.min(BLEND_MS_MAX, Math.max(BLEND_MS_MIN, blendMs));
    this.#snapDistance = snapDistance;
  }

  /** Where the inputs have led, without blending. */
  get place() {
    return this.#place;
  }

  /** How many sendings wait for an Ack. */
  get unacknowledged() {
    return this.#sent.length;
  }

  /** Puts the player somewhere, as at a join or by a teleport: nothing of before counts. */
  start(place) {
    this.#sent = [];
    this.#unsent = [];
    this.#base = this.#place = { z: 0, ...place };
    this.#error = { x: 0, y: 0, z: 0 };
    this.#isMoving = false;
  }

  /** What the user does now. Returns where the player is. */
  input(input) {
    this.#unsent.push(input);
    this.#place = this.#advance(this.#place, input);
    this.#isMoving = true;
    return this.#place;
  }

  /** Sends where the player is, if it was not sent yet. Returns the input_seq; null: nothing was sent. */
  flush() {
    if (this.#unsent.length === 0) return null;
    const inputSeq = this.#send(this.#place);
    if (inputSeq === null) return null;
    this.#sent.push({ inputs: this.#unsent, inputSeq, place: this.#place });
    this.#unsent = [];
    if (this.#sent.length > SENT_MAX) this.#base = this.#sent.shift().place;
    return inputSeq;
  }

  /** The player does not move any more: others are told without waiting for the next sending. `input`, if the pose says so, too. */
  stop(input) {
    if (!this.#isMoving) return null;
    if (input !== undefined) this.input(input);
    this.#isMoving = false;
    return this.flush();
  }

  /**
   * The relay has consumed an input, and those before it. `place`: where its frame of that tick has the player, where a host decides that; else the
   * player is where the input said.
   * @param {{ inputSeq: number }} ack
   */
  ack({ inputSeq }, nowMs, place) {
    const consumed = this.#drop(inputSeq);
    // Nothing is left of what was corrected: its place is known already.
    if (place ?? consumed) this.#rebase(place ?? consumed.place, nowMs);
  }

  /** The relay has refused an input, and says where it holds the player. @param {{ inputSeq: number } & Place} correction */
  correct({ inputSeq, x, y, z = 0 }, nowMs) {
    this.#drop(inputSeq);
    this.#rebase({ ...this.#base, x, y, z }, nowMs);
  }

  /** Where to draw the player. */
  drawnAt(nowMs) {
    const error = this.#errorAt(nowMs);
    const drawn = { ...this.#place };
    for (const axis of AXES) drawn[axis] += error[axis];
    return drawn;
  }

  /** Forgets what was sent up to an input; returns the last of it. */
  #drop(inputSeq) {
    let last;
    while (this.#sent.length > 0 && !isAfter(this.#sent[0].inputSeq, inputSeq)) last = this.#sent.shift();
    return last;
  }

  #rebase(base, nowMs) {
    const before = this.drawnAt(nowMs);
    const placed = this.#place;
    this.#base = { z: 0, ...base };
    const inputs = [...this.#sent.flatMap((sent) => sent.inputs), ...this.#unsent];
    this.#place = inputs.reduce((place, input) => this.#advance(place, input), this.#base);
    if (AXES.every((axis) => this.#place[axis] === placed[axis])) return;
    const error = {};
    for (const axis of AXES) error[axis] = before[axis] - this.#place[axis];
    const distance = Math.hypot(error.x, error.y, error.z);
    this.#error = distance > this.#snapDistance ? { x: 0, y: 0, z: 0 } : error;
    this.#errorSinceMs = nowMs;
  }

  #errorAt(nowMs) {
    const left = Math.max(0, 1 - (nowMs - this.#errorSinceMs) / this.#blendMs);
    return { x: this.#error.x * left, y: this.#error.y * left, z: this.#error.z * left };
  }
}

function goBy({ x, y, z, pose }, { x: dx = 0, y: dy = 0, z: dz = 0, pose: newPose = pose }) {
  return { x: x + dx, y: y + dy, z: z + dz, ...(newPose && { pose: newPose }) };
}

/** Whether an input_seq is behind another; they wrap after 65,535. */
function isAfter(one, other) {
  return ((one - other) & 0xffff) - 1 < 0x7fff && one !== other;
}
