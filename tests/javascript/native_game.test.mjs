// NativeGame of clients/javascript/corelay.mjs against a WebSocket that the test plays, in a time that the test moves.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { NativeGame } from "../../clients/javascript/corelay.mjs";
import { FakeSocket, openedSockets } from "./fake_socket.mjs";
import { keyframe } from "./relay_records.mjs";
import { pass, startTime } from "./virtual_time.mjs";

let sockets;

beforeEach(() => {
  startTime();
  sockets = openedSockets();
});

/** A game whose first connection has its Welcome, and what its handlers are told. */
function joined() {
  const told = { rosters: [], names: [], closes: [], joins: [] };
  const game = new NativeGame({ relay: "ws://relay", game: "arena", WebSocket: FakeSocket }, {
    joined: (welcome) => told.joins.push(welcome),
    roster: (players, changes) => told.rosters.push({ names: [...players.values()].map(({ name }) => name), ...changes }),
    names: (players) => told.names.push([...players]),
    closed: (close) => told.closes.push(close),
  });
  sockets[0].open();
  sockets[0].tell(welcome());
  sockets[0].tell(keyframe({ axes: 2, poseBytes: 0 }, { tick: 1 }));
  return { game, told };
}

/** The connection that follows a lost one, with its Welcome. */
function rejoined() {
  pass(1_000);
  const socket = sockets.at(-1);
  socket.open();
  socket.tell(welcome({ flags: 1 }));
  socket.tell(keyframe({ axes: 2, poseBytes: 0 }, { tick: 1 }));
  return socket;
}

function welcome({ flags = 0 } = {}) {
  const record = new DataView(new ArrayBuffer(72));
  record.setUint8(0, 0x81);
  record.setUint8(1, flags);
  record.setUint16(2, 20);
  record.setUint32(4, 1);
  return record.buffer;
}

const WHOLE = 1;
const MORE = 2;
const ANSWER = 4;
const CROWD = 8;

function roster(flags, joined, left = [], players = null) {
  const bytes = [0x86, flags, 0, joined.length, 0, left.length];
  for (const [id, name] of joined) bytes.push(0, 0, 0, id, 1, 0x75, name.length, ...new TextEncoder().encode(name));
  for (const id of left) bytes.push(0, 0, 0, id, 0);
  if (players !== null) bytes.push(0, 0, players >> 8, players & 0xff);
  return new Uint8Array(bytes).buffer;
}

const pings = ({ sent }) => sent.filter((record) => record.getUint8(0) === 0x07).length;

function pong() {
  const record = new DataView(new ArrayBuffer(28));
  record.setUint8(0, 0x85);
  return record.buffer;
}

test("a roster in parts is told as one", () => {
  const { told } = joined();
  sockets[0].tell(roster(WHOLE | MORE, [[1, "Ann"], [2, "Ben"]]));
  assert.deepEqual(told.rosters, []);
  sockets[0].tell(roster(0, [[3, "Cid"]]));
  assert.deepEqual(told.rosters, [{ names: ["Ann", "Ben", "Cid"], whole: true, joined: [1, 2, 3], left: [], crowd: null }]);
  sockets[0].tell(roster(0, [[4, "Dee"]], [2]));
  const { names, whole, left } = told.rosters[1];
  assert.deepEqual([names, whole, left], [["Ann", "Cid", "Dee"], false, [{ id: 2, name: "Ben", reason: "left" }]]);
});

test("a roster that a lost connection cut leaves no ghosts", () => {
  const { told } = joined();
  sockets[0].tell(roster(WHOLE, [[1, "Ann"], [2, "Ben"]]));
  sockets[0].tell(roster(MORE, [[3, "Cid"]]));
  sockets[0].lose();
  const socket = rejoined();
  socket.tell(roster(WHOLE | MORE, [[1, "Ann"]]));
  socket.tell(roster(0, [[4, "Dee"]]));
  assert.deepEqual(told.rosters.at(-1).names, ["Ann", "Dee"]);
});

test("a crowd is told as a number until the list returns", () => {
  const { told } = joined();
  sockets[0].tell(roster(WHOLE | CROWD, [[1, "Ann"]], [], 300));
  sockets[0].tell(roster(CROWD, [], [], 301));
  sockets[0].tell(roster(WHOLE, [[1, "Ann"], [2, "Ben"]]));
  assert.deepEqual(told.rosters.map(({ names, crowd }) => [names, crowd]), [[["Ann"], 300], [["Ann"], 301], [["Ann", "Ben"], null]]);
});

