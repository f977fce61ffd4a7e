// What the page has said in a room and the room has not answered: nothing of it is lost with a connection, or said twice.

import { isPassing, refusalText } from "./chat-words.js";

/** Where a refusal that passes does not say when. */
const RETRY_MS = 1000;

export class Outbox {
  /** {clientId, body, at, state: "unsent" | "sending" | "refused", why, retryAt, isTold}; `isTold`: the room has it, and its answer follows. */
  entries = [];
  #push;
  #said;
  #changed;

  /** `push(body, clientId)` gives a promise of the message, and rejects with a refusal; `said(message)`: it is in the room. */
  constructor({ push, said, changed }) {
    this.#push = push;
    this.#said = said;
    this.#changed = changed;
  }

  say(body) {
    this.entries.push({ clientId: uniqueId(), body, at: Date.now(), state: "unsent", why: null, retryAt: null, isTold: false });
    this.sendNext();
  }

  /**
   * Sends the first that waits, and with its answer the next: what is said in order is there in order. The same `clientId` each time: what
   * was said although its answer was lost is not said twice.
   */
  sendNext() {
    const isBusy = this.entries.some(({ state, retryAt }) => state === "sending" || retryAt !== null);
    const next = this.entries.find(({ state }) => state === "unsent");
    if (!isBusy && next) this.#send(next);
    this.#changed();
  }

  /** Sends what was refused once more. */
  again(entry) {
    clearTimeout(entry.timer);
    Object.assign(entry, { state: "unsent", why: null, retryAt: null });
    this.sendNext();
  }

  discard(entry) {
    clearTimeout(entry.timer);
    this.entries = this.entries.filter((other) => other !== entry);
    this.sendNext();
  }

  /** The room tells everybody of a message of this user. */
  told(body) {
    const entry = this.entries.find(({ state }) => state === "sending");
    if (entry?.body === body) entry.isTold = true;
  }

  end() {
    for (const entry of this.entries) clearTimeout(entry.timer);
  }

  async #send(entry) {
    entry.state = "sending";
    try {
      this.#said(await this.#push(entry.body, entry.clientId));
      this.discard(entry);
    } catch (refusal) {
      if (this.entries.includes(entry)) this.#notSent(entry, refusal);
    }
  }

  #notSent(entry, refusal) {
    entry.isTold = false;
    // Without an answer nobody knows whether it was said.
    if (refusal.reason === "timeout") return this.again(entry);
    if (refusal.reason === "offline") {
      entry.state = "unsent";
      return this.#changed();
    }
    Object.assign(entry, { state: "refused", why: refusalText(refusal) });
    if (isPassing(refusal)) {
      const waitMs = refusal.retry_after ?? RETRY_MS;
      entry.retryAt = performance.now() + waitMs;
      entry.timer = setTimeout(() => this.again(entry), waitMs);
    }
    this.sendNext();
  }
}

/** `crypto.randomUUID` is not there on pages that come over plain HTTP from elsewhere. */
export function uniqueId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
