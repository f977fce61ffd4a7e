// Timeline against a relay whose players move along known ways, over a network that the test makes up; times are numbers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Timeline } from "../../clients/javascript/timeline.mjs";
import { Random } from "./random.mjs";

const TICK_MS = 50;
const DRAW_MS = 16;
const FIRST_TICK = 1000;

const frameOf = (tick, positions, more = {}) => ({ whole: false, tick, positions, objects: [], gonePlayers: [], goneObjects: [], ...more });

/**
 * Plays `seconds` of ticks: `positions(tick)` is told by a frame that takes `lateMs(tick)`; null is skipped. Draws all the time but where `hidden`.
 * Returns [{ at, drawn: Map of id → entry }] and the timeline.
 */
function play({ seconds = 10, options, positions, lateMs = () => 30, hidden = () => false, seen = () => {} }) {
  const timeline = new Timeline(options);
  timeline.start(1000 / TICK_MS);
  const frames = [];
  for (let tick = 0; tick * TICK_MS < seconds * 1000; tick++) {
    const told = positions(tick);
    if (told === null) continue;
    const frame = Array.isArray(told) ? frameOf(FIRST_TICK + tick, told) : frameOf(FIRST_TICK + tick, told.positions, told);
    // TCP keeps the order.
    frames.push({ at: Math.max(frames.at(-1)?.at ?? 0, tick * TICK_MS + lateMs(tick)), frame });
  }
  const draws = [];
  for (let now = 0; now < seconds * 1000; now += DRAW_MS) {
    while (frames[0]?.at <= now) {
      const { at, frame } = frames.shift();
      timeline.apply(frame, hidden(at) ? now : at);
    }
    if (hidden(now)) continue;
    draws.push({ at: now, drawn: new Map(timeline.draw(now).map((entry) => [entry.id, entry])) });
    seen(timeline, now);
  }
  return { timeline, draws };
}

/** Speeds of an id between draws after `fromMs`, in units per tick. */
function speeds(draws, id, fromMs = 1000, toMs = Infinity) {
  const shown = draws.filter(({ at, drawn }) => at >= fromMs && at <= toMs && drawn.has(id));
  return shown.slice(1).map(({ at, drawn }, index) => ((drawn.get(id).x - shown[index].drawn.get(id).x) / (at - shown[index].at)) * TICK_MS);
}

const walker = (tick) => [{ id: 1, x: tick, y: -tick }];

test("an even walk on an even network is drawn evenly, two ticks late", () => {
  const { draws, timeline } = play({ positions: walker });
  assert(speeds(draws, 1).every((speed) => Math.abs(speed - 1) < 1e-6));
  const { at, drawn } = draws.at(-1);
  assert(Math.abs((at - 30) / TICK_MS - 2 - drawn.get(1).x) < 1e-6);
  assert.equal(drawn.get(1).y, -drawn.get(1).x);
  assert.equal(timeline.delayMsOf(1), 2 * TICK_MS);
});

test("jitter delays more, and is not seen", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = new Random(seed);
    const { draws, timeline } = play({ positions: walker, seconds: 20, lateMs: () => 30 + 60 * random.next() });
    const seen = speeds(draws, 1, 5000);
    assert(seen.every((speed) => speed > 0.8 && speed < 1.2), `seed ${seed}: ${Math.min(...seen)} to ${Math.max(...seen)}`);
    assert(timeline.delayMsOf(1) > 130 && timeline.delayMsOf(1) < 170, `${timeline.delayMsOf(1)}`);
  }
});

test("the delay is at most 400 ms", () => {
  const random = new Random(1);
  const { timeline } = play({ positions: (tick) => (tick % 10 === 0 ? walker(tick) : []), seconds: 20, lateMs: () => 500 * random.next() });
  assert.equal(timeline.delayMsOf(1), 400);
});

test("frames that are lost between a Keyframe and the one before are walked through", () => {
  const { draws } = play({ positions: (tick) => (tick % 20 > 15 ? null : { positions: walker(tick), whole: tick % 20 === 0 }), seconds: 20 });
  const seen = speeds(draws, 1, 2000);
  assert(seen.every((speed) => speed > 0.3 && speed < 2), `${Math.min(...seen)} to ${Math.max(...seen)}`);
});

