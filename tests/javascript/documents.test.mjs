// SharedDocument of clients/javascript/documents.mjs over the real npm client, against a relay in memory: each behaviour by itself.
// Cursors, undo and redo: documents_users.test.mjs. Random schedules: documents_schedules.test.mjs.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { scalarToUtf16, utf16ToScalar } from "../../clients/javascript/documents.mjs";
import { Client, joined, pushed, refuse, Relay } from "./document_relay.mjs";
import { pass, startTime } from "./virtual_time.mjs";

beforeEach(startTime);

// ------------------------------------------------------------------------------------------------------------- edits

test("an edit shows at once, is acknowledged, and told to the others", () => {
  const [relay, ann, ben] = joined("Hello");
  assert.equal(ann.document.edit([5, " world"]), true);
  assert.deepEqual([ann.text, ann.document.pending, ann.document.version], ["Hello world", true, 1]);
  assert.deepEqual(ann.changes.at(-1), { operation: [5, " world"], isOwn: true, userId: "ann" });
  pass(100);
  assert.deepEqual([ann.document.pending, ann.document.version, relay.text], [false, 2, "Hello world"]);
  assert.deepEqual(ben.changes.at(-1), { operation: [5, " world"], isOwn: false, userId: "ann" });
  assert.match(pushed(relay, "operation")[0].op_id, /^[0-9a-f]{32}$/);
  assert.deepEqual(ann.states, ["live"]);
});

test("insert, delete and replaceText are edits; positions are characters", () => {
  const [relay, ann] = joined("🦀🦀");
  ann.document.insert(1, "a");
  ann.document.delete(2, 1);
  assert.equal(ann.text, "🦀a");
  ann.document.replaceText("🦀aa", 3);
  assert.deepEqual(ann.changes.at(-1).operation, [1, "a"]);
  pass(100);
  assert.equal(relay.text, "🦀aa");
  assert.deepEqual([scalarToUtf16("🦀a", 1), utf16ToScalar("🦀a", 2)], [2, 1]);
  assert.throws(() => ann.document.edit([4, "x"]), RangeError);
  assert.throws(() => ann.document.edit([0.5]), TypeError);
  assert.equal(ann.text, "🦀aa");
});

test("one edit is on its way at a time, the later ones follow as one", () => {
  const [relay, ann] = joined("");
  for (const [at, letter] of [..."abcd"].entries()) ann.document.insert(at, letter);
  pass(100);
  assert.deepEqual(pushed(relay, "operation").map(({ op, version }) => [op, version]), [[["a"], 0], [[1, "bcd"], 1]]);
});

test("how many edits are not acknowledged yet is known, and told when it changes", () => {
  const [, ann] = joined("");
  const told = [];
  ann.document.listen({ saved: () => told.push([ann.document.version, ann.document.pendingEdits]) });
  assert.equal(ann.document.pendingEdits, 0);
  for (const [at, letter] of [..."abcd"].entries()) ann.document.insert(at, letter);
  assert.equal(ann.document.pendingEdits, 4);
  pass(100);
  assert.deepEqual(told, [[1, 3], [2, 0]]);
  // The end of what goes in parts counts for the whole; what takes itself back for nothing.
  ann.document.insert(0, "x".repeat(120_000));
  assert.equal(ann.document.pendingEdits, 1);
  ann.document.insert(0, "y");
  ann.document.delete(0, 1);
  pass(1000);
  assert.deepEqual(told.slice(2).map(([, count]) => count > 0), [true, true, false]);
});

test("edits at one place are brought together, the earlier version left", () => {
  const [relay, ann, ben] = joined("..");
  ann.document.insert(1, "aa");
  pass(1);
  ben.document.insert(1, "b");
  ben.document.insert(2, "bb");
  pass(200);
  assert.deepEqual([relay.text, ann.text, ben.text], [".aabbb.", ".aabbb.", ".aabbb."]);
  assert.deepEqual([ann.shown, ben.shown], [relay.text, relay.text]);
});

test("a long paste goes in parts below the bounds", () => {
  const [relay, ann, ben] = joined("<>");
  const paste = '\u0001é"漢🦀\n'.repeat(14_000);
  ann.document.insert(1, paste);
  pass(1000);
  assert.equal(relay.text, `<${paste}>`);
  assert.equal(ben.text, relay.text);
  const sizes = pushed(relay, "operation").map(({ op }) => Buffer.byteLength(JSON.stringify(op)));
  assert(sizes.length >= 5 && Math.max(...sizes) <= 56 * 1024 - 1000, String(sizes));
});

