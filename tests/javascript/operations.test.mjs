// The algebra of clients/javascript/operations.mjs: laws, over random operations, and the cases that the laws leave open.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  apply,
  compose,
  cut,
  diff,
  invert,
  normalize,
  scalarLength,
  scalarToUtf16,
  split,
  transform,
  transformCursor,
  untransformCursor,
  utf16ToScalar,
  wellFormed,
} from "../../clients/javascript/operations.mjs";
import { Random } from "./random.mjs";

const ROUNDS = 4000;

/** Runs a law with many seeds; a failure says with which. */
function law(name, check) {
  test(name, () => {
    for (let seed = 1; seed <= ROUNDS; seed++) {
      try {
        check(new Random(seed));
      } catch (error) {
        error.message = `seed ${seed}: ${error.message}`;
        throw error;
      }
    }
  });
}

function assertNormal(operation) {
  assert.deepEqual(normalize(operation), operation);
  const kinds = operation.map((component) => (typeof component === "string" ? "insert" : component > 0 ? "keep" : "delete"));
  assert(operation.every((component) => component !== 0 && component !== ""), JSON.stringify(operation));
  assert(kinds.every((kind, index) => kind !== kinds[index + 1]), JSON.stringify(operation));
  assert(!kinds.some((kind, index) => kind === "delete" && kinds[index + 1] === "insert"), JSON.stringify(operation));
  assert.notEqual(kinds.at(-1), "keep");
}

law("both orders make the same text", (random) => {
  const text = random.text(20);
  const [earlier, later] = [random.operation(text), random.operation(text)];
  const [earlier2, later2] = transform(earlier, later);
  assertNormal(earlier2);
  assertNormal(later2);
  assert.equal(apply(apply(text, earlier), later2), apply(apply(text, later), earlier2));
});

law("a composition does what both do", (random) => {
  const text = random.text(20);
  const first = random.operation(text);
  const between = apply(text, first);
  const second = random.operation(between);
  const composed = compose(first, second);
  assertNormal(composed);
  assert.equal(apply(text, composed), apply(between, second));
});

law("an inverse takes back", (random) => {
  const text = random.text(20);
  const operation = random.operation(text);
  const inverse = invert(text, operation);
  assertNormal(inverse);
  assert.equal(apply(apply(text, operation), inverse), text);
});

law("parts do together what the whole does, each within the bounds", (random) => {
  const text = random.text(20);
  const operation = random.operation(text, 60);
  const [maxBytes, maxComponents] = [24 + random.upTo(40), 2 + random.upTo(3)];
  const parts = split(operation, maxBytes, maxComponents);
  for (const part of parts) {
    assertNormal(part);
    assert(Buffer.byteLength(JSON.stringify(part)) <= maxBytes, `${JSON.stringify(part)} has more than ${maxBytes} bytes`);
    assert(part.length <= maxComponents);
  }
  assert.deepEqual(parts.reduce(compose, []), operation);
  if (operation.length === 0) return;
  const [part, rest] = cut(operation, maxBytes, maxComponents);
  assertNormal(rest);
  assert.deepEqual([part, compose(part, rest)], [parts[0], operation]);
});

law("an edit of a text is found, wherever the caret is", (random) => {
  const before = random.text(20);
  const after = random.chance(0.5) ? random.text(20) : apply(before, random.operation(before));
  for (const caret of [undefined, 0, after.length, random.upTo(after.length)]) {
    const operation = diff(before, after, caret);
    assertNormal(operation);
    assert.equal(apply(before, operation), after);
  }
});

law("an edit is found where the user made it", (random) => {
  const before = "a".repeat(random.upTo(12)) + random.text(3);
  const length = scalarLength(before);
  const at = random.upTo(length);
  const isInsert = random.chance(0.5);
  const edit = normalize(isInsert ? [at, "a".repeat(1 + random.upTo(3))] : [at, -Math.min(1 + random.upTo(3), length - at)]);
  if (edit.length === 0) return;
  const after = apply(before, edit);
  const caret = scalarToUtf16(after, at + (isInsert ? scalarLength(edit.at(-1)) : 0));
  assert.deepEqual(diff(before, after, caret), edit);
});

law("a cursor keeps to its neighbours", (random) => {
  const text = random.text(20);
  const operation = random.operation(text);
  const result = scalarLength(apply(text, operation));
  let last = 0;
  for (let position = 0; position <= scalarLength(text); position++) {
    const [others, own] = [false, true].map((isOwn) => transformCursor(position, operation, isOwn));
    assert(last <= others && others <= own && own <= result, `${position} of ${JSON.stringify(operation)}: ${others}, ${own}`);
    last = others;
  }
  for (let position = 0; position <= result; position++) {
    const before = untransformCursor(position, operation);
    assert(0 <= before && before <= scalarLength(text));
    assert(transformCursor(before, operation, false) <= position && position <= transformCursor(before, operation, true));
  }
});