test("a Keyframe is a difference: what it does not name is gone, the rest glides on", () => {
  const both = (tick) => [...walker(tick), { id: 2, x: 0, y: 0 }];
  const { draws } = play({ positions: (tick) => (tick === 100 ? { positions: walker(tick), whole: true } : tick < 100 ? both(tick) : walker(tick)) });
  assert(speeds(draws, 1).every((speed) => Math.abs(speed - 1) < 1e-6));
  assert(draws.find(({ at }) => at > 4900).drawn.has(2));
  assert(!draws.find(({ at }) => at > 5040).drawn.has(2));
});

test("an id has the delay of its own interval", () => {
  const positions = (tick) => [1, 2, 4].filter((period) => tick % period === 0).map((id) => ({ id, x: tick, y: 0 }));
  const { draws, timeline } = play({ positions, seconds: 20 });
  assert.deepEqual([1, 2, 4].map((id) => Math.round(timeline.delayMsOf(id))), [100, 200, 400]);
  for (const id of [1, 2, 4]) assert(speeds(draws, id, 8000).every((speed) => Math.abs(speed - 1) < 1e-6), `${id}`);
});

test("who stood still was not creeping here since", () => {
  // Stands for 2 s of each 3, while somebody else keeps frames coming.
  const x = (tick) => Math.floor(tick / 60) * 100 + Math.min(100, (tick % 60) * 5);
  const positions = (tick) => [...(tick === 0 || (tick % 60 > 0 && tick % 60 <= 20) ? [{ id: 2, x: x(tick), y: 0 }] : []), ...walker(tick)];
  const { draws } = play({ positions, seconds: 20 });
  for (const { at, drawn } of draws.filter(({ at }) => at > 1000)) {
    const meant = walkedAt((at - 30 - 2 * TICK_MS) / TICK_MS, x);
    assert(Math.abs(drawn.get(2).x - meant) < 1e-6, `${at} ms: ${drawn.get(2).x} in place of ${meant}`);
  }
});

function walkedAt(tick, x) {
  const [from, part] = [Math.floor(tick), tick - Math.floor(tick)];
  return x(from) + (x(from + 1) - x(from)) * part;
}

test("who stops does not run on, also where nobody else moves", () => {
  for (const others of [[], [{ id: 9, x: 0, y: 0 }]]) {
    const { draws } = play({ positions: (tick) => (tick <= 100 ? walker(tick) : others.length > 0 ? others : null) });
    const most = Math.max(...draws.map(({ drawn }) => drawn.get(1)?.x ?? 0));
    assert.equal(draws.at(-1).drawn.get(1).x, 100);
    // Where frames go on, it is known in time; where they end, this may be a bad network.
    assert(most <= (others.length > 0 ? 100 : 105), `${most}`);
  }
});

test("a network that stands still is bridged for 250 ms, then everybody holds; nobody jumps when it goes on", () => {
  const { draws } = play({ positions: walker, lateMs: (tick) => (tick > 100 && tick < 112 ? 5630 - tick * TICK_MS : 30), seconds: 12 });
  const at = (ms) => draws.find((draw) => draw.at >= ms).drawn.get(1).x;
  // The last that is known is tick 100, drawn at 5,130 ms.
  assert(Math.abs(at(5370) - 104.8) < 0.4, `${at(5370)}`);
  assert.equal(at(5600), 105);
  const seen = speeds(draws, 1, 1000);
  assert(seen.every((speed) => speed >= -0.01 && speed < 5), `${Math.min(...seen)} to ${Math.max(...seen)}`);
  assert(speeds(draws, 1, 6500).every((speed) => speed > 0.7 && speed < 1.05));
});

test("a jump is a jump", () => {
  const positions = (tick) => [{ id: 1, x: tick < 100 ? tick : tick + 1000, y: 0 }];
  const { draws } = play({ positions, options: { snapDistance: 50 } });
  const shown = draws.map(({ drawn }) => drawn.get(1)?.x ?? 0);
  assert(shown.every((x) => x <= 99 || x >= 1100), "nothing between");
  assert(shown.at(-1) > 1100);
  const { draws: walked } = play({ positions });
  assert(walked.some(({ drawn }) => drawn.get(1)?.x > 200 && drawn.get(1)?.x < 1000), "without a distance it glides");
});

test("who jumps is not thought to go on as fast", () => {
  const { draws } = play({ positions: (tick) => (tick < 100 ? walker(tick) : tick === 100 ? [{ id: 1, x: 5000, y: 0 }] : null), options: { snapDistance: 50 } });
  assert.equal(Math.max(...draws.map(({ drawn }) => drawn.get(1)?.x ?? 0)), 5000);
});