test("many changes at once go in parts of few components", () => {
  const [relay, ann] = joined("ab".repeat(1500));
  ann.document.edit(Array.from({ length: 1500 }, () => [1, "x", -1]).flat());
  pass(1000);
  assert.equal(relay.text, "ax".repeat(1500));
  assert(pushed(relay, "operation").every(({ op }) => op.length <= 1000));
});

test("half a character is replaced before it is shown or sent", () => {
  const [relay, ann] = joined("");
  ann.document.insert(0, "a\ud83e");
  pass(100);
  assert.deepEqual([ann.text, relay.text], ["a\ufffd", "a\ufffd"]);
});

test("before the text has come nothing is edited", () => {
  const { document } = new Client(new Relay(), "ann");
  assert.deepEqual([document.state, document.version, document.isWritable], ["joining", null, false]);
  assert.throws(() => document.insert(0, "x"), /has not come yet/);
  assert.equal(document.undo(), false);
});

test("what would make the text too long is refused at once and as a whole", () => {
  const [relay, ann] = joined("é".repeat(131_000));
  assert.equal(ann.document.insert(0, "é".repeat(80)), false);
  assert.deepEqual(ann.refusals, [{ reason: "the text would have more than 262144 bytes", operation: ["é".repeat(80)] }]);
  assert.equal(ann.document.insert(0, "é".repeat(72)), true);
  assert.equal(ann.document.delete(0, 1), true);
  pass(100);
  assert.equal(relay.text.length, 131_071);
});

test("a handler may edit, and may leave", () => {
  const [relay, ann, ben] = joined("");
  const ignore = ann.document.listen({ changed: ({ isOwn }) => isOwn || ann.document.insert(0, "!") });
  ben.document.insert(0, "a");
  pass(100);
  assert.equal(relay.text, "!a");
  ignore();
  ann.document.listen({ changed: () => ann.document.leave() });
  ben.document.insert(0, "b");
  pass(100);
  assert.deepEqual([relay.text, ann.document.state], ["b!a", "ended"]);
  ben.document.listen({ changed: () => ben.document.leave() });
  ben.cut();
  relay.write(["c"]);
  pass(1000);
  assert.deepEqual([ben.text, ben.document.state], ["cb!a", "ended"]);
});

// ---------------------------------------------------------------------------------------------------------- refusals

test("over the rate an edit is sent again after the time that the relay names, as the same", () => {
  const [relay, ann] = joined("");
  refuse(relay, "operation", { reason: "rate_limited", retry_after: 700 });
  ann.document.insert(0, "a");
  pass(20);
  relay.refusal = () => null;
  ann.document.insert(1, "b");
  pass(650);
  assert.equal(pushed(relay, "operation").length, 1);
  pass(200);
  const ids = pushed(relay, "operation").map(({ op_id: id }) => id);
  assert.deepEqual([relay.text, ids.length, ids[0] === ids[1]], ["ab", 3, true]);
  assert.deepEqual(ann.refusals, []);
});

test("what passes is tried again, with and without a time", () => {
  for (const refusal of [{ reason: "overload" }, { reason: "storage_full", retry_after: 5000 }, { reason: "unavailable", retry_after: 5000 }, { reason: "unmatched topic" }]) {
    startTime();
    const [relay, ann] = joined("");
    refuse(relay, "operation", refusal);
    ann.document.insert(0, "a");
    pass(100);
    relay.refusal = () => null;
    pass(6000);
    assert.deepEqual([relay.text, ann.text, ann.document.pending, ann.refusals], ["a", "a", false, []], refusal.reason);
  }
});

test("what is refused in words is taken back, from under what was typed behind it", () => {
  const [relay, ann, ben] = joined("abc");
  relay.refusal = (event, { op }) => (event === "operation" && op.includes("X") ? { reason: "too long" } : null);
  ann.document.edit([1, "X", -1]);
  ann.document.insert(3, "Y");
  ben.document.insert(0, "0");
  pass(200);
  assert.deepEqual([ann.text, relay.text, ben.text], ["0abcY", "0abcY", "0abcY"]);
  assert.deepEqual(ann.refusals, [{ reason: "too long", operation: [1, "X", -1] }]);
  assert.equal(ann.shown, ann.text);
  assert.equal(ann.document.undo(), false, "what is taken back already is not taken back again");
});

