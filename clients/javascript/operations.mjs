// What happens to a text, as docs/PROTOCOL.md has it under "Documents". No dependencies.
//
// An operation is a list of components, from the begin of the text to its end: 5 keeps five characters, "text" inserts,
// -3 deletes three. Characters are Unicode scalar values, not the UTF-16 units that JavaScript counts.
//
// All functions but `normalize` want operations in normal form, and give such: no component is empty, neighbours are of
// different kinds, an insert stands before a delete at the same place, nothing is kept at the end. Everybody has to use the
// same form: "x" before and "x" behind what the same operation deletes are two places for what others insert in between.

const HIGH = 0xd800;
const LOW = 0xdc00;
const kindOf = (unit) => unit & 0xfc00;

/** Half a surrogate pair is no character: it cannot be sent. */
export function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

export function scalarLength(text) {
  let pairs = 0;
  for (let at = 0; at < text.length; at++) if (kindOf(text.charCodeAt(at)) === HIGH) pairs++;
  return text.length - pairs;
}

/** How many characters stand before the UTF-16 index; one in the middle of a character counts as before it. */
export function utf16ToScalar(text, index) {
  const inside = index < text.length && kindOf(text.charCodeAt(index)) === LOW;
  return scalarLength(text.slice(0, inside ? index - 1 : index));
}

/** The UTF-16 index at which so many characters have passed. */
export function scalarToUtf16(text, position) {
  return advance(text, 0, position);
}

function advance(text, at, count) {
  const { length } = text;
  for (; count > 0 && at < length; count--) at += kindOf(text.charCodeAt(at)) === HIGH ? 2 : 1;
  if (count > 0) throw new RangeError("the operation reaches beyond the end of the text");
  return at;
}

// ------------------------------------------------------------------------------------------------------- building

// The type first: JavaScript finds that "12" > 0.
export const isInsert = (component) => typeof component === "string";
export const isKeep = (component) => typeof component === "number" && component > 0;
export const isDelete = (component) => typeof component === "number" && component < 0;
const isSameKind = (one, other) => [isInsert, isKeep, isDelete].some((isKind) => isKind(one) && isKind(other));

/** Appends a component, so that the list stays in normal form (but for what is kept at the end). */
function append(operation, component) {
  if (component === 0 || component === "") return;
  const last = operation.at(-1);
  if (isInsert(component) && isDelete(last)) {
    // The insert goes before the delete; there it may meet another one.
    operation.pop();
    append(operation, component);
    operation.push(last);
  } else if (isSameKind(component, last)) {
    operation[operation.length - 1] = last + component;
  } else {
    operation.push(component);
  }
}

function finished(operation) {
  if (isKeep(operation.at(-1))) operation.pop();
  return operation;
}

/** The normal form of any list of components; throws a TypeError if it is none. */
export function normalize(components) {
  const operation = [];
  for (const component of components) {
    if (!isInsert(component) && !Number.isSafeInteger(component)) throw new TypeError(`no component of an operation: ${component}`);
    append(operation, isInsert(component) ? wellFormed(component) : component);
  }
  return finished(operation);
}

/** Walks over the components of an operation in pieces; behind the last one everything is kept. */
class Reader {
  #components;
  #index = -1;
  /** The text of an insert; else null. */
  text = null;
  isDelete = false;
  /** How many characters are left of this component. */
  left = 0;
  #at = 0;

  constructor(components) {
    this.#components = components;
    this.#next();
  }

  get isEnd() {
    return this.#index >= this.#components.length;
  }