test("after a hidden tab everybody is where they are, at once, and the burst does not count as jitter", () => {
  const hidden = (ms) => ms > 4000 && ms < 9000;
  // The frames of five seconds come at once.
  const { draws, timeline } = play({ positions: walker, hidden, seconds: 12 });
  const back = draws.findIndex(({ at }) => at > 8000);
  assert(Math.abs(draws[back].drawn.get(1).x - (draws[back].at - 30) / TICK_MS + 2) < 1.1, `${draws[back].drawn.get(1).x} at ${draws[back].at}`);
  const seen = speeds(draws, 1, 9000);
  assert(seen.every((speed) => speed > 0.7 && speed < 1.3), `${Math.min(...seen)} to ${Math.max(...seen)}`);
  assert(timeline.delayMsOf(1) < 300, `${timeline.delayMsOf(1)}`);
});

test("a machine that slept, with its clock, goes on with the same delay", () => {
  const timeline = new Timeline();
  timeline.start(20);
  for (let tick = 0; tick < 100; tick++) timeline.apply(frameOf(tick, walker(tick)), tick * 50), timeline.draw(tick * 50);
  for (let tick = 5000; tick < 5100; tick++) timeline.apply(frameOf(tick, walker(tick), { whole: tick === 5000 }), (tick - 4900) * 50), timeline.draw((tick - 4900) * 50);
  assert.equal(timeline.delayMsOf(1), 100);
  assert.equal(timeline.draw(10_000)[0].x, 5098);
});

test("clocks that drift apart are followed without a step", () => {
  for (const drift of [1e-3, -1e-3]) {
    const { draws } = play({ positions: walker, seconds: 120, lateMs: (tick) => 300 + tick * TICK_MS * drift });
    const seen = speeds(draws, 1);
    assert(seen.every((speed) => speed > 0.95 && speed < 1.05), `${Math.min(...seen)} to ${Math.max(...seen)}`);
  }
});

test("a way that gets shorter, and jitter that begins, are followed without a step", () => {
  const random = new Random(2);
  for (const lateMs of [(tick) => (tick < 200 ? 230 : 130), (tick) => 30 + (tick < 200 ? 0 : 90 * random.next())]) {
    const seen = speeds(play({ positions: walker, seconds: 20, lateMs }).draws, 1);
    assert(seen.every((speed) => speed > 0.7 && speed < 1.15), `${Math.min(...seen)} to ${Math.max(...seen)}`);
  }
});

test("where frames are rare, one that is much too late changes no delay", () => {
  const { timeline } = play({ positions: (tick) => (tick % 20 === 0 ? walker(tick) : null), seconds: 8, lateMs: (tick) => (tick === 100 ? 1600 : 30) });
  assert.equal(timeline.delayMsOf(1), 100);
});

test("a clock that is set back is followed at once", () => {
  const timeline = new Timeline();
  timeline.start(20);
  const at = (tick) => tick * 50 - (tick < 100 ? 0 : 3000);
  for (let tick = 0; tick < 110; tick++) timeline.apply(frameOf(tick, walker(tick)), at(tick)), timeline.draw(at(tick));
  assert.equal(timeline.delayMsOf(1), 100);
  assert.equal(timeline.draw(at(109))[0].x, 107);
});

test("a way that gets longer for good is followed", () => {
  const { draws, timeline } = play({ positions: walker, seconds: 60, lateMs: (tick) => (tick < 200 ? 30 : 2030) });
  assert.equal(timeline.delayMsOf(1), 100);
  const { at, drawn } = draws.at(-1);
  assert(Math.abs((at - 2030) / TICK_MS - 2 - drawn.get(1).x) < 0.5);
});

test("memory is bounded, drawn or not", () => {
  const crowd = (tick) => Array.from({ length: 20 }, (_, id) => ({ id, x: tick, y: 0 }));
  let most = 0;
  play({ positions: crowd, seconds: 30, seen: (timeline) => (most = Math.max(most, timeline.samples)) });
  assert(most <= 20 * 8, `${most} while drawn`);
  const { timeline } = play({ positions: crowd, seconds: 60, hidden: () => true });
  assert(timeline.samples === 0 || timeline.samples <= 20 * 64);
  const undrawn = new Timeline();
  for (let tick = 0; tick < 10_000; tick++) undrawn.apply(frameOf(tick, crowd(tick)), tick * 50);
  assert.equal(undrawn.samples, 20 * 64);
  undrawn.apply(frameOf(10_000, [], { gonePlayers: Array.from({ length: 20 }, (_, id) => id) }), 0);
  assert.equal(undrawn.samples, 0);
});

