// Shared texts over real sockets against the real relay: several clients edit one document at random while connections are cut in the
// middle of frames, and the relay is killed and started again on its data directory. CORELAY names the relay's binary.
//
//   SEED            of what is edited and cut (1); when things happen is up to the machine
//   CHAOS_SECONDS   how long, about (5)
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { SharedDocument, utf16ToScalar } from "../../clients/javascript/documents.mjs";
import { Socket } from "../phoenix_clients/node_modules/phoenix-1.8/priv/static/phoenix.mjs";
import WebSocket from "../phoenix_clients/node_modules/ws/wrapper.mjs";
import { Relay } from "../phoenix_clients/relay.mjs";
import { sleep, until } from "../phoenix_clients/waiting.mjs";
import { Random } from "./random.mjs";

const SEED = Number(process.env.SEED ?? 1);
const SECONDS = Number(process.env.CHAOS_SECONDS ?? 5);
/** In longer runs about every 3 s. */
const KILLS = Math.max(2, Math.round(SECONDS / 3) - 1);
const KILL_INTERVAL_MS = (SECONDS * 1000) / (KILLS + 1);
const CLIENTS = 4;
const QUIET_MS = 20_000;
/** Of what may be deleted, about so much stays. */
const LENGTH = 1000;
/** A word that is in the text once, and that nobody changes. */
const MARK = /\[\w+\]/g;

/** A TCP port in front of the relay's, whose connections can be cut after any byte. */
class Wire {
  #pairs = new Set();

  static async to(port) {
    const wire = new Wire();
    wire.server = net.createServer((near) => wire.#join(near, net.connect(port, "127.0.0.1")));
    await new Promise((done) => wire.server.listen(0, "127.0.0.1", done));
    wire.port = wire.server.address().port;
    return wire;
  }

  #join(near, far) {
    const pair = { bytesLeft: Infinity, end: () => [near, far].forEach((socket) => socket.resetAndDestroy()) };
    this.#pairs.add(pair);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on("error", () => {});
      from.on("close", () => {
        this.#pairs.delete(pair);
        to.destroy();
      });
      from.on("data", (bytes) => {
        to.write(bytes.subarray(0, pair.bytesLeft));
        pair.bytesLeft -= Math.min(bytes.length, pair.bytesLeft);
        // What was written so far still arrives, mostly.
        if (pair.bytesLeft === 0) setTimeout(pair.end, 2);
      });
    }
  }

  /** Cuts one connection, within so many bytes of either direction. */
  cut(random, mostBytes) {
    const pairs = [...this.#pairs].filter(({ bytesLeft }) => bytesLeft === Infinity);
    if (pairs.length > 0) pairs[random.upTo(pairs.length - 1)].bytesLeft = 1 + random.upTo(mostBytes);
  }

  close() {
    for (const pair of this.#pairs) pair.end();
    this.server.close();
  }
}

class Client {
  marks = [];
  faults = [];

  constructor(name, port, random) {
    this.name = name;
    this.random = random;
    this.socket = new Socket(`ws://127.0.0.1:${port}/socket`, {
      transport: WebSocket,
      params: { user: name },
      // The npm client waits so long for an answer to each cursor, though there is none, and keeps the process from its end.
      timeout: 3000,
      // Back before the others have written more than the relay keeps.
      reconnectAfterMs: () => 20 + random.upTo(200),
      rejoinAfterMs: () => 20 + random.upTo(200),
    });
    this.document = new SharedDocument(this.socket, "chaos", {}, {
      state: (state, { reason }) => state === "ended" && reason !== "left" && this.faults.push(`ended: ${reason}`),
      conflict: ({ mine, theirs }) => this.faults.push(`conflict: ${JSON.stringify([mine, theirs])}`),
      refused: ({ reason }) => this.faults.push(`refused: ${reason}`),
    });
    this.socket.connect();
  }

  get isQuiet() {
    return this.document.state === "live" && !this.document.pending;
  }

  edit() {
    const { document, random } = this;
    if (!document.isWritable) return;
    // One takes back what it did, and writes nothing that must stay.
    const undoes = this.name === "client0";
    if (undoes && random.chance(0.2)) return random.chance(0.6) ? document.undo() : document.redo();
    const length = this.#gaps().reduce((sum, [begin, end]) => sum + end - begin, 0);
    if (random.chance(length / LENGTH / 2)) return this.#delete();
    const place = this.#place();
    if (undoes || random.chance(0.5)) return document.insert(place, random.text(8));
    this.marks.push(`[${this.name}x${this.marks.length}]`);
    document.insert(place, this.marks.at(-1));
  }

  async editUntil(isOver) {
    while (!isOver()) {
      this.edit();
      if (this.random.chance(0.3)) this.document.setCursor(this.#place());
      await sleep(this.random.upTo(this.random.chance(0.05) ? 300 : 30));
    }
  }

  /** The text without marks: [begin, end] of each piece, in UTF-16 units. */
  #gaps() {
    const gaps = [];
    let begin = 0;
    for (const { index, 0: mark } of this.document.text.matchAll(MARK)) {
      gaps.push([begin, index]);
      begin = index + mark.length;
    }
    return [...gaps, [begin, this.document.text.length]];
  }

  #range() {
    const gaps = this.#gaps();
    const [begin, end] = gaps[this.random.upTo(gaps.length - 1)].map((index) => utf16ToScalar(this.document.text, index));
    const from = begin + this.random.upTo(end - begin);
    return [from, this.random.upTo(Math.min(20, end - from))];
  }

  #place() {
    return this.#range()[0];
  }

  #delete() {
    const [from, length] = this.#range();
    if (length > 0) this.document.delete(from, length);
  }

  leave() {
    this.document.leave();
    this.socket.disconnect();
  }
}