test("who may only read edits nothing", () => {
  const relay = new Relay();
  relay.write(["abc"]);
  relay.readers.add("ann");
  const { document } = new Client(relay, "ann");
  pass(100);
  assert.deepEqual([document.text, document.isReadOnly, document.isWritable], ["abc", true, false]);
  assert.throws(() => document.insert(0, "x"), /may only be read/);
});

test("edits of whom may only read from now on are taken back", () => {
  const [relay, ann] = joined("abc");
  ann.cut();
  ann.document.insert(0, "x");
  relay.readers.add("ann");
  pass(1000);
  assert.deepEqual([ann.text, relay.text, ann.refusals[0].reason], ["abc", "abc", "read_only"]);
});

// ------------------------------------------------------------------------------------------------------- connections

test("an edit whose answer was lost is not sent again when it comes among those that were missed", () => {
  const [relay, ann, ben] = joined("");
  ann.document.insert(0, "a");
  pass(8);
  assert.equal(relay.version, 1);
  ann.cut();
  ann.document.insert(1, "b");
  ben.document.insert(0, "c");
  pass(1000);
  assert.deepEqual([relay.text, ann.text, ann.shown, ben.text], ["acb", "acb", "acb", "acb"]);
  assert.equal(pushed(relay, "operation").length, 2);
  assert.deepEqual(ann.states, ["live", "waiting", "catching_up", "live"]);
});

test("an edit that was lost is sent again as the same, for the newest version, and only when all that was missed has come", () => {
  const [relay, ann] = joined("-");
  relay.pageSize = 1;
  ann.document.insert(1, "a");
  ann.cut();
  for (const letter of "xyz") relay.write([letter]);
  pass(1000);
  const [operation, ...more] = pushed(relay, "operation");
  assert.deepEqual([operation.op, operation.version, more], [[4, "a"], 4, []]);
  assert.deepEqual(pushed(relay, "operations"), [{ after: 2 }, { after: 3 }]);
  assert.deepEqual([relay.text, ann.text], ["zyx-a", "zyx-a"]);
});

test("an edit that an abandoned connection brings in late counts as answered", () => {
  const [relay, ann] = joined("");
  relay.diskMs = () => 3000;
  ann.document.insert(0, "a");
  pass(10);
  ann.cut();
  let until = 0;
  relay.refusal = (event) => (event === "operation" && relay.version === 0 ? { reason: "rate_limited", retry_after: (until = 5000) } : null);
  pass(4000);
  assert.deepEqual([relay.text, ann.text, ann.document.pending, until], ["a", "a", false, 5000]);
  // The time to wait is over while another edit is on its way: that one is not sent twice.
  ann.document.insert(1, "b");
  pass(10_000);
  assert.deepEqual([relay.text, relay.version], ["ab", 2]);
  assert.deepEqual(pushed(relay, "operation").map(({ op }) => op), [["a"], ["a"], [1, "b"]]);
});

test("what was waited for in a lost membership is over with it", () => {
  const [relay, ann] = joined("");
  refuse(relay, "operation", { reason: "rate_limited", retry_after: 5000 });
  ann.document.insert(0, "a");
  pass(1000);
  ann.cut();
  relay.refusal = () => null;
  relay.diskMs = () => 8000;
  pass(9500);
  assert.deepEqual([pushed(relay, "operation").length, relay.text], [2, "a"], "no time to wait");
  relay.diskMs = () => 20_000;
  ann.document.insert(1, "b");
  pass(5000);
  ann.cut();
  pass(6000);
  assert.equal(pushed(relay, "operation").length, 4, "no answer that is late");
  ann.cut();
  ann.document.channel.trigger("operations", { operations: [], more: false });
  assert.equal(ann.document.state, "waiting");
});

test("an answer that does not come in time is asked for again", () => {
  const [relay, ann, ben] = joined("");
  relay.diskMs = () => 12_000;
  ann.document.insert(0, "a");
  pass(1000);
  relay.diskMs = () => 0;
  ben.document.insert(0, "b");
  pass(30_000);
  const ids = new Set(pushed(relay, "operation").map(({ op_id: id }) => id));
  assert.deepEqual([ids.size, pushed(relay, "operation").length], [1, 2]);
  assert.deepEqual([relay.version, ann.text, ben.text, ann.document.pending], [2, relay.text, relay.text, false]);
});

