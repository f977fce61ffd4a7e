// What NativeGame makes of the relay's records, by any layout, against records that relay_records.mjs writes and a world that the test
// keeps; and what it sends. SEED=n runs one seed of the random worlds.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, test } from "node:test";
import { NativeGame, bareId, seatOf } from "../../clients/javascript/corelay.mjs";
import { FakeSocket, openedSockets } from "./fake_socket.mjs";
import { Random } from "./random.mjs";
import * as relay from "./relay_records.mjs";
import { pass, startTime } from "./virtual_time.mjs";

const SEEDS = process.env.SEED ? [Number(process.env.SEED)] : Array.from({ length: 60 }, (_, index) => index + 1);
const TURNS = 60;
const BOUNDS = { min: [-100, -50], max: [100, 250] };
const PLAIN = { number: "f32", axes: 2, poseBytes: 0 };
const [WHOLE, MORE, ANSWER, CROWD] = [1, 2, 4, 8];

let sockets;

beforeEach(() => {
  startTime();
  sockets = openedSockets();
});

/** A game in this layout (null: the relay tells none), and all that its handlers are told: [handler, detail]. */
function joined(layout, { welcome = {}, options = {} } = {}) {
  const told = [];
  const kinds = ["joined", "frame", "states", "overview", "ack", "roster", "names", "event", "correction", "malformed", "refused", "limited", "notice", "pong"];
  const handlers = Object.fromEntries(kinds.map((kind) => [kind, (detail) => told.push([kind, detail])]));
  const game = new NativeGame({ relay: "ws://relay", game: "arena", WebSocket: FakeSocket, ...options }, handlers);
  const socket = sockets.at(-1);
  socket.open();
  socket.tell(relay.welcome({ bounds: BOUNDS, ...welcome }));
  if (layout) socket.tell(relay.layout(layout));
  const of = (kind) => told.filter(([name]) => name === kind).map(([, detail]) => detail);
  return { game, socket, told, of };
}

const hex = (view) => Buffer.from(view.buffer).toString("hex");
const lastSent = ({ sent }) => hex(sent.at(-1));

function randomLayout(random) {
  const number = random.chance(0.5) ? "u16" : "f32";
  const axes = random.chance(0.5) ? 3 : 2;
  return { number, axes, poseBytes: random.upTo(random.chance(0.3) ? 32 : 4), keys: 4, keyBytesMax: 8, minZ: -8, maxZ: 24, tick0Us: 12_345, flags: 2 };
}

/** The world as a relay has it: what the wire says is kept beside what it means. */
class RandomGame {
  players = new Map(); // id → { at, pose } or null without a position
  objects = new Map(); // id → { type, flags, at }
  keys = new Map(); // id → Map of key → bytes
  tick = 1;
  #random;
  #layout;
  #generations = new Map();

  constructor(random, layout) {
    this.#random = random;
    this.#layout = layout;
    this.join(0);
  }

  /** Takes a free seat; returns the id. */
  join(seat) {
    const generation = this.#generations.get(seat) ?? 0;
    this.#generations.set(seat, generation + 1);
    const id = generation * 65536 + seat + 1;
    this.players.set(id, null);
    return id;
  }

