// `game:` topics: binary pushes both ways, and events.
import assert from "node:assert/strict";
import { decode, encode } from "../game_state.mjs";

/** The next `game_update` on a topic that has this player's position. */
async function nextPosition(game, player) {
  const find = (update) => decode(update).positions.find(({ id }) => id === player);
  const { x, y } = find(await game.next("game_update", find));
  return { x, y };
}

/** Two players in one game who know of each other. */
async function annAndBob(t) {
  const [ann, bob] = [await t.client(), await t.client()];
  const annsGame = ann.topic(t.topic("game"), { name: "Ann" });
  const bobsGame = bob.topic(annsGame.name, { name: "Bob" });
  const anns = await annsGame.join();
  await t.quiet();
  const bobs = await bobsGame.join();
  assert.notEqual(anns.player_id, bobs.player_id);
  await Promise.all([annsGame.awaitPresent(anns.user_id, bobs.user_id), bobsGame.next("game_update")]);
  await t.quiet();
  return { ann, bob, annsGame, bobsGame, anns: anns.player_id, bobs: bobs.player_id };
}

export default [
  {
    id: "game-join",
    name: "joining a game gives a seat and its rules, and then the whole state in binary",
    async run(t) {
      const ann = await t.client();
      const game = ann.topic(t.topic("game"), { name: "Ann" });
      const reply = await game.join();
      assert.match(reply.epoch, /^\d+$/);
      assert.equal(reply.seq, 0);
      assert.match(reply.user_id, /^guest-\d+$/);
      assert.ok(Number.isInteger(reply.player_id) && reply.player_id > 0, `player ${reply.player_id}`);
      assert.equal(reply.tick_hz, 20);
      assert.match(reply.resume_token, /^[0-9a-f]{32}$/);
      assert.deepEqual(Object.keys(reply.bounds).sort(), ["max_x", "max_y", "min_x", "min_y"]);
      assert.ok("max_speed" in reply, "JSON has no infinity: null when there is no limit");
      assert.deepEqual(decode(await game.next("game_update")), { positions: [], objects: [] });
      await game.awaitPresent(reply.user_id);
      await t.quiet();
    },
  },
  {
    id: "game-state",
    name: "a binary push moves, and the others get the position in binary",
    async run(t) {
      const { annsGame, bobsGame, anns, bobs } = await annAndBob(t);
      annsGame.send("game_state", encode({ positions: [{ id: anns, x: 1.5, y: -2.25 }] }));
      const seen = await Promise.all([nextPosition(bobsGame, anns), nextPosition(annsGame, anns)]);
      assert.deepEqual(seen, [{ x: 1.5, y: -2.25 }, { x: 1.5, y: -2.25 }]);
      await t.quiet();
      bobsGame.send("game_state", encode({ positions: [{ id: bobs, x: 40, y: 50 }] }));
      assert.deepEqual(await nextPosition(annsGame, bobs), { x: 40, y: 50 });
      await t.quiet();
    },
  },
  {
    id: "game-others-position",
    name: "a player cannot set the position of another",
    async run(t) {
      const { annsGame, bobsGame, anns, bobs } = await annAndBob(t);
      annsGame.send("game_state", encode({ positions: [{ id: bobs, x: 9, y: 9 }, { id: anns, x: 1, y: 1 }] }));
      annsGame.send("move", { x: 2, y: 2 });
      const isMoved = (update) => decode(update).positions.some(({ id, x }) => id === anns && x === 2);
      const { positions } = decode(await bobsGame.next("game_update", isMoved));
      assert.ok(positions.every(({ id }) => id !== bobs), "Bob stays where he is");
      bobsGame.send("move", { x: 3, y: 4 });
      assert.deepEqual(await nextPosition(annsGame, bobs), { x: 3, y: 4 });
    },
    recorded: false,
  },
  {
    id: "game-move",
    name: "a move in JSON is the same as in binary",
    async run(t) {
      const { annsGame, bobsGame, anns } = await annAndBob(t);
      annsGame.send("move", { x: 7.5, y: 8, input_seq: 1 });
      assert.deepEqual(await nextPosition(bobsGame, anns), { x: 7.5, y: 8 });
      await t.quiet();
    },
  },
  {
    id: "game-late",
    name: "who comes later is told the positions",
    async run(t) {
      const [ann, bob] = [await t.client(), await t.client()];
      const annsGame = ann.topic(t.topic("game"));
      const { player_id } = await annsGame.join();
      await t.quiet();
      annsGame.send("move", { x: -3, y: 12 });
      await nextPosition(annsGame, player_id);
      await t.quiet();
      const bobsGame = bob.topic(annsGame.name);
      await bobsGame.join();
      const { positions } = decode(await bobsGame.next("game_update"));
      assert.deepEqual(positions, [{ id: player_id, x: -3, y: 12 }]);
      await t.quiet();
    },
  },
  {
    id: "game-objects",
    name: "objects are put in binary, and go with their owner",
    async run(t) {
      const { annsGame, bobsGame } = await annAndBob(t);
      const tree = { id: 77, type: 3, flags: 5, x: 10, y: -20 };
      annsGame.send("game_state", encode({ objects: [tree] }));
      const hasObjects = (update) => decode(update).objects.length > 0;
      assert.deepEqual(decode(await bobsGame.next("game_update", hasObjects)).objects, [tree]);
      await t.quiet();
      assert.equal((await annsGame.leave()).status, "ok");
      assert.deepEqual((await bobsGame.next("objects_removed")).ids, [77]);
      await t.quiet();
    },
  },
  {
    id: "game-event",
    name: "events reach the others, all, or one player",
    async run(t) {
      const { annsGame, bobsGame, anns, bobs } = await annAndBob(t);
      annsGame.send("game_event", { code: 1, to: "others", payload: { shot: [1, 2] } });
      const told = { code: 1, sender: anns, payload: { shot: [1, 2] } };
      assert.deepEqual(await nextEvent(bobsGame), told);
      await t.quiet();
      annsGame.send("game_event", { code: 2, to: "all", payload: { score: 3 } });
      assert.equal((await nextEvent(bobsGame)).code, 2);
      assert.equal((await nextEvent(annsGame)).code, 2, "the sender did not get what was for the others");
      await t.quiet();
      bobsGame.send("game_event", { code: 3, to: anns, payload: {} });
      bobsGame.send("game_event", { code: 4, to: bobs, payload: {} });
      assert.deepEqual(await nextEvent(annsGame), { code: 3, sender: bobs, payload: {} });
      assert.equal((await nextEvent(bobsGame)).code, 4, "only the target gets it");
      await t.quiet();
    },
  },
];

async function nextEvent(game) {
  const { code, sender, seq, payload } = await game.next("game_event");
  assert.ok(Number.isInteger(seq) && seq > 0, `seq ${seq}`);
  return { code, sender, payload };
}