test("what is edited without a connection arrives later, over a restart, too", () => {
  const [relay, ann, ben] = joined("");
  relay.restart(2000);
  ann.document.insert(0, "a");
  ben.document.insert(0, "b");
  pass(100);
  assert.equal(ann.document.state, "waiting");
  ann.document.insert(1, "A");
  pass(5000);
  assert.equal(relay.text.length, 3);
  assert.deepEqual([ann.text, ben.text], [relay.text, relay.text]);
});

test("a text in parts, of which the first ones were lost with the connection", () => {
  const relay = new Relay();
  relay.partLength = 2;
  relay.write(["abcdefg"]);
  const ann = new Client(relay, "ann");
  let parts = 0;
  ann.document.channel.on("doc_state", () => ++parts === 2 && setTimeout(() => ann.cut(), 0));
  let spread = 0;
  relay.latencyMs = () => (spread += 1);
  pass(1000);
  assert(parts > 4, "the text came in one go");
  assert.deepEqual([ann.text, ann.shown, ann.document.state], ["abcdefg", "abcdefg", "live"]);
});

test("what is told twice is done once, and what is missing is asked for", () => {
  const [relay, ann] = joined("");
  relay.timesTold = () => 2;
  relay.write(["a"]);
  relay.write([1, "b"]);
  pass(100);
  assert.deepEqual([ann.text, ann.document.version], ["ab", 2]);
  relay.timesTold = () => 0;
  relay.write([2, "c"]);
  relay.timesTold = () => 1;
  relay.pageSize = 1;
  relay.write([3, "d"]);
  pass(7);
  assert.deepEqual([ann.text, ann.document.state], ["ab", "catching_up"]);
  relay.write([4, "e"]);
  refuse(relay, "operations", { reason: "rate_limited", retry_after: 300 });
  pass(100);
  relay.refusal = () => null;
  pass(1000);
  assert.deepEqual([ann.text, ann.shown, ann.document.state], ["abcde", "abcde", "live"]);
});

test("what is missing is asked for again if no answer comes in time", () => {
  const [relay, ann] = joined("");
  relay.timesTold = () => 0;
  relay.write(["a"]);
  relay.timesTold = () => 1;
  relay.write(["b"]);
  pass(4);
  relay.latencyMs = () => 11_000;
  pass(5);
  relay.latencyMs = () => 5;
  pass(30_000);
  assert.deepEqual([ann.text, ann.document.state, pushed(relay, "operations").length], ["ba", "live", 2]);
});

test("when pages are not kept any more, the whole text comes", () => {
  const [relay, ann] = joined("");
  relay.timesTold = () => 0;
  relay.kept = 2;
  for (const letter of "abcd") relay.write([letter]);
  relay.timesTold = () => 1;
  relay.write(["e"]);
  pass(100);
  assert.deepEqual([ann.text, ann.document.version, ann.document.state, ann.conflicts], ["edcba", 5, "live", []]);
});

// -------------------------------------------------------------------------------------------------- the whole text

/** Cuts Ann's connection while her edit "A" is on its way, and lets so much happen that the relay keeps none of it. */
function forgotten({ arrives, buffered = "" }) {
  const [relay, ann] = joined("-");
  relay.kept = 3;
  ann.document.insert(1, "A");
  pass(1);
  ann.cut({ arrives });
  if (buffered) ann.document.insert(2, buffered);
  pass(10);
  for (const letter of "vwxyz") relay.write([letter]);
  pass(1000);
  assert.equal(ann.document.state, "live");
  assert.deepEqual([ann.text, ann.shown, ann.document.pending], [relay.text, relay.text, false]);
  return [relay, ann];
}

test("an edit that is in a text that was missed is no conflict", () => {
  const [relay, ann] = forgotten({ arrives: true });
  assert.deepEqual([relay.text, ann.conflicts, relay.version], ["zyxwv-A", [], 7]);
});

test("an edit that did not arrive, and cannot any more, is a conflict", () => {
  const [relay, ann] = forgotten({ arrives: false });
  assert.deepEqual([relay.text, ann.conflicts], ["zyxwv-", [{ mine: "-A", theirs: "zyxwv-" }]]);
});