  /** Goes `count` characters on within the component; returns what they insert. */
  take(count) {
    let piece = null;
    if (this.text !== null) {
      const end = count === this.left ? this.text.length : advance(this.text, this.#at, count);
      piece = this.text.slice(this.#at, end);
      this.#at = end;
    }
    this.left -= count;
    if (this.left === 0) this.#next();
    return piece;
  }

  #next() {
    const component = this.#components[++this.#index];
    this.text = isInsert(component) ? component : null;
    this.isDelete = isDelete(component);
    this.left = this.isEnd ? Infinity : this.text === null ? Math.abs(component) : scalarLength(component);
    this.#at = 0;
  }
}

// -------------------------------------------------------------------------------------------------------- algebra

export function apply(text, operation) {
  const pieces = [];
  let at = 0;
  for (const component of operation) {
    if (isInsert(component)) {
      pieces.push(component);
      continue;
    }
    const end = advance(text, at, Math.abs(component));
    if (isKeep(component)) pieces.push(text.slice(at, end));
    at = end;
  }
  pieces.push(text.slice(at));
  return pieces.join("");
}

/**
 * Two operations on the same text, as each is behind the other: [earlier2, later2], so that `earlier` then `later2` makes the same
 * text as `later` then `earlier2`. What `earlier` inserts stands left of what `later` inserts at the same place.
 */
export function transform(earlier, later) {
  const [earlier2, later2] = [[], []];
  const [one, other] = [new Reader(earlier), new Reader(later)];
  while (!one.isEnd || !other.isEnd) {
    if (one.text !== null) {
      append(later2, one.left);
      append(earlier2, one.take(one.left));
    } else if (other.text !== null) {
      append(earlier2, other.left);
      append(later2, other.take(other.left));
    } else {
      const count = Math.min(one.left, other.left);
      if (!other.isDelete) append(earlier2, one.isDelete ? -count : count);
      if (!one.isDelete) append(later2, other.isDelete ? -count : count);
      one.take(count);
      other.take(count);
    }
  }
  return [finished(earlier2), finished(later2)];
}

/** One operation that does what `first` and then `second` do. */
export function compose(first, second) {
  const composed = [];
  const [one, other] = [new Reader(first), new Reader(second)];
  while (!one.isEnd || !other.isEnd) {
    if (one.isDelete) {
      append(composed, -one.left);
      one.take(one.left);
    } else if (other.text !== null) {
      append(composed, other.take(other.left));
    } else {
      const count = Math.min(one.left, other.left);
      const inserted = one.take(count);
      if (inserted === null) append(composed, other.isDelete ? -count : count);
      else if (!other.isDelete) append(composed, inserted);
      other.take(count);
    }
  }
  return finished(composed);
}

/** What takes the operation back that is made to this text. */
export function invert(text, operation) {
  const inverse = [];
  let at = 0;
  for (const component of operation) {
    if (isInsert(component)) {
      append(inverse, -scalarLength(component));
      continue;
    }
    const end = advance(text, at, Math.abs(component));
    append(inverse, isKeep(component) ? component : text.slice(at, end));
    at = end;
  }
  return finished(inverse);
}

// -------------------------------------------------------------------------------------------------------- cursors

/** Where a cursor is behind the operation. What its own user inserts at it moves it, what others do does not. */
export function transformCursor(position, operation, isOwn) {
  let at = 0;
  let moved = position;
  for (const component of operation) {
    if (at > position) break;
    if (isInsert(component)) {
      if (at < position || isOwn) moved += scalarLength(component);
    } else if (isKeep(component)) {
      at += component;
    } else {
      moved -= Math.min(-component, position - at);
      at -= component;
    }
  }
  return moved;
}

/** Where a cursor was before the operation: where a text was inserted, if it stands in that. */
export function untransformCursor(position, operation) {
  let [before, after] = [0, 0];
  for (const component of operation) {
    const kept = isInsert(component) ? scalarLength(component) : Math.max(component, 0);
    if (kept > 0 && position <= after + kept) return isInsert(component) ? before : before + position - after;
    after += kept;
    if (!isInsert(component)) before += Math.abs(component);
  }
  return before + position - after;
}

// ---------------------------------------------------------------------------------------------- for sending, from typing

/** Operations that do together, one behind the other, what this one does, and are each within the bounds. */
export function split(operation, maxJsonBytes, maxComponents) {
  const cutter = new Cutter(operation);
  const parts = [];
  while (!cutter.isEnd) parts.push(cutter.part(maxJsonBytes, maxComponents));
  return parts;
}

/** [part, rest]: as much of the operation as is within the bounds, and what is to be done behind it. */
export function cut(operation, maxJsonBytes, maxComponents) {
  const cutter = new Cutter(operation);
  return [cutter.part(maxJsonBytes, maxComponents), cutter.rest()];
}

class Cutter {
  #operation;
  #index = 0;
  #at = 0; // within an insert
  #reached = 0; // in the text as the parts so far make it