async function cutUntil(isOver, wire, random) {
  while (!isOver()) {
    await sleep(random.upTo(300));
    wire.cut(random, random.chance(0.5) ? 100 : 3000);
  }
}

/** Each time there is something between two kills, however slow the machine is. */
async function kill(times, relay) {
  for (; times > 0; times--) {
    await sleep(KILL_INTERVAL_MS);
    relay.kill();
    await until("the relay's end", () => relay.exit);
    await relay.startAgain();
  }
  await sleep(KILL_INTERVAL_MS);
}

test("edits by several, with cut connections and a relay that is killed, end as one text with all that was acknowledged", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "corelay-chaos-"));
  const relay = await Relay.start({ flags: ["--data-dir", folder] });
  const wire = await Wire.to(relay.port);
  const random = new Random(SEED);
  const clients = Array.from({ length: CLIENTS }, (_, index) => new Client(`client${index}`, wire.port, new Random(SEED * 1000 + index)));
  let fresh;
  try {
    let isOver = false;
    const killing = kill(KILLS, relay).finally(() => (isOver = true));
    await Promise.all([killing, cutUntil(() => isOver, wire, random), ...clients.map((client) => client.editUntil(() => isOver))]);
    const isQuiet = () => clients.every((client) => client.isQuiet && client.document.version === clients[0].document.version);
    await until("quiet", isQuiet, QUIET_MS).catch((error) => {
      const states = clients.map(({ name, document, faults }) => [name, document.state, document.version, document.pendingEdits, faults]);
      throw new Error(`${error.message}: ${JSON.stringify(states)}\n${relay.log}`);
    });
    fresh = new Client("fresh", relay.port, random);
    await until("the text of a fresh client", () => fresh.isQuiet, QUIET_MS);
    for (const { name, document, faults } of clients) {
      assert.deepEqual(faults, [], name);
      assert.equal(document.text, fresh.document.text, `${name}'s text`);
    }
    // All are acknowledged now; one whose edit was acknowledged and lost would not have been sent again.
    const expected = clients.flatMap(({ marks }) => marks).sort();
    const found = fresh.document.text.match(MARK) ?? [];
    assert.deepEqual(found.sort(), expected, "every mark is in the text once");
    assert(expected.length > 0);
    context.diagnostic(`${fresh.document.version} versions, ${expected.length} marks, ${KILLS} kills, seed ${SEED}`);
  } finally {
    for (const client of [...clients, ...(fresh ? [fresh] : [])]) client.leave();
    wire.close();
    relay.kill();
    await until("the relay's end", () => relay.exit);
    rmSync(folder, { recursive: true, force: true });
  }
});
