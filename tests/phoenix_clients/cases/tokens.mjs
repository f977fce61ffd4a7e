// A relay with a key: tokens from all three sources, and their ends.
import assert from "node:assert/strict";
import { token } from "../token.mjs";

const unauthorized = { status: "error", response: { reason: "unauthorized" } };

/** Joins, and is Ann. */
async function joinsAsAnn(topic) {
  assert.equal((await topic.join()).user_id, "ann");
  const metas = (await topic.awaitPresent("ann")).ann;
  assert.deepEqual(metas.map(({ name }) => name), ["Ann Example"], "the name is the token's");
}

const annsToken = (...topics) => token({ sub: "ann", name: "Ann Example", topics });

export default [
  {
    id: "token-params",
    relay: "keyed",
    name: "a token among the parameters lets join what it grants",
    async run(t) {
      const ann = await t.client({ params: { token: annsToken("room:token-*") } });
      await joinsAsAnn(ann.topic(t.topic("room")));
      await t.quiet();
      const other = ann.topic("room:of-others");
      assert.deepEqual(await other.tryJoin(), unauthorized);
      await other.leave();
      await t.quiet();
    },
  },
  {
    id: "token-subprotocol",
    relay: "keyed",
    clients: ["1.8"],
    name: "a token in the subprotocols (authToken) lets join what it grants",
    async run(t) {
      const ann = await t.client({ authToken: annsToken("room:token-*") });
      assert.equal(ann.socket.conn.protocol, "phoenix");
      await joinsAsAnn(ann.topic(t.topic("room")));
      await t.quiet();
    },
  },
  {
    id: "token-join",
    relay: "keyed",
    name: "a token in the join grants what the connection's token does not",
    async run(t) {
      const ann = await t.client({ params: { token: annsToken("room:elsewhere") } });
      const name = t.topic("room");
      const without = ann.topic(name);
      assert.deepEqual(await without.tryJoin(), unauthorized);
      await without.leave();
      await t.quiet();
      await joinsAsAnn(ann.topic(name, { token: annsToken(name) }));
      await t.quiet();
    },
  },
  {
    id: "token-only-in-join",
    relay: "keyed",
    name: "without a token one connects, and joins by a token in each join only",
    async run(t) {
      const ann = await t.client();
      const name = t.topic("room");
      const without = ann.topic(name);
      assert.deepEqual(await without.tryJoin(), unauthorized);
      await without.leave();
      await t.quiet();
      await joinsAsAnn(ann.topic(name, { token: annsToken("room:*") }));
      await t.quiet();
    },
  },
  {
    id: "token-other-topic",
    relay: "keyed",
    name: "a token for another topic is refused, and the topics of the connection go on",
    async run(t) {
      const ann = await t.client({ params: { token: annsToken("room:*") } });
      const room = ann.topic(t.topic("room"));
      await joinsAsAnn(room);
      await t.quiet();
      const game = ann.topic(t.topic("game"), { token: annsToken("room:*") });
      assert.deepEqual(await game.tryJoin(), unauthorized);
      await game.leave();
      assert.equal((await room.push("heartbeat")).status, "ok");
    },
  },
  {
    id: "token-two-devices",
    relay: "keyed",
    name: "one user on two connections is one presence with two metas",
    async run(t) {
      const params = { token: annsToken("room:*") };
      const [phone, tablet] = [await t.client({ params }), await t.client({ params })];
      const onPhone = phone.topic(t.topic("room"));
      await joinsAsAnn(onPhone);
      await t.quiet();
      const onTablet = tablet.topic(onPhone.name);
      await onTablet.join();
      const hasMetas = (count) => (state) => state.ann?.length === count;
      await onPhone.next("onSync", hasMetas(2));
      await onTablet.next("onSync", hasMetas(2));
      await t.quiet();
      assert.equal((await onTablet.leave()).status, "ok");
      await onPhone.next("onSync", hasMetas(1));
      await t.quiet();
    },
  },
  {
    id: "token-bad",
    relay: "keyed",
    name: "a token of another key, or an expired one, is refused before the upgrade",
    recorded: false,
    async run(t) {
      const claims = { sub: "ann", topics: ["room:*"] };
      const forged = token(claims, "another secret that is long enough, at least 32 bytes");
      const expired = token({ ...claims, exp: Math.floor(Date.now() / 1000) - 3600 });
      for (const params of [{ token: forged }, { token: expired }, { token: "nonsense" }]) {
        const ann = t.closedClient({ params });
        ann.socket.connect();
        assert.match(await ann.errors.take("the refusal"), /403/);
        ann.end();
      }
    },
  },
  {
    id: "token-expired",
    relay: "keyed",
    name: "an expired token closes 1008; with a new one the channel joins again by itself",
    recorded: false,
    async run(t) {
      const now = Math.floor(Date.now() / 1000);
      let exp = now + 2;
      const params = () => ({ token: token({ sub: "ann", topics: ["room:*"], exp }) });
      const ann = await t.client({ params });
      const room = ann.topic(t.topic("room"));
      await room.join();
      exp = now + 3600;
      const { code, reason } = await ann.closes.take("the close of an expired token");
      assert.deepEqual({ code, reason }, { code: 1008, reason: "expired" });
      assert.ok(Date.now() / 1000 >= now + 2, "not before it expires");
      assert.equal((await room.rejoined()).user_id, "ann");
    },
  },
];