  constructor(operation) {
    this.#operation = operation;
  }

  get isEnd() {
    return this.#index === this.#operation.length;
  }

  part(maxJsonBytes, maxComponents) {
    const part = [];
    let bytesLeft = maxJsonBytes - 2; // brackets
    const add = (component, bytes) => {
      append(part, component);
      bytesLeft -= bytes;
    };
    add(this.#reached, jsonBytesOf(this.#reached));
    for (; !this.isEnd && part.length < maxComponents; this.#index++) {
      const component = this.#operation[this.#index];
      if (isInsert(component)) {
        const piece = pieceOf(component, this.#at, bytesLeft - 3); // quotes and a comma
        add(piece.text, 3 + piece.bytes);
        this.#reached += scalarLength(piece.text);
        this.#at += piece.text.length;
        if (this.#at < component.length) break;
        this.#at = 0;
      } else {
        if (bytesLeft < jsonBytesOf(component)) break;
        add(component, jsonBytesOf(component));
        this.#reached += Math.max(component, 0);
      }
    }
    return finished(part);
  }

  rest() {
    if (this.isEnd) return [];
    const [next, ...later] = this.#operation.slice(this.#index);
    const rest = [];
    append(rest, this.#reached);
    append(rest, isInsert(next) ? next.slice(this.#at) : next);
    return rest.concat(later);
  }
}

/** The longest piece of the text from `at` on that has at most so many bytes of JSON. */
function pieceOf(text, at, maxBytes) {
  let bytes = 0;
  let end = at;
  while (end < text.length) {
    const unit = text.charCodeAt(end);
    const size = jsonBytes(unit);
    if (bytes + size > maxBytes) break;
    bytes += size;
    end += kindOf(unit) === HIGH ? 2 : 1;
  }
  return { text: text.slice(at, end), bytes };
}

/** Of a number, with its comma. */
function jsonBytesOf(number) {
  return 1 + String(number).length;
}

/** How many bytes JSON.stringify and UTF-8 make of the character that begins with this unit. */
function jsonBytes(unit) {
  if (unit < 0x20) return "\b\t\n\f\r".includes(String.fromCharCode(unit)) ? 2 : 6;
  if (unit === 0x22 || unit === 0x5c) return 2;
  if (unit < 0x80) return 1;
  if (unit < 0x800) return 2;
  return kindOf(unit) === HIGH ? 4 : 3;
}

/**
 * The edit that made `after` of `before`. Where it may have been at several places (one more "a" in "aaa"), it was where the caret
 * is now: `caret` is its UTF-16 index in `after`.
 */
export function diff(before, after, caret) {
  after = wellFormed(after);
  const shorter = Math.min(before.length, after.length);
  const extendSuffix = (suffix, most) => {
    while (suffix < most && before.charCodeAt(before.length - 1 - suffix) === after.charCodeAt(after.length - 1 - suffix)) suffix++;
    return suffix;
  };
  // What stands behind the caret was there before.
  let suffix = extendSuffix(0, Math.min(shorter, after.length - (caret ?? after.length)));
  let prefix = 0;
  while (prefix < shorter - suffix && before.charCodeAt(prefix) === after.charCodeAt(prefix)) prefix++;
  suffix = extendSuffix(suffix, shorter - prefix);
  if (prefix > 0 && kindOf(before.charCodeAt(prefix - 1)) === HIGH) prefix--;
  if (suffix > 0 && kindOf(before.charCodeAt(before.length - suffix)) === LOW) suffix--;
  const deleted = before.slice(prefix, before.length - suffix);
  return normalize([scalarLength(before.slice(0, prefix)), after.slice(prefix, after.length - suffix), -scalarLength(deleted)]);
}
