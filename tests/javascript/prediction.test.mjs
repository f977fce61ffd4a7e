// Prediction of the own player, against a relay that the test plays; times are numbers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Prediction } from "../../clients/javascript/prediction.mjs";
import { Random } from "./random.mjs";

function predicting(options = {}) {
  const sent = [];
  let connected = true;
  let inputSeq = options.firstSeq ?? 0;
  const own = new Prediction({
    send: (place) => {
      if (!connected) return null;
      inputSeq = (inputSeq + 1) & 0xffff;
      sent.push({ inputSeq, ...place });
      return inputSeq;
    },
    ...options,
  });
  own.start({ x: 0, y: 0 });
  return { own, sent, disconnect: () => (connected = false) };
}

test("the player moves at once, and an Ack changes nothing of it", () => {
  const { own, sent } = predicting();
  own.input({ x: 1 });
  own.input({ x: 1, y: 2 });
  assert.deepEqual(own.drawnAt(0), { x: 2, y: 2, z: 0 });
  assert.equal(own.flush(), 1);
  assert.equal(own.flush(), null, "there is nothing new");
  own.input({ x: 1 });
  own.flush();
  own.ack({ inputSeq: 1 }, 50);
  assert.deepEqual([own.drawnAt(50).x, own.unacknowledged], [3, 1]);
  assert.deepEqual(sent.map(({ x }) => x), [2, 3]);
});

test("a Correction drops what it answers, replays the rest, and blends the error away in 80 ms", () => {
  const { own } = predicting();
  for (let count = 0; count < 3; count++) own.input({ x: 10 }), own.flush();
  own.input({ x: 10 });
  own.correct({ inputSeq: 1, x: 2, y: 0 }, 100);
  assert.equal(own.place.x, 32, "2 and three inputs of 10");
  assert.equal(own.drawnAt(100).x, 40, "no jump");
  assert.equal(own.drawnAt(140).x, 36);
  assert.equal(own.drawnAt(180).x, 32);
  // The relay has taken the next as it was sent, before the Correction had come.
  own.ack({ inputSeq: 2 }, 200);
  assert.equal(own.place.x, 40);
});

test("the Ack of a corrected input leaves the place of the Correction", () => {
  const { own } = predicting();
  own.input({ x: 10 }), own.flush();
  own.input({ x: 10 }), own.flush();
  own.correct({ inputSeq: 2, x: 10, y: 0 }, 0);
  own.ack({ inputSeq: 2 }, 0);
  assert.deepEqual([own.place.x, own.unacknowledged], [10, 0]);
});

test("where a host decides, an Ack comes with the place of the frame", () => {
  const { own } = predicting();
  for (let count = 0; count < 3; count++) own.input({ x: 1 }), own.flush();
  own.ack({ inputSeq: 2 }, 0, { x: 1.5, y: 0 });
  assert.equal(own.place.x, 2.5);
  assert.equal(own.drawnAt(0).x, 3);
});

test("blending takes 65 to 100 ms, is not prolonged by Acks, and never jumps", () => {
  for (const [blendMs, tookMs] of [[10, 65], [80, 80], [500, 100]]) {
    const { own } = predicting({ blendMs });
    own.input({ x: 10 }), own.flush();
    own.input({ x: 0 }), own.flush();
    own.correct({ inputSeq: 1, x: 0, y: 0 }, 0);
    own.ack({ inputSeq: 2 }, 1, own.place);
    assert(own.drawnAt(tookMs - 5).x > 0);
    assert.equal(own.drawnAt(tookMs).x, 0, `${blendMs}`);
  }
});

test("an error beyond the snap distance is not blended", () => {
  const { own } = predicting({ snapDistance: 5 });
  own.input({ x: 10 }), own.flush();
  own.correct({ inputSeq: 1, x: 0, y: 0 }, 0);
  assert.equal(own.drawnAt(0).x, 0);
});

test("a stop is sent at once, once", () => {
  const { own, sent } = predicting();
  assert.equal(own.stop(), null, "it has not moved");
  own.input({ x: 1, pose: Uint8Array.of(9) });
  assert.equal(own.stop({ pose: Uint8Array.of(0) }), 1);
  assert.deepEqual(sent, [{ inputSeq: 1, x: 1, y: 0, z: 0, pose: Uint8Array.of(0) }]);
  assert.equal(own.stop(), null);
  assert.equal(own.stop({ pose: Uint8Array.of(0) }), null);
});

test("numbers of inputs wrap", () => {
  const { own } = predicting({ firstSeq: 65_533 });
  for (let count = 0; count < 5; count++) own.input({ x: 1 }), own.flush();
  own.ack({ inputSeq: 0 }, 0);
  assert.equal(own.unacknowledged, 2);
  own.ack({ inputSeq: 65_535 }, 0);
  assert.equal(own.unacknowledged, 2, "an old one changes nothing");
  own.ack({ inputSeq: 2 }, 0);
  assert.deepEqual([own.unacknowledged, own.place.x], [0, 5]);
});

test("without Acks what is kept is bounded, and the place right", () => {
  const { own } = predicting();
  for (let count = 0; count < 10_000; count++) own.input({ x: 1 }), own.flush();
  assert(own.unacknowledged <= 128);
  assert.equal(own.place.x, 10_000);
  own.correct({ inputSeq: 10_000, x: 0, y: 0 }, 0);
  assert.equal(own.place.x, 0);
});

test("without a connection inputs wait", () => {
  const { own, disconnect } = predicting();
  disconnect();
  own.input({ x: 1 });
  assert.equal(own.flush(), null);
  assert.deepEqual([own.place.x, own.unacknowledged], [1, 0]);
});

test("a game's own rule is replayed: walls", () => {
  const advance = ({ x, y, z }, { by }) => ({ x: Math.min(10, x + by), y, z });
  const { own } = predicting({ advance });
  own.input({ by: 8 }), own.flush();
  own.input({ by: 8 }), own.flush();
  assert.equal(own.place.x, 10);
  own.correct({ inputSeq: 1, x: 1, y: 0 }, 0);
  assert.equal(own.place.x, 9);
});

test("against a relay that refuses at random, client and relay agree at rest", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = new Random(seed);
    const { own, sent } = predicting();
    let [held, now, at] = [0, 0, 0];
    const answers = [];
    for (let turn = 0; turn < 200; turn++, now += 16) {
      if (random.chance(0.8)) own.input({ x: Math.round(10 * random.next() - 5) });
      if (random.chance(0.4)) own.flush();
      // A tick: what has arrived is consumed, refusals are told before the Ack.
      if (random.chance(0.3) && at < sent.length) {
        const upTo = at + random.upTo(sent.length - at);
        for (; at < upTo; at++) {
          const { inputSeq, x } = sent[at];
          if (random.chance(0.2)) answers.push(correction(inputSeq, held));
          else held = x;
        }
        if (upTo > 0) answers.push(acknowledgement(sent[upTo - 1].inputSeq));
      }
      while (answers.length > 0 && random.chance(0.5)) answers.shift()(own, now);
    }
    own.flush();
    for (; at < sent.length; at++) (held = sent[at].x), answers.push(acknowledgement(sent[at].inputSeq));
    for (const answer of answers) answer(own, now);
    assert.deepEqual([own.place.x, own.unacknowledged], [held, 0], `seed ${seed}`);
    assert.equal(own.drawnAt(now + 100).x, held, `seed ${seed}`);
  }
});

const correction = (inputSeq, x) => (own, now) => own.correct({ inputSeq, x, y: 0 }, now);
const acknowledgement = (inputSeq) => (own, now) => own.ack({ inputSeq }, now);