law("positions are counted in both units", (random) => {
  const text = random.text(20);
  const characters = [...text];
  assert.equal(scalarLength(text), characters.length);
  for (let position = 0; position <= characters.length; position++) {
    const index = characters.slice(0, position).join("").length;
    assert.equal(scalarToUtf16(text, position), index);
    assert.equal(utf16ToScalar(text, index), position);
  }
});

test("the normal form", () => {
  for (const [components, normal] of [
    [[], []],
    [[3, 0, "", 2], []],
    [[1, 2, "a", "b", -1, -2, 4], [3, "ab", -3]],
    [[-3, "x"], ["x", -3]],
    [[-1, "x", -2, "y"], ["xy", -3]],
    [["12", "-3", -1, "4"], ["12-34", -1]],
    [["1", 2], ["1"]],
    [["a", -1, "b", 1, "c"], ["ab", -1, 1, "c"]],
    [["\ud83e", 1, "\udd80", -1], ["\ufffd", 1, "\ufffd", -1]],
  ])
    assert.deepEqual(normalize(components), normal);
  for (const wrong of [1.5, NaN, null, {}, true, 2 ** 60]) assert.throws(() => normalize([wrong]), TypeError);
});

test("the earlier insert stands left", () => {
  assert.deepEqual(transform([2, "a"], [2, "b"]), [[2, "a"], [3, "b"]]);
  assert.equal(apply(apply("..", [2, "a"]), [3, "b"]), "..ab");
});

test("an insert into what is deleted stays", () => {
  assert.deepEqual(transform([-4], [2, "x"]), [[-2, 1, -2], ["x"]]);
  assert.deepEqual(transform([2, "x"], [-4]), [["x"], [-2, 1, -2]]);
});

test("what both delete is deleted once", () => {
  assert.deepEqual(transform([1, -3], [2, -3]), [[1, -1], [1, -1]]);
});

test("what reaches beyond the end is no operation on the text", () => {
  assert.throws(() => apply("🦀", [2, "x"]), RangeError);
  assert.throws(() => apply("🦀", [-2]), RangeError);
  assert.throws(() => invert("", [1, "x"]), RangeError);
  assert.equal(apply("🦀", [1, "x"]), "🦀x");
});

test("cursors at an insert, and in what is deleted", () => {
  assert.equal(transformCursor(2, [2, "xy"], false), 2);
  assert.equal(transformCursor(2, [2, "xy"], true), 4);
  assert.equal(transformCursor(3, [2, "🦀"], false), 4);
  assert.equal(transformCursor(3, [1, -4], false), 1);
  assert.equal(transformCursor(3, ["x", -3], false), 1);
  assert.equal(untransformCursor(4, [2, "xy"]), 2);
  assert.equal(untransformCursor(3, [2, "xy"]), 2);
  assert.equal(untransformCursor(5, [1, -2]), 7);
});

test("the caret decides which of several equal letters was typed or deleted", () => {
  assert.deepEqual(diff("aaa", "aaaa", 1), ["a"]);
  assert.deepEqual(diff("aaa", "aaaa", 3), [2, "a"]);
  assert.deepEqual(diff("aaa", "aaaa", 4), [3, "a"]);
  assert.deepEqual(diff("aaaa", "aaa", 1), [1, -1]);
  assert.deepEqual(diff("aaaa", "aaa", 0), [-1]);
});

test("a difference does not cut characters", () => {
  // 🦀 and 🦁 begin with the same unit, 🦀 and 🚀 end with the same.
  assert.deepEqual(diff("🦀", "🦁"), ["🦁", -1]);
  assert.deepEqual(diff("🦀", "\u{1f980}\u{1f981}", 2), [1, "🦁"]);
  assert.deepEqual(diff("a🦀b", "a\u{10180}b"), [1, "\u{10180}", -1]);
  assert.deepEqual(diff("a", "a\ud83e"), [1, "\ufffd"]);
});

test("half a character never leaves", () => {
  assert.equal(wellFormed("a\ud83e\ud83e\udd80\udd80"), "a\ufffd🦀\ufffd");
  assert.equal(utf16ToScalar("a🦀b", 2), 1);
});

test("a large text is edited, and a large operation takes no quadratic time", () => {
  const text = "lörem 🦀 ".repeat(30_000);
  const middle = scalarLength(text) / 2;
  for (let count = 0; count < 20; count++) {
    const after = apply(text, [middle, "x"]);
    assert.equal(diff(text, after, scalarToUtf16(after, middle + 1))[0], middle);
    invert(text, [middle, -1]);
    transform([middle, "x"], [3, "y"]);
  }
  const many = normalize(Array.from({ length: 100_000 }, () => [1, "ab", -1]).flat());
  const before = performance.now();
  transform(many, many);
  compose(many, many);
  split(many, 50_000, 900);
  invert(text, many);
  const manyMs = performance.now() - before;
  assert(manyMs < 30_000, `${manyMs} ms: one that is quadratic takes minutes`);
});
