// Where the members of a shared text have their cursors: the others' for showing them, the own for telling it.

import { transformCursor, untransformCursor } from "./operations.mjs";

/** "Agreed" is the text that everybody has, "shown" the one with what this client was not answered yet. */
export class Cursors {
  #others = new Map(); // user id → {position, selectionEnd}, in the agreed text
  #own = null; // in the shown text
  #told = null; // what the others know of it, in the agreed text

  get isEmpty() {
    return this.#others.size === 0;
  }

  set(user, cursor) {
    this.#others.set(user, cursor);
  }

  delete(user) {
    this.#others.delete(user);
  }

  forgetOthers() {
    this.#others.clear();
  }

  /** The others' in the shown text; `pending` are the operations that make it of the agreed one. */
  shown(pending) {
    const show = (cursor) => pending.reduce((moved, operation) => move(moved, operation, false), cursor);
    return new Map([...this.#others].map(([user, cursor]) => [user, show(cursor)]));
  }

  /** The agreed text has changed. */
  advance(operation, author, self) {
    for (const [user, cursor] of this.#others) this.#others.set(user, move(cursor, operation, user === author));
    this.#told = move(this.#told, operation, author === self);
  }

  placeOwn(cursor) {
    this.#own = cursor;
  }

  /** The shown text has changed. */
  moveOwn(operation, isOwn) {
    this.#own = move(this.#own, operation, isOwn);
  }

  /** The own cursor in the agreed text, null for none; undefined if the others know it. What the own user types moves it for them, too. */
  untold(pending) {
    const before = (position) => pending.reduceRight(untransformCursor, position);
    const cursor = this.#own && { position: before(this.#own.position), selectionEnd: before(this.#own.selectionEnd) };
    const isTold = cursor?.position === this.#told?.position && cursor?.selectionEnd === this.#told?.selectionEnd;
    return isTold ? undefined : cursor;
  }

  told(cursor) {
    this.#told = cursor;
  }
}

function move(cursor, operation, isOwn) {
  if (cursor === null) return null;
  const [position, selectionEnd] = [cursor.position, cursor.selectionEnd].map((at) => transformCursor(at, operation, isOwn));
  return { position, selectionEnd };
}