  /** A tick's changes. `seat` a player leaves may be taken again in the same tick. */
  turn() {
    const random = this.#random;
    this.tick += 1 + random.upTo(2);
    const change = { joined: [], left: [], gone: [], moved: new Set(), put: new Set(), removed: [], states: [] };
    for (const [id, position] of [...this.players])
      if (id !== 1 && random.chance(0.08)) {
        this.players.delete(id);
        this.keys.delete(id);
        change.left.push(id);
        if (position) change.gone.push(id);
      }
    const taken = new Set([...this.players.keys()].map((id) => id % 65536));
    for (let seat = 0; seat < 8; seat++)
      if (!taken.has(seat + 1) && random.chance(0.3)) change.joined.push(this.join(seat));
    for (const id of this.players.keys())
      if (random.chance(0.6)) {
        this.players.set(id, { at: this.#coordinates(), pose: this.#bytes(this.#layout.poseBytes) });
        change.moved.add(id);
      }
    for (let id = 1; id < 6; id++) {
      if (random.chance(0.2)) {
        this.objects.set(id, { type: random.upTo(65535), flags: random.upTo(65535), at: this.#coordinates() });
        change.put.add(id);
      } else if (random.chance(0.1) && this.objects.delete(id)) {
        change.removed.push(id);
      }
    }
    for (const id of this.players.keys())
      if (random.chance(0.3)) {
        const [key, value] = [1 + random.upTo(3), this.#bytes(random.upTo(8))];
        const keys = this.keys.get(id) ?? new Map();
        if (value.length > 0) keys.set(key, value);
        else keys.delete(key);
        if (keys.size > 0) this.keys.set(id, keys);
        else this.keys.delete(id);
        change.states.push([id, key, value]);
      }
    return change;
  }

  positions(ids = [...this.players.keys()]) {
    return ids.filter((id) => this.players.get(id)).map((id) => ({ id, ...this.players.get(id) }));
  }

  objectList(ids = [...this.objects.keys()]) {
    return ids.filter((id) => this.objects.has(id)).map((id) => ({ id, ...this.objects.get(id) }));
  }

  stateList() {
    return [...this.keys].flatMap(([id, keys]) => [...keys].map(([key, value]) => [id, key, value]));
  }

  /** What a client should know, as plain values. */
  get expected() {
    const { poseBytes } = this.#layout;
    return {
      positions: sorted(this.positions().map(({ id, at, pose }) => ({ id, ...this.#place(at), ...(poseBytes > 0 && { pose }) }))),
      objects: sorted(this.objectList().map(({ id, type, flags, at }) => ({ id, type, flags, ...this.#place(at) }))),
      keys: sorted([...this.keys].map(([id, keys]) => ({ id, keys: Object.fromEntries(keys) }))),
    };
  }

  #place(at) {
    const { number, axes, minZ, maxZ } = this.#layout;
    const [min, max] = [[...BOUNDS.min, minZ], [...BOUNDS.max, maxZ]];
    const meant = at.map((raw, axis) => (number === "u16" ? min[axis] + (raw * (max[axis] - min[axis])) / 65535 : raw));
    return { x: meant[0], y: meant[1], ...(axes === 3 && { z: meant[2] }) };
  }

  #coordinates() {
    const { number, axes } = this.#layout;
    return Array.from({ length: axes }, () => (number === "u16" ? this.#random.upTo(65535) : Math.fround(this.#random.next() * 200 - 100)));
  }

  #bytes(count) {
    return Array.from({ length: count }, () => this.#random.upTo(255));
  }
}

const sorted = (list) => list.sort((one, other) => one.id - other.id);

function known({ positions, objects, keys }) {
  return {
    positions: sorted([...positions.values()].map((entry) => (entry.pose ? { ...entry, pose: [...entry.pose] } : { ...entry }))),
    objects: sorted([...objects.values()].map((entry) => ({ ...entry }))),
    keys: sorted([...keys].map(([id, of]) => ({ id, keys: Object.fromEntries([...of].map(([key, value]) => [key, [...value]])) }))),
  };
}

const named = (ids) => ids.map((id) => [id, `n${id}`]);

test("random worlds by random layouts are decoded as they are, also where frames are lost", () => {
  for (const seed of SEEDS) {
    const random = new Random(seed);
    const layout = randomLayout(random);
    const world = new RandomGame(random, layout);
    const { game, socket, told, of } = joined(layout);
    const seen = { positions: new Map(), objects: new Map() };
    let isInSync = false;
    let keysSince = []; // what changed since the last States that was sent
    socket.tell(relay.roster(WHOLE, named([...world.players.keys()])));
    for (let turn = 0; turn < TURNS; turn++) {
      const change = world.turn();
      if (change.joined.length + change.left.length > 0) socket.tell(relay.roster(0, named(change.joined), change.left));
      keysSince.push(...change.states);
      const [before, tick] = [told.length, world.tick];
      if (random.chance(0.15)) {
        isInSync = false;
        continue;
      }
      if (isInSync) {
        const [positions, objects] = [world.positions([...change.moved]), world.objectList([...change.put])];
        socket.tell(relay.delta(layout, { tick, level: 2, positions, objects, gonePlayers: change.gone, goneObjects: change.removed }));
        if (keysSince.length > 0) socket.tell(relay.states(tick, keysSince));
      } else {
        socket.tell(relay.keyframe(layout, { tick, positions: world.positions(), objects: world.objectList() }));
        // What a member missed lately is told again; else all, in two records.
        const list = world.stateList();
        const isWhole = random.chance(0.5) || turn === 0;
        const half = random.upTo(list.length);
        if (!isWhole) socket.tell(relay.states(tick, keysSince));
        else for (const [index, part] of [list.slice(0, half), list.slice(half)].entries()) socket.tell(relay.states(tick, part, { whole: index === 0 }));
      }
      isInSync = true;
      keysSince = [];
      assert.deepEqual(of("malformed"), [], `seed ${seed}, turn ${turn}`);
      // Keys of who left while frames were skipped may stay until the seat is another's; nobody asks for them.
      const actual = known(game.world);
      actual.keys = actual.keys.filter(({ id }) => world.players.has(id));
      assert.deepEqual(actual, world.expected, `seed ${seed}, turn ${turn}`);
      // Who only listens to frames knows the same.
      for (const [kind, frame] of told.slice(before)) if (kind === "frame") follow(seen, frame);
      assert.deepEqual(known({ ...seen, keys: new Map() }).positions, world.expected.positions, `seed ${seed}, turn ${turn}, by frames`);
      assert.deepEqual(known({ ...seen, keys: new Map() }).objects, world.expected.objects, `seed ${seed}, turn ${turn}, by frames`);
    }
    assert.deepEqual(game.layout.max, layout.axes === 3 ? [100, 250, 24] : [100, 250]);
    game.close();
  }
});

/** What a program does with frames. */
function follow({ positions, objects }, frame) {
  if (frame.whole) positions.clear(), objects.clear();
  for (const id of frame.gonePlayers) positions.delete(id);
  for (const id of frame.goneObjects) objects.delete(id);
  for (const entry of frame.positions) positions.set(entry.id, entry);
  for (const entry of frame.objects) objects.set(entry.id, entry);
}

test("every truncation of every record is told as malformed, by its name, and changes nothing", () => {
  const entry = (id) => ({ id, at: [1, 2, 3], pose: [4, 5] });
  const object = { id: 9, type: 1, flags: 2, at: [1, 2, 3] };
  for (const number of ["f32", "u16"]) {
    const layout = { number, axes: 3, poseBytes: 2, keys: 4, keyBytesMax: 8, maxZ: 10 };
    const records = {
      Welcome: relay.welcome({ playerId: 5 }),
      Layout: relay.layout(layout),
      Keyframe: relay.keyframe(layout, { tick: 1, positions: [entry(2)], objects: [object] }),
      Delta: relay.delta(layout, { tick: 1, positions: [entry(2)], objects: [object], gonePlayers: [3, 4], goneObjects: [7] }),
      Pong: relay.pong(1, 2),
      Roster: relay.roster(WHOLE | CROWD, [[2, "Ben"]], [3], 300),
      RateLimited: relay.rateLimited(1, 17),
      Correction: relay.correction(1, 7, [1, 2, 3]),
      Notice: relay.notice(2, 1, 2, 3),
      Ack: relay.ack(7, 1, 30),
      Overview: relay.overview(1, [[1, 2, 3], [2, 3, 4]]),
      States: relay.states(1, [[2, 1, [1, 2]], [3, 1, []]]),
    };
    // Of these only the head can be told from a shorter one.
    const open = { Event: [relay.event(1, 2, 3, [1, 2]), 16], Near: [relay.near(1, 2, [1, 2]), 8], Error: [relay.error(1, "no"), 4] };
    const all = [...Object.entries(records).map(([name, record]) => [name, record, record.byteLength]), ...Object.entries(open).map(([name, [record, head]]) => [name, record, head])];
    for (const [name, record, bytes] of all) {
      const { game, socket, told, of } = joined(layout);
      socket.tell(relay.roster(WHOLE, named([1])));
      socket.tell(relay.keyframe(layout, { tick: 1, positions: [entry(1)] }));
      const before = known(game.world);
      told.length = 0;
      for (let length = 1; length < bytes; length++) socket.tell(record.slice(0, length));
      assert.deepEqual(of("malformed").map(({ name: of, kind }) => [of, kind]), Array(bytes - 1).fill([name, new Uint8Array(record)[0]]), name);
      assert.equal(told.length, bytes - 1, name);
      assert.deepEqual(known(game.world), before, name);
      socket.tell(record);
      assert.equal(of("malformed").length, bytes - 1, `${name} itself`);
      game.close();
    }
  }
});

test("frames that are too long, counts that lie, an empty message, and layouts that are none are malformed", () => {
  const { socket, of } = joined(PLAIN);
  const long = relay.keyframe({ ...PLAIN, axes: 3 }, { tick: 1, positions: [{ id: 1, at: [1, 2, 3], pose: [] }] });
  const lie = new DataView(relay.delta(PLAIN, { tick: 1 }));
  lie.setUint32(8, 0xffffffff);
  for (const record of [long, lie.buffer, new ArrayBuffer(0), relay.layout({ axes: 4 })]) socket.tell(record);
  assert.deepEqual(of("malformed").map(({ name }) => name), ["Keyframe", "Delta", null, "Layout"]);
  assert.match(of("malformed")[0].text, /32 bytes in place of 28/);
});

test("random bytes of every kind never throw", () => {
  const random = new Random(7);
  for (let round = 0; round < 4000; round++) {
    const { game, socket } = round % 50 === 0 ? joined(randomLayout(random)) : { socket: sockets.at(-1) };
    const bytes = Uint8Array.from({ length: 1 + random.upTo(80) }, () => (random.chance(0.7) ? random.upTo(3) : random.upTo(255)));
    // A Welcome or a Layout is of use only where the rest of the connection is by it.
    bytes[0] = 0x80 + [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16][random.upTo(13)];
    socket.tell(bytes.buffer);
    game?.ping();
  }
});

test("kinds that are not known are passed over", () => {
  const { socket, told } = joined(PLAIN);
  told.length = 0;
  for (const kind of [0x80, 0x90, 0xff, 0x01]) socket.tell(Uint8Array.of(kind, 1, 2).buffer);
  assert.deepEqual(told, []);
});

test("an error of a handler is not taken for a malformed record", () => {
  const told = [];
  const game = new NativeGame({ relay: "ws://relay", game: "arena", WebSocket: FakeSocket }, {
    joined: () => {
      throw new RangeError("of the handler");
    },
    malformed: () => told.push("malformed"),
  });
  sockets[0].open();
  sockets[0].tell(relay.welcome());
  assert.throws(() => sockets[0].tell(relay.layout(PLAIN)), /of the handler/);
  assert.deepEqual(told, []);
  game.close();
});

test("layout and Acks are asked for, unless they are not wanted", () => {
  joined(PLAIN);
  assert.deepEqual(["layout", "ack"].map((name) => sockets[0].url.searchParams.get(name)), ["1", "1"]);
  joined(PLAIN, { options: { layout: false, ack: false } });
  assert.deepEqual(["layout", "ack"].map((name) => sockets[1].url.searchParams.get(name)), [null, null]);
});

test("what a client sends, byte for byte", () => {
  const { game, socket } = joined({ number: "u16", axes: 3, poseBytes: 2, keys: 2, keyBytesMax: 4 });
  assert.equal(game.step({ x: 1.5, y: -2, z: 4, pose: Uint8Array.of(7, 8) }), 1);
  assert.equal(lastSent(socket), "090000013fc00000c0000000408000000708");
  assert.equal(game.step({ x: 1.5, y: -2 }), 2);
  assert.equal(lastSent(socket), "090000023fc00000c0000000000000000000");
  game.hostSteps([{ id: 65_541, inputSeq: 9, x: 1.5, y: -2, z: 4, pose: Uint8Array.of(7, 8) }]);
  assert.equal(lastSent(socket), "0d000000000000010001000500090000" + "3fc00000c0000000408000000708");
  game.setState(2, Uint8Array.of(1, 2, 3));
  assert.equal(lastSent(socket), "0a020003010203");
  game.setState(2, new Uint8Array());
  assert.equal(lastSent(socket), "0a020000");
  game.setView(1);
  assert.equal(lastSent(socket), "0b010000");
  game.setView();
  assert.equal(lastSent(socket), "0bff0000");
  game.who([65_541, bareId(4)]);
  assert.equal(lastSent(socket), "0c0000020001000500000005");
  game.event(7, Uint8Array.of(104, 105), "near");
  assert.equal(lastSent(socket), "06030007000000006869");
  game.event(7, Uint8Array.of(104), 65_541);
  assert.equal(lastSent(socket), "060200070001000568");
  game.putObject({ id: 9, type: 2, x: 4, y: 0.5, z: 1.5 });
  assert.equal(lastSent(socket), "040000000000000900020000408000003f0000003fc00000");
  game.removeObject(9);
  assert.equal(lastSent(socket), "0500000000000009");
  const count = socket.sent.length;
  for (const wrong of [() => game.step({ x: 0, y: 0, pose: Uint8Array.of(1) }), () => game.setState(1, new Uint8Array(5)), () => game.who(Array(257).fill(1)), () => game.event(1, [], "everybody")])
    assert.throws(wrong, RangeError);
  assert.equal(socket.sent.length, count);
});

test("what is sent while `joined` is told is by the layout, and one relay tells none", () => {
  for (const [layout, record] of [[{ axes: 3, poseBytes: 1, minZ: 2, maxZ: 4 }, "090000013f800000400000004000000000"], [null, "010000013f80000040000000"]]) {
    let game = null;
    const joined = ({ layout: told }) => assert.equal(game.layout, told) || game.step({ x: 1, y: 2 });
    game = new NativeGame({ relay: "ws://relay", game: "arena", WebSocket: FakeSocket }, { joined });
    const socket = sockets.at(-1);
    socket.open();
    socket.tell(relay.welcome());
    assert.equal(socket.sent.length, 0);
    if (layout) socket.tell(relay.layout(layout));
    socket.tell(relay.roster(WHOLE, named([1])));
    assert.deepEqual(socket.sent.map(hex), [record]);
    game.close();
  }
});

test("a relay that tells no layout is sent Moves, and a lost connection counts no inputs", () => {
  const { game, socket } = joined(null);
  assert.equal(game.step({ x: 1.5, y: -2 }), 1);
  assert.equal(lastSent(socket), "010000013fc00000c0000000");
  assert.equal(game.move(1.5, -2), 2);
  socket.readyState = 3;
  assert.equal(game.move(1, 1), null);
  socket.readyState = 1;
  assert.equal(game.move(1, 1), 3);
});

test("Ack, Near, Correction by the layout, and times", () => {
  const { socket, of } = joined({ axes: 3, keys: 2, keyBytesMax: 4, tick0Us: 1_798_761_600_000_000, flags: 3, cell: 32, radius: 2, radiusMax: 4, rings: 3, overviewMs: 500, players: 9 });
  const [{ layout }] = of("joined");
  assert.deepEqual(
    [layout.tick0Us, layout.rosterCountsOnly, layout.views, layout.cell, layout.radius, layout.radiusMax, layout.rings, layout.overviewMs, layout.players],
    [1_798_761_600_000_000, true, true, 32, 2, 4, 3, 500, 9],
  );
  socket.tell(relay.ack(65_535, 400, 123));
  assert.deepEqual(of("ack"), [{ inputSeq: 65_535, tick: 400, slackMs: 12.3 }]);
  socket.tell(relay.near(7, 65_541, [1, 2]));
  assert.deepEqual(of("event"), [{ code: 7, sender: 65_541, payload: Uint8Array.of(1, 2), near: true, seq: null, missed: false }]);
  socket.tell(relay.correction(2, 7, [1, 2, 3]));
  assert.deepEqual(of("correction"), [{ reason: "too fast", inputSeq: 7, x: 1, y: 2, z: 3 }]);
  pass(30);
  socket.tell(relay.pong(10_000, 5_000_000, 401));
  assert.deepEqual(of("pong"), [{ sentAtMs: 10, receivedAtMs: 30, serverTimeUs: 5_000_000, tick: 401 }]);
});

test("with u16 a seat that is given anew in one tick is another player", () => {
  const layout = { number: "u16", axes: 2, poseBytes: 0 };
  const { game, socket, of } = joined(layout);
  const [old, young] = [3, 65_536 + 3];
  const at = (id, raw) => ({ id, at: [raw, 0], pose: [] });
  socket.tell(relay.roster(WHOLE, named([1, old])));
  socket.tell(relay.keyframe(layout, { tick: 1, positions: [at(old, 0)] }));
  socket.tell(relay.states(1, [[old, 1, [1]]]));
  socket.tell(relay.roster(0, named([young]), [old]));
  // A Delta of the tick before may come behind the Roster.
  socket.tell(relay.delta(layout, { tick: 1, positions: [at(old, 100)] }));
  assert.deepEqual(of("frame").at(-1).positions.map(({ id }) => id), [old]);
  socket.tell(relay.delta(layout, { tick: 2, positions: [at(young, 65_535)], gonePlayers: [old] }));
  assert.deepEqual([of("frame").at(-1).gonePlayers, [...game.world.positions.values()]], [[old], [{ id: young, x: 100, y: -50 }]]);
  assert.equal(game.world.keys.size, 0);
});

test("in a u16 crowd whose seats are is asked, and told as a change of the id", () => {
  const layout = { number: "u16", axes: 2, poseBytes: 0 };
  const { game, socket, of } = joined(layout);
  const [first, second] = [65_536 + 3, 2 * 65_536 + 3];
  const at = (id, raw) => ({ id, at: [raw, 0], pose: [] });
  const asked = () => socket.sent.filter((record) => record.getUint8(0) === 0x0c).map((record) => hex(record).slice(8));
  socket.tell(relay.roster(WHOLE | CROWD, named([1]), [], 300));
  socket.tell(relay.keyframe(layout, { tick: 1, positions: [at(1, 0), at(first, 0)] }));
  assert.deepEqual(of("frame")[0].positions.map(({ id }) => id), [1, bareId(seatOf(first))]);
  assert.deepEqual(asked(), ["00000003"], "not for the own one");
  socket.tell(relay.roster(ANSWER, named([first])));
  const { positions, gonePlayers, renamed } = of("frame").at(-1);
  assert.deepEqual([positions.map(({ id }) => id), gonePlayers, renamed], [[first], [3], [{ from: 3, to: first }]]);
  assert.deepEqual([...of("names")[0].keys()], [first]);
  pass(5_000);
  socket.tell(relay.delta(layout, { tick: 2, positions: [at(first, 9)] }));
  assert.equal(asked().length, 1, "it is known");
  // Behind a Keyframe it may be somebody else.
  socket.tell(relay.keyframe(layout, { tick: 9, positions: [at(1, 0), at(second, 0)] }));
  assert.equal(asked().length, 2);
  socket.tell(relay.roster(ANSWER, named([second])));
  assert.deepEqual([...game.world.positions.keys()].sort(), [1, second].sort());
  // A States record says it, too; and who is gone in a crowd leaves a seat that nobody is known for.
  socket.tell(relay.delta(layout, { tick: 10, gonePlayers: [second] }));
  pass(5_000);
  socket.tell(relay.delta(layout, { tick: 11, positions: [at(first, 0)] }));
  assert.equal(asked().length, 3);
  socket.tell(relay.states(11, [[3 * 65_536 + 3, 1, [5]]]));
  assert(game.world.positions.has(3 * 65_536 + 3));
});

test("who comes back to a crowd knows the seats that it knew", () => {
  const layout = { number: "u16", axes: 2, poseBytes: 0 };
  const { game, socket } = joined(layout);
  const first = { id: 65_536 + 3, at: [0, 0], pose: [] };
  const told = (socket, tick) => {
    socket.tell(relay.roster(WHOLE | CROWD, named([1]), [], 300));
    socket.tell(relay.keyframe(layout, { tick, positions: [first] }));
  };
  told(socket, 1);
  socket.tell(relay.roster(ANSWER, named([first.id])));
  socket.lose();
  pass(1_000);
  sockets.at(-1).open();
  sockets.at(-1).tell(relay.welcome({ bounds: BOUNDS }));
  sockets.at(-1).tell(relay.layout(layout));
  told(sockets.at(-1), 9);
  assert.deepEqual([...game.world.positions.keys()], [first.id]);
  assert.equal(sockets.at(-1).sent.length, 1, "and asks whether it is still so");
});

test("the own seat is never asked for", () => {
  const layout = { number: "u16", axes: 2, poseBytes: 0 };
  const { game, socket } = joined(layout, { welcome: { playerId: 65_536 + 1 } });
  const own = { id: 65_536 + 1, at: [0, 0], pose: [] };
  socket.tell(relay.roster(WHOLE | CROWD, named([65_536 + 1]), [], 300));
  socket.tell(relay.keyframe(layout, { tick: 1, positions: [own] }));
  socket.tell(relay.delta(layout, { tick: 2, gonePlayers: [own.id] }));
  socket.tell(relay.delta(layout, { tick: 3, positions: [own] }));
  assert.deepEqual([...game.world.positions.keys()], [own.id]);
  assert.equal(socket.sent.length, 0);
});

test("keys of who had a seat before are forgotten, and are not told of again", () => {
  const { game, socket } = joined({ ...PLAIN, keys: 2, keyBytesMax: 4 });
  socket.tell(relay.roster(WHOLE | CROWD, named([1]), [], 300));
  socket.tell(relay.states(1, [[3, 1, [7]]]));
  socket.tell(relay.states(2, [[65_536 + 3, 1, [8]]]));
  socket.tell(relay.states(3, [[3, 2, [9]]]));
  assert.deepEqual([...game.world.keys.keys()], [65_536 + 3]);
});

test("seats that nobody answers for are asked for in turn, so many a second", () => {
  const layout = { number: "u16", axes: 2, poseBytes: 0 };
  const { socket } = joined(layout);
  socket.tell(relay.roster(WHOLE | CROWD, named([1]), [], 300));
  const positions = Array.from({ length: 150 }, (_, index) => ({ id: index + 2, at: [0, 0], pose: [] }));
  for (let tick = 1; tick <= 200; tick++) {
    socket.tell(relay.delta(layout, { tick, positions }));
    pass(50);
  }
  const asked = socket.sent.filter((record) => record.getUint8(0) === 0x0c);
  assert.equal(asked.length, 10, "once a second");
  const ids = new Set(asked.slice(0, 3).flatMap((record) => Array.from({ length: record.getUint16(2) }, (_, index) => record.getUint32(4 + 4 * index))));
  assert.equal(ids.size, 150);
});

test("keys outlive a Keyframe that does not name their player, and end with it or with a whole States", () => {
  const { game, socket } = joined({ ...PLAIN, keys: 2, keyBytesMax: 4 });
  const at = (id) => ({ id, at: [0, 0], pose: [] });
  socket.tell(relay.roster(WHOLE, named([1, 2, 3])));
  socket.tell(relay.keyframe(PLAIN, { tick: 1, positions: [at(2), at(3)] }));
  socket.tell(relay.states(1, [[2, 1, [7]], [3, 1, [8]], [3, 2, [9]]], { whole: true }));
  socket.tell(relay.keyframe(PLAIN, { tick: 2, positions: [at(3)] }));
  assert.deepEqual([...game.world.keys.keys()], [2, 3]);
  socket.tell(relay.states(2, [[3, 1, []]]));
  assert.deepEqual([...game.world.keys.get(3).keys()], [2]);
  socket.tell(relay.delta(PLAIN, { tick: 3, gonePlayers: [3] }));
  assert.deepEqual([...game.world.keys.keys()], [2]);
  socket.tell(relay.roster(0, [], [2]));
  assert.equal(game.world.keys.size, 0);
  socket.tell(relay.states(4, [[1, 1, [1]]]));
  socket.tell(relay.states(5, [[1, 2, [2]]], { whole: true }));
  assert.deepEqual([...game.world.keys.get(1).keys()], [2]);
});

test("the Overview is within the bounds, and who is missing in two rounds is forgotten", () => {
  const { game, socket, of } = joined({ number: "u16", axes: 2, overviewMs: 1000 });
  socket.tell(relay.roster(WHOLE, named([1, 65_538])));
  socket.tell(relay.overview(1, [[0, 0, 255], [1, 255, 0]], { begins: true }));
  assert.deepEqual(of("overview")[0].players, [{ id: 1, seat: 0, x: -100, y: 250 }, { id: 65_538, seat: 1, x: 100, y: -50 }]);
  for (const [tick, left] of [[2, 2], [3, 2], [4, 1]]) {
    socket.tell(relay.overview(tick, [[0, 0, 0]], { begins: true }));
    assert.equal(game.world.overview.size, left, `tick ${tick}`);
  }
});

test("the world has the Overview without a handler for it", () => {
  const game = new NativeGame({ relay: "ws://relay", game: "arena", WebSocket: FakeSocket }, {});
  const socket = sockets.at(-1);
  socket.open();
  for (const record of [relay.welcome({ bounds: BOUNDS }), relay.layout({ overviewMs: 1000 }), relay.overview(1, [[3, 0, 255]], { begins: true })]) socket.tell(record);
  assert.deepEqual([...game.world.overview.keys()], [3]);
});

test("another game under the same name begins with nothing; the same one goes on", () => {
  const { game, socket } = joined(PLAIN);
  const at = { id: 2, at: [0, 0], pose: [] };
  const rejoin = (epoch) => {
    sockets.at(-1).lose();
    pass(1_000);
    sockets.at(-1).open();
    sockets.at(-1).tell(relay.welcome({ epoch, bounds: BOUNDS }));
  };
  socket.tell(relay.keyframe(PLAIN, { tick: 1, positions: [at] }));
  rejoin(1);
  assert.equal(game.world.positions.size, 1);
  rejoin(2);
  assert.equal(game.world.positions.size, 0);
});

test("a Roster in parts is not taken for a crowd", () => {
  const { socket, of } = joined(PLAIN);
  socket.tell(relay.roster(WHOLE | MORE, named([1, 2])));
  socket.tell(relay.roster(0, named([3])));
  assert.deepEqual(of("roster").map((players) => [...players.keys()]), [[1, 2, 3]]);
});

test("the relay's own examples are read, and written, byte for byte", () => {
  const vectors = JSON.parse(readFileSync(new URL("../../clients/vectors/records.json", import.meta.url), "utf8"));
  const bytesOf = (name) => vectors.find(({ record }) => record === name).hex;
  const { game, socket, of } = joined(null);
  for (const { hex: bytes } of vectors) if (parseInt(bytes.slice(0, 2), 16) >= 0x81) socket.tell(Uint8Array.from(Buffer.from(bytes, "hex")).buffer);
  assert.deepEqual(of("malformed"), []);
  const at = { x: 1.5, y: -2 };
  // The Layout comes behind the plain frames, and the last frame is by it.
  const [keyframe, delta, ofLayout] = of("frame");
  assert.deepEqual([keyframe.positions, delta.positions], [[{ id: 3, ...at }], [{ id: 3, x: 2, y: -2 }]]);
  assert.deepEqual([delta.gonePlayers, delta.goneObjects], [[65_541], [9]]);
  const [{ id, z, pose }] = ofLayout.positions;
  assert.deepEqual([id, Math.round(z * 1000), [...pose]], [3, 8000, [0x40, 0x02]]);
  assert.deepEqual(of("ack"), [{ inputSeq: 7, tick: 401, slackMs: 12.3 }]);
  assert.deepEqual([of("correction"), of("refused")], [[{ reason: "too fast", inputSeq: 7, ...at }], [{ code: "no such player", text: "no such player" }]]);
});

test("what a client sends is the relay's own examples, byte for byte", () => {
  const vectors = JSON.parse(readFileSync(new URL("../../clients/vectors/records.json", import.meta.url), "utf8"));
  const bytesOf = (name) => vectors.find(({ record }) => record === name).hex;
  const { game, socket } = joined(null);
  const at = { x: 1.5, y: -2 };
  for (let count = 0; count < 7; count++) game.step(at);
  assert.equal(lastSent(socket), bytesOf("Move"));
  game.putObject({ id: 9, type: 2, x: 4, y: 0.5 });
  assert.equal(lastSent(socket), bytesOf("PutObject"));
  game.removeObject(9);
  assert.equal(lastSent(socket), bytesOf("RemoveObject"));
  game.event(7, Uint8Array.of(0x68, 0x69), 65_541);
  assert.equal(lastSent(socket), bytesOf("Event"));
  game.who([3, 65_541]);
  assert.equal(lastSent(socket), bytesOf("Who"));
  const rich = joined({ number: "u16", axes: 3, poseBytes: 2, keys: 8, keyBytesMax: 32, views: true, flags: 2, radius: 2, radiusMax: 3 });
  const inSpace = { ...at, z: 8, pose: Uint8Array.of(0x40, 0x02) };
  for (let count = 0; count < 7; count++) rich.game.step(inSpace);
  assert.equal(lastSent(rich.socket), bytesOf("Step"));
  rich.game.setState(1, new TextEncoder().encode("red"));
  assert.equal(lastSent(rich.socket), bytesOf("SetState"));
  rich.game.setView(3);
  assert.equal(lastSent(rich.socket), bytesOf("SetView"));
  rich.game.hostSteps([{ id: 3, inputSeq: 7, ...inSpace }]);
  assert.equal(lastSent(rich.socket), bytesOf("HostSteps"));
});

test("an Ack of what a host has set says no slack, and no input is number 0", () => {
  const { game, socket, of } = joined(null);
  socket.tell(relay.ack(7, 400, 0xffff));
  assert.deepEqual(of("ack"), [{ inputSeq: 7, tick: 400, slackMs: null }]);
  const seqs = new Set(Array.from({ length: 65_536 }, () => game.step({ x: 0, y: 0 })));
  assert.deepEqual([seqs.size, seqs.has(0), seqs.has(65_535)], [65_535, false, true]);
});