test("edits behind one that is in a text that was missed are a conflict", () => {
  const [relay, ann] = forgotten({ arrives: true, buffered: "B" });
  assert.deepEqual([relay.text, ann.conflicts], ["zyxwv-A", [{ mine: "-AB", theirs: "zyxwv-A" }]]);
});

test("edits that were never sent, for a version that is gone, are a conflict", () => {
  const [relay, ann] = joined("-");
  relay.kept = 1;
  ann.cut();
  ann.document.insert(1, "A");
  relay.write(["x"]);
  relay.write(["y"]);
  pass(1000);
  assert.deepEqual([ann.conflicts, ann.text, relay.text], [[{ mine: "-A", theirs: "yx-" }], "yx-", "yx-"]);
  assert.equal(ann.document.undo(), false);
  ann.document.insert(0, "!");
  pass(100);
  assert.equal(relay.text, "!yx-");
});

test("while it is asked whether an edit is in, news waits", () => {
  const [relay, ann] = joined("-");
  relay.kept = 3;
  ann.document.insert(1, "A");
  pass(1);
  ann.cut({ arrives: true });
  pass(10);
  for (const letter of "vwxyz") relay.write([letter]);
  refuse(relay, "operation", { reason: "overload", retry_after: 500 });
  pass(400);
  assert.deepEqual([ann.document.state, ann.text], ["catching_up", "-A"]);
  relay.write(["0"]);
  relay.refusal = () => null;
  pass(1000);
  assert.deepEqual([ann.text, ann.shown, ann.conflicts], ["0zyxwv-A", "0zyxwv-A", []]);
});

test("a document of another epoch is another one: nothing is sent to it that was meant for the old", () => {
  const [relay, ann, ben] = joined("old");
  ann.document.insert(3, "A");
  ann.document.listen({ state: (state) => state === "catching_up" && ann.document.insert(4, "B") });
  relay.restart();
  Object.assign(relay, { epoch: "8", text: "", version: 0, log: [], lastOf: new Map() });
  relay.write(["new text"]);
  pass(1000);
  assert.deepEqual([ann.text, ben.text, relay.text], ["new text", "new text", "new text"]);
  assert.deepEqual([ann.conflicts, ben.conflicts], [[{ mine: "oldAB", theirs: "new text" }], []]);
  assert.deepEqual(pushed(relay, "operation"), []);
});

test("a backup that an operator has put in place", () => {
  for (const later of [[], ["xyz"], ["xy", "z"]]) {
    startTime();
    const [relay, ann] = joined("");
    relay.write(["a"]);
    relay.write(["b"]);
    pass(100);
    ann.document.insert(2, "A");
    relay.restart();
    Object.assign(relay, { text: "", version: 0, log: [] });
    relay.write(["a"]);
    for (const op of later) relay.write([op]);
    const { text } = relay;
    pass(1000);
    assert.deepEqual([ann.text, relay.text, ann.document.state], [relay.text, relay.text, "live"], `${later} ${ann.text}`);
    const [{ mine, theirs }, ...more] = ann.conflicts;
    assert.deepEqual([mine.slice(-3), theirs, more], ["baA", text, []]);
  }
});

test("an edit that is too old while its author is there is sent for the text that follows", () => {
  const [relay, ann, ben] = joined("-");
  relay.kept = 2;
  ann.document.insert(1, "A");
  ann.document.insert(2, "B");
  for (const letter of "xyz") relay.write([letter]);
  pass(200);
  assert.deepEqual([ann.text, relay.text, ben.text], ["zyx-AB", "zyx-AB", "zyx-AB"]);
  assert.deepEqual([ann.conflicts, ann.refusals, ann.document.state], [[], [], "live"]);
});

test("an edit for a version that the relay does not have is a conflict", () => {
  const [relay, ann] = joined("abc");
  refuse(relay, "operation", { reason: "ahead", version: 0 });
  ann.document.insert(0, "A");
  pass(100);
  assert.deepEqual([ann.text, ann.conflicts, ann.refusals], ["abc", [{ mine: "Aabc", theirs: "abc" }], []]);
});

