// `room:` topics: joining, pushes with a reply, chat, typing.
import assert from "node:assert/strict";

export default [
  {
    id: "room-join",
    name: "joining a room says who one is and where its stream stands",
    async run(t) {
      const ann = await t.client();
      const room = ann.topic(t.topic("room"), { name: "Ann" });
      const { epoch, seq, user_id } = await room.join();
      assert.match(epoch, /^\d+$/);
      assert.equal(seq, 0);
      assert.match(user_id, /^guest-\d+$/);
      await room.next("presence_state");
    },
  },
  {
    id: "room-state",
    name: "who joins a room is told the messages so far",
    async run(t) {
      const [ann, bob] = [await t.client(), await t.client()];
      const annsRoom = ann.topic(t.topic("room"), { name: "Ann" });
      const { epoch } = await annsRoom.join();
      const empty = await annsRoom.next("room_state");
      assert.deepEqual([empty.messages, empty.epoch, empty.seq], [[], epoch, 0]);
      await t.quiet();
      const { response: message } = await annsRoom.push("new_message", { body: "first" });
      await t.quiet();
      const bobsRoom = bob.topic(annsRoom.name, { name: "Bob" });
      const joined = await bobsRoom.join();
      assert.deepEqual([joined.epoch, joined.seq], [epoch, 1]);
      const state = await bobsRoom.next("room_state");
      assert.deepEqual(state.messages.map(essence), [essence(message)]);
      assert.deepEqual([state.epoch, state.seq], [epoch, 1]);
    },
  },
  {
    id: "topic-heartbeat",
    name: "a heartbeat on a topic is answered with the time",
    async run(t) {
      const ann = await t.client();
      const room = ann.topic(t.topic("room"));
      await room.join();
      await t.quiet();
      const { status, response } = await room.push("heartbeat");
      assert.equal(status, "ok");
      assert.ok(Math.abs(response.timestamp - Date.now()) < 60_000, `${response.timestamp} is the time in ms`);
    },
  },
  {
    id: "unknown-event",
    name: "an event that the topic does not know is an error with a reason",
    async run(t) {
      const ann = await t.client();
      const room = ann.topic(t.topic("room"));
      await room.join();
      await t.quiet();
      const { status, response } = await room.push("no_such_event", { x: 1 });
      assert.equal(status, "error");
      assert.equal(typeof response.reason, "string");
      assert.equal((await room.push("heartbeat")).status, "ok");
    },
  },
  {
    id: "message",
    name: "a message is answered, and everybody gets it",
    async run(t) {
      const [ann, bob] = [await t.client(), await t.client()];
      const annsRoom = ann.topic(t.topic("room"), { name: "Ann" });
      const { user_id } = await annsRoom.join();
      await t.quiet();
      const bobsRoom = bob.topic(annsRoom.name, { name: "Bob" });
      await bobsRoom.join();
      await t.quiet();
      const { status, response } = await annsRoom.push("new_message", { body: "Grüße, \"Bob\" 🙂" });
      assert.equal(status, "ok");
      assert.ok(response.id, "the message has an id");
      assert.ok(response.inserted_at, "the message has a time");
      const { body, name, seq } = response;
      assert.deepEqual({ body, name, seq }, { body: "Grüße, \"Bob\" 🙂", name: "Ann", seq: 1 });
      assert.equal(response.user_id, user_id);
      for (const room of [annsRoom, bobsRoom])
        assert.deepEqual(essence(await room.next("new_message")), essence(response));
      const [joinRef] = await bob.frame(null, null, annsRoom.name, "new_message");
      assert.equal(joinRef, null, "a broadcast has no join_ref");
    },
  },
  {
    id: "message-invalid",
    name: "a message without words is an error of its body",
    async run(t) {
      const ann = await t.client();
      const room = ann.topic(t.topic("room"));
      await room.join();
      await t.quiet();
      for (const body of ["", " \n\t", 7, "x".repeat(4097)]) {
        const { status, response } = await room.push("new_message", { body });
        assert.equal(status, "error", JSON.stringify(body));
        assert.deepEqual(Object.keys(response.errors), ["body"]);
        assert.equal(typeof response.errors.body[0], "string");
      }
      await t.quiet();
      assert.equal((await room.push("new_message", { body: "ok" })).response.seq, 1, "nothing came of the others");
    },
  },
  {
    id: "typing",
    name: "who types is seen typing by the others",
    async run(t) {
      const [ann, bob] = [await t.client(), await t.client()];
      const annsRoom = ann.topic(t.topic("room"), { name: "Ann" });
      const { user_id } = await annsRoom.join();
      await t.quiet();
      const bobsRoom = bob.topic(annsRoom.name, { name: "Bob" });
      const bobs = await bobsRoom.join();
      await bobsRoom.awaitPresent(user_id, bobs.user_id);
      await t.quiet();
      for (const typing of [true, false]) {
        annsRoom.send("typing", { typing });
        assert.deepEqual(await bobsRoom.next("user_typing"), { user_id, typing });
        const status = typing ? "typing" : "online";
        await bobsRoom.next("onSync", (state) => state[user_id]?.every((meta) => meta.status === status));
        await t.quiet();
      }
      bobsRoom.send("typing", { typing: true });
      const first = await annsRoom.next("user_typing");
      assert.equal(first.user_id, bobs.user_id, "the own typing is not told");
    },
  },
];

/** What identifies a message, wherever it is told. */
function essence({ id, seq, body, user_id, name, inserted_at }) {
  return { id, seq, body, user_id, name, inserted_at };
}
