// SharedDocument of clients/javascript/documents.mjs: cursors, undo and redo.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { joined, pushed, refuse } from "./document_relay.mjs";
import { pass, startTime } from "./virtual_time.mjs";

beforeEach(startTime);

// ----------------------------------------------------------------------------------------------------------- cursors

test("a cursor is told to the others, moves with the text, and goes with its member", () => {
  const [relay, ann, ben] = joined("abcdef");
  ann.document.setCursor(2, 4);
  pass(50);
  assert.deepEqual([...ben.document.cursors], [["ann", { position: 2, selectionEnd: 4 }]]);
  ben.document.insert(0, "🦀");
  assert.deepEqual(ben.document.cursors.get("ann"), { position: 3, selectionEnd: 5 }, "also over what is not acknowledged");
  pass(50);
  ben.document.insert(3, "x");
  assert.deepEqual(ben.document.cursors.get("ann"), { position: 3, selectionEnd: 6 }, "what others insert at it does not move it");
  pass(50);
  assert.deepEqual(ben.document.cursors.get("ann"), { position: 3, selectionEnd: 6 });
  const times = ben.cursorTimes;
  ann.document.leave();
  pass(100);
  for (const member of relay.members) assert.equal(member.user, "ben");
  relay.tellAll("cursor", { user_id: "ann", position: null });
  pass(50);
  assert.deepEqual([ben.document.cursors.size, ben.cursorTimes], [0, times + 1]);
});

test("a cursor is told every 50 ms at most, and only if it has changed", () => {
  const [relay, ann] = joined("abcdefghij");
  for (let at = 0; at < 10; at++) {
    ann.document.setCursor(at);
    pass(10);
  }
  pass(100);
  assert.deepEqual(pushed(relay, "cursor").map(({ position }) => position), [0, 4, 9]);
  ann.document.setCursor(9, 9);
  pass(100);
  assert.equal(pushed(relay, "cursor").length, 3);
  ann.document.setCursor(null);
  pass(100);
  assert.deepEqual(pushed(relay, "cursor").at(-1), { position: null, version: 1 });
});

test("who types tells no cursor: it moves for the others by what is typed", () => {
  const [relay, ann, ben] = joined("--");
  ann.document.setCursor(1);
  pass(100);
  for (const [index, letter] of [..."hello"].entries()) {
    ann.document.insert(1 + index, letter);
    ann.document.setCursor(2 + index);
    pass(30);
  }
  pass(100);
  assert.equal(pushed(relay, "cursor").length, 1);
  assert.deepEqual(ben.document.cursors.get("ann"), { position: 6, selectionEnd: 6 });
});

test("a cursor is told as it is in the text without what is not acknowledged", () => {
  const [relay, ann, ben] = joined("abcdef");
  relay.diskMs = () => 500;
  ann.document.insert(0, "xxx");
  ann.document.delete(3, 1);
  ann.document.setCursor(6);
  pass(10);
  assert.deepEqual(pushed(relay, "cursor"), [{ position: 4, version: 1 }]);
  pass(2000);
  assert.deepEqual([relay.text, ben.document.cursors.get("ann").position], ["xxxbcdef", 6]);
});

test("a cursor that was refused is told again, and after each return", () => {
  const [relay, ann, ben] = joined("abc");
  refuse(relay, "cursor", { reason: "rate_limited", retry_after: 200 });
  ann.document.setCursor(1);
  pass(100);
  relay.refusal = () => null;
  pass(200);
  assert.equal(ben.document.cursors.get("ann").position, 1);
  ann.cut();
  pass(20);
  assert.equal(ben.document.cursors.size, 0);
  pass(1000);
  assert.equal(ben.document.cursors.get("ann").position, 1);
  ben.cut();
  pass(10);
  assert.equal(ben.document.cursors.size, 0, "who knows whether they are there");
  pass(1000);
  assert.equal(ben.document.cursors.get("ann").position, 1, "a newcomer is told");
});