test("an operation that does not fit the text brings the whole text, if not at once", () => {
  const [relay, ann] = joined("abc");
  refuse(relay, "reconnect", { reason: "rate_limited", retry_after: 50 });
  relay.tellAll("operation", { op: [7, "x"], version: 2, user_id: "ben" });
  pass(40);
  assert.equal(ann.document.state, "catching_up");
  relay.refusal = () => null;
  pass(100);
  assert.deepEqual([ann.text, ann.document.state, ann.document.version], ["abc", "live", 1]);
  ann.document.insert(0, "x");
  pass(100);
  relay.timesTold = () => 0;
  relay.write(["y"]);
  relay.timesTold = () => 1;
  relay.write(["z"]);
  pass(100);
  assert.deepEqual([relay.text, ann.text, ann.document.state], ["zyxabc", "zyxabc", "live"]);
});

test("an answer that names a version which was told as another's brings the whole text", () => {
  const [relay, ann] = joined("abc");
  relay.diskMs = () => 50;
  ann.document.insert(0, "x");
  pass(10);
  // Without its op_id nobody knows it for the own one.
  relay.tellAll("operation", { op: ["x"], version: 2, user_id: "ann" });
  pass(10);
  assert.equal(ann.text, "xxabc");
  pass(200);
  assert.deepEqual([ann.text, relay.text, ann.document.pending, ann.document.state], ["xabc", "xabc", false, "live"]);
});

test("an edit that the relay takes after it has sent the whole text", () => {
  const [relay, ann] = joined("-");
  ann.document.insert(1, "A");
  ann.cut();
  relay.write(["x"]);
  relay.kept = 0;
  relay.refusal = (event) => {
    // The state goes out as if nothing were kept; the edit finds that it is.
    if (event === "operation") Object.assign(relay, { log: [{ op: ["x"], user: "other" }], kept: 10 });
    return null;
  };
  relay.log = [];
  pass(1000);
  assert.deepEqual([relay.text, ann.text, ann.shown, ann.conflicts, ann.document.version], ["x-A", "x-A", "x-A", [], 3]);
});

test("an edit that others have made as well is not sent again", () => {
  const [relay, ann] = joined("abc");
  ann.document.delete(1, 1);
  ann.cut();
  relay.write([1, -1]);
  pass(1000);
  assert.deepEqual([ann.text, ann.document.pending, pushed(relay, "operation")], ["ac", false, []]);
});

// ----------------------------------------------------------------------------------------------------- the membership

test("who is refused for good does not come back, and who is not tries again", () => {
  const relay = new Relay();
  refuse(relay, "phx_join", { reason: "unavailable", retry_after: 5000 });
  const ann = new Client(relay, "ann");
  pass(300);
  assert.deepEqual(ann.states, ["waiting: unavailable"]);
  refuse(relay, "phx_join", { reason: "not_found" });
  pass(300);
  assert.deepEqual([ann.states.at(-1), ann.document.isWritable], ["ended: not_found", false]);
  relay.refusal = () => null;
  pass(20_000);
  assert.equal(relay.members.size, 0);
});

test("who is sent away does not come back, and who could not be told something does", () => {
  const [relay, ann, ben] = joined("");
  for (const member of relay.members)
    member.connection.tell([member.joinRef, member.joinRef, "doc:notes", ...(member.user === "ann" ? ["phx_error", { reason: "overload" }] : ["phx_close", {}])]);
  relay.members.clear();
  ann.document.insert(0, "a");
  pass(1000);
  assert.deepEqual([relay.text, ann.text, ann.document.state, ann.refusals], ["a", "a", "live", []]);
  assert.equal(ben.states.at(-1), "ended: closed");
});

test("who leaves is gone, with its timers", () => {
  const [relay, ann] = joined("");
  refuse(relay, "operation", { reason: "rate_limited", retry_after: 5000 });
  ann.document.insert(0, "a");
  pass(100);
  relay.refusal = () => null;
  ann.document.leave();
  pass(20_000);
  assert.deepEqual([ann.document.state, ann.document.pending, relay.text], ["ended", true, ""]);
  assert.deepEqual([...relay.members].map(({ user }) => user), ["ben"]);
});

test("a large text is edited in the middle", () => {
  const [relay, ann] = joined("🦀 is a crab. ".repeat(15_000));
  const middle = 100_000;
  for (let count = 0; count < 50; count++) {
    ann.document.insert(middle + count, "x");
    pass(20);
    relay.write([5, "y"]);
    pass(20);
  }
  pass(100);
  assert.equal(ann.text, relay.text);
});
