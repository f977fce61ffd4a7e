// What a user can take back of its own edits, in a text that others edit, too.

import { compose, isDelete, isInsert, isKeep, scalarLength, transform, transformCursor } from "./operations.mjs";

const MAX_ENTRIES = 200;
/** What is typed without a longer pause, at one place, is taken back at once. */
const GROUP_MS = 500;

/** Two stacks of operations. The upper one of each is for the present text, each below for the text without those above it. */
export class History {
  #undos = [];
  #redos = [];
  /** Where and when the upper undo was added to; null: nothing more is added to it. */
  #typing = null;

  get canUndo() {
    return this.#undos.some(isSome);
  }

  get canRedo() {
    return this.#redos.some(isSome);
  }

  /** An edit was made, which `inverse` takes back. */
  record(operation, inverse) {
    const now = performance.now();
    const edit = placeOf(operation);
    const typing = this.#typing;
    const continues = typing && edit && now - typing.at <= GROUP_MS && (edit.begin === typing.place || edit.end === typing.place);
    if (continues) this.#undos.push(compose(inverse, this.#undos.pop()));
    else this.#push(this.#undos, inverse);
    this.#redos = [];
    this.#typing = edit && { place: edit.begin + edit.inserted, at: now };
  }

  /** Others have changed the text. */
  transform(change) {
    this.#undos = transformed(this.#undos, change);
    this.#redos = transformed(this.#redos, change);
    if (this.#typing) this.#typing.place = transformCursor(this.#typing.place, change, false);
  }

  /** The operation that takes the last edit back, or null. What takes that back is told to `undone`. */
  undo() {
    return this.#pop(this.#undos);
  }

  undone(inverse) {
    this.#push(this.#redos, inverse);
  }

  redo() {
    return this.#pop(this.#redos);
  }

  redone(inverse) {
    this.#push(this.#undos, inverse);
  }

  clear() {
    this.#undos = [];
    this.#redos = [];
    this.#typing = null;
  }

  #push(stack, operation) {
    stack.push(operation);
    if (stack.length > MAX_ENTRIES) stack.shift();
  }

  #pop(stack) {
    this.#typing = null;
    // What others have deleted needs no taking back.
    while (stack.length > 0) {
      const operation = stack.pop();
      if (isSome(operation)) return operation;
    }
    return null;
  }
}

function isSome(operation) {
  return operation.length > 0;
}

function transformed(stack, change) {
  const result = [];
  for (const operation of [...stack].reverse()) {
    const [later, upper] = transform(change, operation);
    result.push(upper);
    change = later;
  }
  return result.reverse();
}

/** Where an edit at one place begins and ends in the text before it, and how many characters it inserts; else null. */
function placeOf(operation) {
  const [begin, ...changes] = isKeep(operation[0]) ? operation : [0, ...operation];
  const inserts = changes.filter(isInsert);
  const deletes = changes.filter(isDelete);
  if (inserts.length > 1 || deletes.length > 1 || inserts.length + deletes.length < changes.length) return null;
  return { begin, end: begin - (deletes[0] ?? 0), inserted: scalarLength(inserts[0] ?? "") };
}
