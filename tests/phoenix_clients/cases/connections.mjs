// Connecting, heartbeats, topics that come and go.
import assert from "node:assert/strict";
import { until } from "../waiting.mjs";

export default [
  {
    id: "heartbeat",
    name: "connects, and its heartbeats and pings are answered",
    async run(t) {
      const ann = await t.client({ heartbeatIntervalMs: 100 });
      assert.equal(ann.socket.conn.extensions, "", "compression is not negotiated");
      for (let heartbeat = 0; heartbeat < 3; heartbeat++) {
        const sent = await ann.frames.take("a heartbeat of the client", ({ dir }) => dir === ">");
        const [, ref] = JSON.parse(sent.text);
        assert.deepEqual(JSON.parse(sent.text), [null, ref, "phoenix", "heartbeat", {}]);
        await ann.frame(null, ref, "phoenix", "phx_reply", { status: "ok", response: {} });
      }
      // Enough of them: a recording ends when it is quiet.
      ann.socket.heartbeatIntervalMs = 600_000;
      const roundTripMs = await new Promise((resolve) => assert.ok(ann.socket.ping(resolve)));
      assert.ok(roundTripMs >= 0 && roundTripMs < 1000, `${roundTripMs} ms`);
      assert.equal(ann.socket.connectionState(), "open");
    },
  },
  {
    id: "burst",
    name: "topics joined before the connection is open are all answered",
    async run(t) {
      const ann = t.closedClient();
      const rooms = Array.from({ length: 30 }, (_, number) => ann.topic(`${t.topic("room")}-${number}`));
      const joins = rooms.map((room) => room.join());
      await ann.connect();
      const users = new Set((await Promise.all(joins)).map(({ user_id }) => user_id));
      assert.equal(users.size, 1, "one connection is one user");
    },
    // Which shard is faster differs from run to run.
    recorded: false,
  },
  {
    id: "unmatched-topic",
    name: "a topic of no kind is refused as unmatched, and the connection goes on",
    async run(t) {
      const ann = await t.client();
      const nope = ann.topic("nope:1");
      const refusal = { status: "error", response: { reason: "unmatched topic" } };
      assert.deepEqual(await nope.tryJoin(), refusal);
      await ann.frame(null, undefined, "nope:1", "phx_reply", refusal);
      assert.equal((await nope.leave()).status, "ok");
      await ann.topic(t.topic("room")).join();
    },
  },
  {
    id: "leave",
    name: "leaving is answered, and then the topic is closed",
    async run(t) {
      const ann = await t.client();
      const room = ann.topic(t.topic("room"));
      await room.join();
      const [joinRef] = await ann.frame(undefined, undefined, room.name, "phx_reply");
      await t.quiet();
      assert.deepEqual(await room.leave(), { status: "ok", response: {} });
      await until("the channel to be closed", () => room.channel.state === "closed");
      const reply = { status: "ok", response: {} };
      await ann.frame(joinRef, undefined, room.name, "phx_reply", reply);
      await ann.frame(joinRef, joinRef, room.name, "phx_close", {});

      // And it can be joined anew.
      await t.quiet();
      await ann.topic(room.name).join();
    },
  },
  {
    id: "duplicate-topic",
    name: "a second channel on one topic takes the place of the first",
    async run(t) {
      const ann = await t.client();
      const first = ann.topic(t.topic("room"));
      const { user_id } = await first.join();
      await first.awaitPresent(user_id);
      await t.quiet();
      const second = ann.topic(first.name);
      assert.equal((await second.join()).user_id, user_id);
      await until("the first channel to be closed", () => first.channel.state === "closed");
      assert.equal(second.channel.state, "joined");
      await second.awaitPresent(user_id);
      await t.quiet();
      assert.equal((await second.push("heartbeat")).status, "ok");
      assert.equal(second.present()[user_id].length, 1, "the first channel's presence is gone");
    },
  },
  {
    id: "leave-one-of-two",
    name: "leaving one topic ends neither the others of the connection nor the topic of the others",
    async run(t) {
      const [ann, bob] = [await t.client(), await t.client()];
      const [here, there] = [t.topic("room"), `${t.topic("room")}-other`];
      const staying = ann.topic(here);
      await staying.join();
      const leaving = [bob.topic(here), bob.topic(there)];
      for (const room of leaving) await room.join();
      assert.equal((await leaving[0].leave()).status, "ok");
      assert.equal((await staying.push("heartbeat")).status, "ok");
      assert.equal((await leaving[1].push("heartbeat")).status, "ok");
    },
    recorded: false,
  },
];
