// Random texts and operations from a seed, so that a failure can be seen again.
import { normalize, scalarLength } from "../../clients/javascript/operations.mjs";

/** Characters of one to four bytes, of one and two UTF-16 units, that combine with others, that JSON escapes, and that make numbers. */
const CHARACTERS = [..."abc 0127--.\n\"\\\u0000\u001fé\u0301ß漢\u2028\ufffd🦀𝄞👩\u200d🏽"];

export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** From 0 to below 1 (mulberry32). */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 to `most`. */
  upTo(most) {
    return Math.floor(this.next() * (most + 1));
  }

  chance(probability) {
    return this.next() < probability;
  }

  text(mostCharacters) {
    return Array.from({ length: this.upTo(mostCharacters) }, () => CHARACTERS[this.upTo(CHARACTERS.length - 1)]).join("");
  }

  /** An operation on this text, of a few components. */
  operation(text, mostInserted = 6) {
    const components = [];
    let left = scalarLength(text);
    for (let count = this.upTo(6); count > 0; count--) {
      const kind = this.upTo(2);
      if (kind === 0) {
        components.push(this.text(mostInserted));
      } else {
        const length = this.upTo(Math.min(left, 8));
        components.push(kind === 1 ? length : -length);
        left -= length;
      }
    }
    return normalize(components);
  }
}
