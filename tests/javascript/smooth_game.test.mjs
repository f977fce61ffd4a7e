// The example clients/javascript/smooth-game.mjs, as a browser runs it, against a relay that ticks in the test's time: everything together.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeSocket, openedSockets } from "./fake_socket.mjs";
import { Random } from "./random.mjs";
import * as relay from "./relay_records.mjs";
import { pass, startTime } from "./virtual_time.mjs";

const TICK_MS = 50;
const PLAIN = { number: "f32", axes: 2, poseBytes: 0 };
const [ME, OTHER] = [1, 2];
const FIRST_TICK_MS = 23;
const DRAW_MS = 16;

/** Ticks; every way there and back takes 20 ms and up to `jitterMs` more, in order. */
class Relay {
  slacks = [];
  moves = [];
  refuseNext = false;
  #socket;
  #random = new Random(1);
  #jitterMs;
  #thereAt = 0;
  #backAt = 0;
  #arrived = [];
  #own = null;
  #tick = 0;

  constructor(socket, jitterMs) {
    this.#socket = socket;
    this.#jitterMs = jitterMs;
    socket.send = (buffer) => {
      this.#thereAt = Math.max(this.#thereAt, this.#way());
      setTimeout(() => this.#read(new DataView(buffer)), this.#thereAt - performance.now());
    };
    socket.open();
    for (const record of [relay.welcome({ playerId: ME }), relay.layout(PLAIN), relay.roster(1, [[ME, "Ann"], [OTHER, "Ben"]]), relay.keyframe(PLAIN, { tick: 0 })]) socket.tell(record);
    setTimeout(() => setInterval(() => this.#turn(), TICK_MS), FIRST_TICK_MS);
  }

  #way() {
    return performance.now() + 20 + this.#jitterMs * this.#random.next();
  }

  #tell(record) {
    this.#backAt = Math.max(this.#backAt, this.#way());
    setTimeout(() => this.#socket.tell(record), this.#backAt - performance.now());
  }

  #read(record) {
    if (record.getUint8(0) !== 0x09) return;
    const move = { at: performance.now(), inputSeq: record.getUint16(2), place: [record.getFloat32(4), record.getFloat32(8)] };
    if (this.refuseNext) this.#tell(relay.correction(2, move.inputSeq, this.#own));
    else this.#own = move.place;
    this.refuseNext = false;
    this.#arrived.push(move);
    this.moves.push(move);
  }

  #turn() {
    this.#tick += 1;
    const positions = [{ id: OTHER, at: [this.#tick, 0], pose: [] }];
    if (this.#arrived.length > 0) positions.push({ id: ME, at: this.#own, pose: [] });
    this.#tell(relay.delta(PLAIN, { tick: this.#tick, positions }));
    const last = this.#arrived.at(-1);
    if (!last) return;
    const slackMs = performance.now() - last.at;
    this.slacks.push(slackMs);
    this.#tell(relay.ack(last.inputSeq, this.#tick, Math.round(slackMs * 10)));
    this.#arrived = [];
  }
}

test("the example draws others evenly, itself at once, and sends just before the tick", async () => {
  startTime();
  const sockets = openedSockets();
  let texts = [];
  const draws = [];
  const listeners = {};
  Object.assign(globalThis, {
    WebSocket: FakeSocket,
    document: { querySelector: () => ({ getContext: () => ({ clearRect: () => (texts = []), fillText: (id, x, y) => texts.push([id, x - 150, y - 75]) }) }) },
    addEventListener: (kind, listen) => (listeners[kind] = listen),
    requestAnimationFrame: (draw) =>
      setTimeout(() => {
        draw();
        draws.push({ at: performance.now(), places: new Map(texts.map(([id, ...place]) => [id, place])) });
      }, DRAW_MS),
  });
  await import("../../clients/javascript/smooth-game.mjs");
  const server = new Relay(sockets[0], 6);
  pass(2_000);
  listeners.keydown({ key: "ArrowRight" });
  pass(20);
  assert(draws.at(-1).places.get(ME)[0] > 0, "it moves with the next frame that is drawn");
  pass(8_000);

  const xs = (id, from) => draws.filter(({ at }) => at > from).map(({ at, places }) => [at, places.get(id)[0]]);
  const speeds = (id, from) => xs(id, from).slice(1).map(([at, x], index) => (x - xs(id, from)[index][1]) / (at - xs(id, from)[index][0]) * TICK_MS);
  assert(speeds(OTHER, 6_000).every((speed) => speed > 0.9 && speed < 1.1), `${Math.min(...speeds(OTHER, 6_000))} to ${Math.max(...speeds(OTHER, 6_000))}`);
  assert(speeds(ME, 2_100).every((speed) => Math.abs(speed - 2.5) < 0.01));
  const slacks = server.slacks.slice(-80);
  const mean = slacks.reduce((sum, slack) => sum + slack, 0) / slacks.length;
  assert(mean < 12, `${mean} ms of waiting for the tick`);
  assert(slacks.every((slack) => slack < 25));

  // A refusal is put right without a jump.
  server.refuseNext = true;
  const from = performance.now();
  pass(1_000);
  const seen = speeds(ME, from);
  assert(Math.min(...seen) < 2, "it was corrected");
  assert(seen.every((speed) => speed > -6 && speed < 6), `${Math.min(...seen)} to ${Math.max(...seen)}`);

  // The stop is there before the next sending would be due.
  const [count, at] = [server.moves.length, performance.now()];
  listeners.keyup({ key: "ArrowRight" });
  pass(400);
  assert(server.moves.length > count);
  assert(server.moves.some((move) => move.at >= at + 20 && move.at <= at + 26));
  const stopped = server.moves.length;
  pass(1_000);
  assert.equal(server.moves.length, stopped);
  assert.equal(Math.fround(draws.at(-1).places.get(ME)[0]), server.moves.at(-1).place[0]);
});