test("poses are the nearer one's, or what the game makes of both", () => {
  const positions = (tick) => [{ id: 1, x: tick, y: 0, z: 2 * tick, pose: Uint8Array.of(tick) }];
  const nearest = play({ positions, seconds: 5 });
  for (const { drawn } of nearest.draws.slice(20)) assert.equal(drawn.get(1).pose[0], Math.round(drawn.get(1).x));
  const options = { interpolate: ([from], [to], fraction) => Float32Array.of(from + (to - from) * fraction) };
  for (const { drawn } of play({ positions, options, seconds: 5 }).draws.slice(20)) {
    const { x, z, pose } = drawn.get(1);
    assert(Math.abs(pose[0] - x) < 1e-4 && Math.abs(z - 2 * x) < 1e-6);
  }
});

test("objects have a timeline of their own", () => {
  const timeline = new Timeline({ of: "objects" });
  const frame = (tick, more) => frameOf(tick, walker(tick), { objects: [{ id: 7, type: 2, flags: 0, x: tick, y: 0 }], gonePlayers: [7], ...more });
  for (let tick = 0; tick < 10; tick++) timeline.apply(frame(tick), tick * 50);
  assert.deepEqual(timeline.draw(450), [{ id: 7, type: 2, flags: 0, x: 7, y: 0 }]);
  timeline.apply(frame(10, { objects: [], goneObjects: [7] }), 500);
  assert.deepEqual(timeline.draw(500), []);
});

test("a player whose id becomes known glides on", () => {
  const { draws } = play({
    positions: (tick) => {
      if (tick < 60) return walker(tick);
      const positions = [{ id: 65_537, x: tick, y: 0 }];
      return tick === 60 ? { positions, gonePlayers: [1], renamed: [{ from: 1, to: 65_537 }] } : positions;
    },
  });
  const seen = speeds(draws, 65_537, 0);
  assert(seen.length > 100 && seen.every((speed) => Math.abs(speed - 1) < 1e-6));
  assert(!draws.at(-1).drawn.has(1));
});

test("a seat that is given anew in one tick is another player, drawn where it is", () => {
  const timeline = new Timeline();
  for (let tick = 0; tick < 10; tick++) timeline.apply(frameOf(tick, walker(tick)), tick * 50);
  timeline.apply(frameOf(10, [{ id: 1, x: 500, y: 0 }], { gonePlayers: [1] }), 500);
  assert.equal(timeline.draw(500)[0].x, 500);
});

test("several frames of one tick are one", () => {
  const { draws } = play({ positions: walker });
  const split = new Timeline();
  for (let tick = 0; tick < 100; tick++) {
    split.apply(frameOf(tick, walker(tick)), tick * 50 + 30);
    split.apply(frameOf(tick, [{ id: 2, x: tick, y: 0 }]), tick * 50 + 31);
    split.apply(frameOf(tick, walker(tick)), tick * 50 + 32);
    split.draw(tick * 50 + 40);
  }
  const [one, two] = split.draw(5000);
  assert(Math.abs(one.x - 97.4) < 1e-6 && Math.abs(two.x - 97.4) < 1e-6, `${one.x}, ${two.x}`);
  assert(draws.length > 0);
});

test("ticks that go back are another game", () => {
  const timeline = new Timeline();
  for (let tick = 5000; tick < 5010; tick++) timeline.apply(frameOf(tick, walker(tick)), (tick - 5000) * 50);
  timeline.draw(500);
  for (let tick = 3; tick < 20; tick++) {
    timeline.apply(frameOf(tick, [{ id: 2, x: tick, y: 0 }], { whole: tick === 3 }), 600 + tick * 50);
    timeline.draw(600 + tick * 50);
  }
  assert.deepEqual(timeline.draw(600 + 19 * 50), [{ id: 2, x: 17, y: 0 }]);
});

test("before the first frame there is nothing", () => {
  assert.deepEqual(new Timeline().draw(0), []);
  assert.equal(new Timeline().delayMsOf(1), undefined);
});
