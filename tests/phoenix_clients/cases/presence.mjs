// Presence, as the package's own `Presence` keeps it from what the relay sends.
import assert from "node:assert/strict";

/** Two users in one room who see each other. */
async function annAndBob(t) {
  const [ann, bob] = [await t.client(), await t.client()];
  const annsRoom = ann.topic(t.topic("room"), { name: "Ann" });
  const bobsRoom = bob.topic(annsRoom.name, { name: "Bob" });
  const annsId = (await annsRoom.join()).user_id;
  await annsRoom.awaitPresent(annsId);
  await t.quiet();
  const bobsId = (await bobsRoom.join()).user_id;
  await Promise.all([annsRoom.awaitPresent(annsId, bobsId), bobsRoom.awaitPresent(annsId, bobsId)]);
  await t.quiet();
  return { ann, bob, annsRoom, bobsRoom, annsId, bobsId };
}

/** `ends()` ends Bob, and then Ann no longer sees him. */
async function goneAfter(t, ends, reasons) {
  const { bob, annsRoom, bobsRoom, annsId, bobsId } = await annAndBob(t);
  await ends(bob, bobsRoom);
  const told = await annsRoom.next("user_disconnected");
  assert.equal(told.user_id, bobsId);
  assert.ok(reasons.includes(told.reason), `${told.reason} is one of ${reasons}`);
  assert.equal(told.online_count, 1);
  const { key, current } = await annsRoom.next("onLeave", ({ key }) => key === bobsId);
  assert.deepEqual([key, current.metas], [bobsId, []]);
  await annsRoom.awaitPresent(annsId);
  await t.quiet();
}

export default [
  {
    id: "presence",
    name: "two users see each other, with name and status",
    async run(t) {
      const { annsRoom, bobsRoom, annsId, bobsId } = await annAndBob(t);
      for (const room of [annsRoom, bobsRoom]) {
        for (const [user, name] of [[annsId, "Ann"], [bobsId, "Bob"]]) {
          const [meta, ...others] = room.present()[user];
          assert.deepEqual(others, [], "one connection is one meta");
          assert.deepEqual([meta.name, meta.status], [name, "online"]);
          assert.equal(typeof meta.phx_ref, "string");
          assert.ok(Math.abs(meta.joined_at - Date.now() / 1000) < 60, `${meta.joined_at} is the time in s`);
        }
      }
      const refs = [annsId, bobsId].map((user) => annsRoom.present()[user][0].phx_ref);
      assert.notEqual(refs[0], refs[1]);
      assert.deepEqual(bobsRoom.present()[annsId][0], annsRoom.present()[annsId][0], "all see the same");
    },
  },
  {
    id: "user-joined",
    name: "the others are told who joins",
    async run(t) {
      const { annsRoom, annsId, bobsId } = await annAndBob(t);
      const { user, online_count } = await annsRoom.next("user_joined");
      assert.equal(online_count, 2);
      assert.ok(JSON.stringify(user).includes(`"${bobsId}"`), `${JSON.stringify(user)} names ${bobsId}`);
      assert.ok(!JSON.stringify(user).includes(`"${annsId}"`), "one is not told of oneself");
    },
  },
  {
    id: "presence-update",
    name: "an update is one leave and one join in one diff",
    async run(t) {
      const { annsRoom, bobsRoom, annsId, bobsId } = await annAndBob(t);
      const [before] = bobsRoom.present()[annsId];
      annsRoom.send("presence_update", { status: "busy" });
      const isAnns = ({ joins }) => joins[annsId]?.metas.some(({ status }) => status === "busy");
      const { joins, leaves } = await bobsRoom.next("presence_diff", isAnns);
      assert.deepEqual([Object.keys(joins), Object.keys(leaves)], [[annsId], [annsId]]);
      assert.deepEqual(leaves[annsId].metas.map(({ phx_ref }) => phx_ref), [before.phx_ref]);
      const [meta, ...others] = joins[annsId].metas;
      assert.deepEqual(others, []);
      assert.equal(meta.phx_ref_prev, before.phx_ref);
      assert.notEqual(meta.phx_ref, before.phx_ref);
      assert.equal(meta.name, "Ann", "what the update does not name stays");

      const { current } = await bobsRoom.next("onLeave", ({ key }) => key === annsId);
      assert.deepEqual(current.metas.map(({ status }) => status), ["busy"], "the package saw an update, not an end");
      assert.deepEqual(bobsRoom.present()[annsId].map(({ status }) => status), ["busy"]);
      await bobsRoom.awaitPresent(annsId, bobsId);
      await t.quiet();
    },
  },
  {
    id: "presence-leave",
    name: "who leaves is gone",
    run: (t) => goneAfter(t, (_, room) => room.leave(), ["left"]),
  },
  {
    id: "presence-disconnect",
    name: "who disconnects without leaving is gone",
    run: (t) => goneAfter(t, (bob) => bob.socket.disconnect(), ["left"]),
  },
  {
    id: "presence-cut",
    name: "whose connection is cut is gone",
    run: (t) => goneAfter(t, (bob) => bob.cut(), ["left", "timeout"]),
    // What a transcript cannot do: end without a close frame.
    recorded: false,
  },
];
