// The relay closes, and the channels come back by themselves. Each case has a relay of its own.
import assert from "node:assert/strict";

const IDLE = {
  CORELAY_LIVENESS_SOCKET_WARN_AFTER_MS: "1500",
  CORELAY_LIVENESS_SOCKET_CLOSE_AFTER_MS: "3000",
};

export default [
  {
    id: "restart",
    name: "a restart says so, closes 1012, and the channels join again by themselves",
    recorded: false,
    async run(t) {
      const relay = await t.relay();
      const ann = await t.client({}, relay);
      const room = ann.topic(t.topic("room"), { name: "Ann" });
      const game = ann.topic(t.topic("game"), { name: "Ann" });
      const before = { room: await room.join(), game: await game.join() };

      relay.terminate();
      for (const topic of [room, game]) {
        const { timeout, retry_after, jitter } = await topic.next("server_draining");
        for (const ms of [timeout, retry_after, jitter]) assert.ok(Number.isInteger(ms) && ms >= 0, `${ms} ms`);
      }
      const { code, reason } = await ann.closes.take("the relay to close");
      assert.deepEqual({ code, reason }, { code: 1012, reason: "drain" });
      await relay.ended();
      await relay.startAgain();

      const after = { room: await room.rejoined(), game: await game.rejoined() };
      assert.notEqual(after.room.epoch, before.room.epoch, "the room's stream is another one");
      assert.notEqual(after.game.resume_token, before.game.resume_token);
      await room.awaitPresent(after.room.user_id);
      assert.equal((await room.push("heartbeat")).status, "ok");
      assert.equal((await game.push("heartbeat")).status, "ok");
    },
  },
  {
    id: "idle",
    name: "silence is warned of, then closed 1001, and the channel joins again by itself",
    recorded: false,
    async run(t) {
      const relay = await t.relay({ environment: IDLE });
      const ann = await t.client({ heartbeatIntervalMs: 600_000 }, relay);
      const room = ann.topic(t.topic("room"), { name: "Ann" });
      await room.join();
      const { timeout, message } = await room.next("disconnect_warning");
      assert.equal(timeout, 1500, "ms until the close");
      assert.equal(typeof message, "string");
      const { code, reason } = await ann.closes.take("the relay to close");
      assert.deepEqual({ code, reason }, { code: 1001, reason: "idle" });
      const { user_id } = await room.rejoined();
      await room.awaitPresent(user_id);
      assert.equal((await room.push("heartbeat")).status, "ok");
    },
  },
  {
    id: "heartbeats-keep-open",
    name: "heartbeats of the client keep the connection open",
    recorded: false,
    async run(t) {
      const relay = await t.relay({
        environment: {
          CORELAY_LIVENESS_SOCKET_WARN_AFTER_MS: "600",
          CORELAY_LIVENESS_SOCKET_CLOSE_AFTER_MS: "900",
        },
      });
      const ann = await t.client({ heartbeatIntervalMs: 150 }, relay);
      await ann.topic(t.topic("room")).join();
      await assert.rejects(ann.closes.take("nothing", undefined, 1500), /awaited nothing/);
    },
  },
];
