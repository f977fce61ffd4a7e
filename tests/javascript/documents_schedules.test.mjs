// Shared texts in random schedules: several clients edit, connections are cut, the relay restarts, refuses and forgets. When it is
// quiet again, all have one text, and nothing was done twice or lost without a word.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { scalarLength } from "../../clients/javascript/operations.mjs";
import { Client, Relay } from "./document_relay.mjs";
import { Random } from "./random.mjs";
import { pass, startTime } from "./virtual_time.mjs";

const SEEDS = Number(process.env.SEEDS ?? 60);
const STEPS = 60;

beforeEach(startTime);

/** Runs one schedule to its end; `edit` makes one edit of a client. Returns the clients, and the relay. */
function run(random, { kept, edit, undoes = true }) {
  const relay = new Relay();
  Object.assign(relay, {
    kept,
    pageSize: 1 + random.upTo(4),
    partLength: 1 + random.upTo(20),
    latencyMs: () => random.upTo(random.chance(0.1) ? 300 : 20),
    diskMs: () => random.upTo(random.chance(0.02) ? 12_000 : 10),
    timesTold: (_member, version) => (random.chance(0.02) && version > 0 ? 0 : random.chance(0.05) ? 2 : 1),
    refusal: (event) => {
      if (!isWild || event === "cursor" || !random.chance(0.05)) return null;
      return random.chance(0.2) ? { reason: "overload" } : { reason: "rate_limited", retry_after: random.upTo(500) };
    },
  });
  let isWild = true;
  const clients = Array.from({ length: 2 + random.upTo(3) }, (_, index) => new Client(relay, `user${index % 4}`));
  pass(2000);
  for (let step = 0; step < STEPS; step++) {
    const client = clients[random.upTo(clients.length - 1)];
    if (random.chance(0.05)) client.cut({ arrives: random.chance(0.5) });
    else if (random.chance(0.01)) relay.restart(random.upTo(500));
    else if (undoes && random.chance(0.03)) client.document.undo();
    else if (undoes && random.chance(0.02)) client.document.redo();
    else if (client.document.isWritable) edit(client);
    client.document.setCursor(random.upTo(scalarLength(client.text)));
    pass(random.chance(0.05) ? random.upTo(3000) : random.upTo(30));
  }
  isWild = false;
  relay.timesTold = () => 1;
  pass(120_000);
  // An operation that was not told at the very end is noticed with the next.
  relay.write(["."]);
  pass(5000);
  for (const [id, times] of relay.timesDone) assert.equal(times, 1, `${id} was done ${times} times`);
  for (const { document, shown, states } of clients) {
    assert.equal(document.state, "live", states.join(" "));
    assert.equal(document.pending, false);
    assert.equal(document.version, relay.version);
    assert.equal(document.text, relay.text);
    assert.equal(shown, relay.text, "the changes that were told do not make the text");
  }
  return { clients, relay };
}

function schedules(name, check) {
  test(name, () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      startTime();
      try {
        check(new Random(seed));
      } catch (error) {
        error.message = `seed ${seed}: ${error.message}`;
        throw error;
      }
    }
  });
}

const anyEdit = (random) => ({ document }) => document.edit(random.operation(document.text, random.chance(0.02) ? 3000 : 6));

schedules("all texts become equal, with whatever is typed", (random) => {
  const { clients } = run(random, { kept: 100_000, edit: anyEdit(random) });
  for (const { conflicts, refusals } of clients) assert.deepEqual([conflicts, refusals], [[], []]);
});

schedules("all texts become equal, where the relay soon forgets", (random) => {
  run(random, { kept: 3 + random.upTo(10), edit: anyEdit(random) });
});

/** Each edit inserts a character that is nowhere else, and that nobody deletes. */
function marking(random) {
  const marks = new Map(); // mark → client
  const edit = (client) => {
    const mark = String.fromCodePoint(0xf0000 + marks.size);
    marks.set(mark, client);
    client.document.insert(random.upTo(scalarLength(client.text)), mark);
  };
  return { marks, edit };
}

const timesIn = (text, mark) => text.split(mark).length - 1;

schedules("each edit is in the text once", (random) => {
  const { marks, edit } = marking(random);
  const { relay } = run(random, { kept: 100_000, edit, undoes: false });
  for (const mark of marks.keys()) assert.equal(timesIn(relay.text, mark), 1);
});

schedules("where the relay forgets, each edit is in the text once, or its author was told", (random) => {
  const { marks, edit } = marking(random);
  const { relay } = run(random, { kept: 3 + random.upTo(10), edit, undoes: false });
  for (const [mark, { conflicts }] of marks) {
    const isTold = conflicts.some(({ mine }) => mine.includes(mark));
    const times = timesIn(relay.text, mark);
    assert(times === 1 || (times === 0 && isTold), `a mark is in the text ${times} times, ${isTold ? "and" : "not"} told`);
  }
});
