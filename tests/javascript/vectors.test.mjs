// The relay and the client agree on operations: clients/vectors/operations.json, which the relay's tests write.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { apply, compose, invert, normalize, transform, transformCursor } from "../../clients/javascript/operations.mjs";

const VECTORS = new URL("../../clients/vectors/operations.json", import.meta.url);

/** What a vector of each kind is made of, and what comes out. */
const KINDS = {
  apply: ({ text, operation, result }) => [apply(text, normalize(operation)), result],
  transform: ({ earlier, later, earlier_transformed: earlier2, later_transformed: later2 }) => [
    transform(normalize(earlier), normalize(later)),
    [earlier2, later2],
  ],
  compose: ({ first, second, composed }) => [compose(normalize(first), normalize(second)), composed],
  invert: ({ text, operation, inverted }) => [invert(text, normalize(operation)), inverted],
  cursor: ({ position, operation, own, moved }) => [transformCursor(position, normalize(operation), own), moved],
};

for (const [kind, check] of Object.entries(KINDS))
  test(`the relay's vectors: ${kind}`, () => {
    const vectors = JSON.parse(readFileSync(VECTORS, "utf8"))[kind];
    assert(vectors?.length > 0, `clients/vectors/operations.json has no vectors of "${kind}"`);
    for (const vector of vectors) {
      const [actual, expected] = check(vector);
      assert.deepEqual(actual, expected, JSON.stringify(vector));
    }
  });