test("names that are asked for are told apart from the list", () => {
  const { game, told } = joined();
  sockets[0].tell(roster(WHOLE | CROWD, [[1, "Ann"]], [], 300));
  game.who([2, 70_000]);
  const asked = sockets[0].sent.at(-1);
  assert.deepEqual([...new Uint8Array(asked.buffer)], [0x0c, 0, 0, 2, 0, 0, 0, 2, 0, 1, 0x11, 0x70]);
  sockets[0].tell(roster(ANSWER, [[2, "Ben"]]));
  assert.deepEqual(told.names, [[[2, { user: "u", name: "Ben" }]]]);
  assert.equal(told.rosters.length, 1);
});

test("what a drain said is of its connection", () => {
  const { told } = joined();
  const notice = new DataView(new ArrayBuffer(16));
  notice.setUint8(0, 0x89);
  notice.setUint8(1, 2);
  notice.setUint32(8, 60_000);
  sockets[0].tell(notice.buffer);
  sockets[0].lose(1012, "drain");
  assert.equal(told.closes[0].retryInMs, 60_000);
  pass(60_000);
  sockets[1].lose();
  assert(told.closes[1].retryInMs <= 500, `${told.closes[1].retryInMs} ms`);
});

test("a network that stops without a word is noticed within 15 s, and the seat resumed", () => {
  const { told } = joined();
  pass(4_000);
  assert.equal(pings(sockets[0]), 0, "it was heard a moment ago");
  pass(11_000);
  assert.equal(pings(sockets[0]), 1);
  assert(!sockets[0].closed, "a close that arrives late, before the resume, would free the seat");
  assert.equal(told.closes.length, 1);
  assert.deepEqual([told.closes[0].code, told.closes[0].asked], [1006, false]);
  rejoined();
  assert.equal(told.joins.at(-1).resumed, true);
  assert(sockets[0].closed);
  assert(sockets.at(-1).url.searchParams.has("resume"));
  // What the given-up one says now is of no interest.
  sockets[0].tell(roster(WHOLE, [[9, "Ghost"]]));
  sockets[0].lose();
  assert.equal(told.closes.length, 1);
  assert.deepEqual(told.rosters, []);
});

test("a game in which nothing happens is not given up as long as the relay answers", () => {
  const { told } = joined();
  for (let second = 0; second < 120; second++) {
    const before = pings(sockets[0]);
    pass(1_000);
    if (pings(sockets[0]) > before) sockets[0].tell(pong());
  }
  assert.deepEqual(told.closes, []);
  assert(pings(sockets[0]) <= 24, `${pings(sockets[0])} pings in 2 minutes`);
});

test("a connection that brings no Welcome is given up", () => {
  const { told } = joined();
  sockets[0].lose();
  pass(1_000);
  sockets[1].open();
  pass(12_000);
  assert.equal(told.closes.length, 2);
  assert.notEqual(told.closes[1].retryInMs, null);
});

test("a connection that was none is told as closed, also where there is only an error", () => {
  const { told } = joined();
  sockets[0].lose();
  pass(1_000);
  sockets[1].onerror({});
  assert.deepEqual(told.closes.map(({ code, opened }) => [code, opened]), [[1006, true], [1006, false]]);
  assert.notEqual(told.closes[1].retryInMs, null);
  assert.equal(told.closes[0].why, "");
  assert.match(told.closes[1].why, /^No connection to ws:.*nothing listens there, or it refuses/);
});

test("who closes is not watched any more, and does not come back", () => {
  const { game, told } = joined();
  game.close();
  sockets[0].lose(1000, "bye");
  pass(120_000);
  assert.equal(sockets.length, 1);
  assert.deepEqual(told.closes.map(({ asked, retryInMs }) => [asked, retryInMs]), [[true, null]]);
});

test("where there is no WebSocket, the error says what to do", () => {
  const { WebSocket } = globalThis;
  delete globalThis.WebSocket;
  try {
    assert.throws(() => new NativeGame({ relay: "ws://relay", game: "arena" }, {}), /Node 22 or newer.*ws/);
  } finally {
    if (WebSocket) globalThis.WebSocket = WebSocket;
  }
});