test("the own edits move the own cursor, and news of an earlier membership brings nobody's back", () => {
  const [relay, ann, ben] = joined("abc");
  ann.document.setCursor(2);
  pass(100);
  ann.document.insert(0, "xx");
  pass(200);
  assert.equal(ben.document.cursors.get("ann").position, 4);
  assert.equal(pushed(relay, "cursor").length, 1);
  refuse(relay, "operations", { reason: "overload" });
  ben.document.channel.trigger("cursor", { user_id: "cid", position: 1, version: 9 });
  pass(20);
  ben.cut();
  relay.refusal = () => null;
  for (let version = relay.version; version < 10; version++) relay.write(["-"]);
  pass(1000);
  assert.deepEqual([[...ben.document.cursors.keys()], ben.document.version], [["ann"], 10]);
});

test("in a crowd there are no cursors", () => {
  const [relay, ann, ben] = joined("abc");
  ann.document.setCursor(1);
  pass(100);
  relay.tellAll("presence_count", { online: 300 });
  pass(100);
  assert.equal(ben.document.cursors.size, 0);
});

test("a cursor that was told before the text became shorter is within it", () => {
  const [relay, ann] = joined("abcdef");
  relay.timesTold = () => 0;
  relay.write([1, -1]);
  relay.tellAll("cursor", { user_id: "ben", position: 5, selection_end: 5, version: 2 });
  relay.write([-5]);
  pass(100);
  assert.deepEqual([ann.text, ann.document.cursors.get("ben")], ["", { position: 0, selectionEnd: 0 }]);
});

test("a cursor waits for the version that it is of", () => {
  const [relay, ann] = joined("abc");
  relay.timesTold = () => 0;
  relay.write(["🦀"]);
  relay.tellAll("cursor", { user_id: "ben", position: 4, version: 2 });
  pass(100);
  assert.deepEqual([ann.text, ann.document.cursors.get("ben")], ["🦀abc", { position: 4, selectionEnd: 4 }]);
});

// -------------------------------------------------------------------------------------------------------------- undo

test("undo takes back the own edits only, redo brings them again", () => {
  const [relay, ann, ben] = joined("one two");
  ann.document.edit([4, "X", -3]);
  pass(1000);
  ben.document.insert(0, "> ");
  ben.document.insert(7, "!");
  pass(100);
  assert.equal(ann.text, "> one X!");
  const can = () => [ann.document.canUndo, ann.document.canRedo];
  assert.deepEqual(can(), [true, false]);
  assert.equal(ann.document.undo(), true);
  assert.deepEqual(can(), [false, true]);
  assert.equal(ann.text, "> one two!");
  assert.equal(ann.document.undo(), false);
  ben.document.insert(0, "_");
  pass(100);
  assert.equal(ann.document.redo(), true);
  pass(100);
  assert.deepEqual([ann.text, relay.text, ben.text], ["_> one X!", "_> one X!", "_> one X!"]);
  assert.equal(ann.document.redo(), false);
  ann.document.undo();
  ann.document.insert(0, "new");
  assert.equal(ann.document.redo(), false, "a new edit ends what can be done again");
});

test("what is typed in one go is taken back in one go", () => {
  const [, ann, ben] = joined("");
  const type = (text) => {
    for (const letter of text) {
      ann.document.insert(ann.text.length, letter);
      pass(100);
    }
  };
  type("Hello");
  ben.document.insert(0, "..");
  pass(100);
  ann.document.delete(6, 1);
  ann.document.delete(5, 1);
  type("p");
  pass(600);
  type(" you");
  ann.document.insert(0, "A");
  const undone = [];
  while (ann.document.undo()) undone.push(ann.text);
  assert.deepEqual(undone, ["..Help you", "..Help", ".."]);
  const redone = [];
  while (ann.document.redo()) redone.push(ann.text);
  assert.deepEqual(redone, ["..Help", "..Help you", "A..Help you"]);
});

test("what others have deleted is skipped, and the list has an end", () => {
  const [, ann, ben] = joined("");
  ann.document.insert(0, "a");
  pass(1000);
  ann.document.insert(0, "b");
  pass(1000);
  ben.document.delete(0, 1);
  pass(100);
  assert.equal(ann.document.undo(), true);
  assert.deepEqual([ann.text, ann.document.undo()], ["", false]);
  for (let count = 0; count < 300; count++) {
    ann.document.insert(0, "c");
    pass(1000);
  }
  let times = 0;
  while (ann.document.undo()) times++;
  assert.equal(times, 200);
});
