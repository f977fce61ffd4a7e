// The first programs of clients/README.md say what is wrong, and end with an exit code that is not 0. CORELAY names the relay's binary.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Relay } from "../phoenix_clients/relay.mjs";

const EXAMPLES = join(import.meta.dirname, "../../clients/javascript");
const PACKAGES = join(import.meta.dirname, "../phoenix_clients/node_modules");
/** Node 22 has a WebSocket; 20 has the same one behind a flag. */
const HAS_WEBSOCKET = Number(process.versions.node.split(".")[0]) >= 22;
const WITH_WEBSOCKET = HAS_WEBSOCKET ? [] : ["--experimental-websocket"];
const WITHOUT_WEBSOCKET = HAS_WEBSOCKET ? ["--no-experimental-websocket"] : [];
const NOBODY = "ws://127.0.0.1:1";
const PATIENCE_MS = 10_000;

let folder;
let keyed;
let open;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "corelay-javascript-"));
  cpSync(EXAMPLES, folder, { recursive: true });
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(join(PACKAGES, "phoenix-1.8"), join(folder, "node_modules/phoenix"));
  symlinkSync(join(PACKAGES, "ws"), join(folder, "node_modules/ws"));
  writeFileSync(join(folder, "corelay.key"), "a key of at least thirty-two bytes, for tests");
  open = await Relay.start();
  keyed = await Relay.start({ flags: ["--jwt-key-file", join(folder, "corelay.key")] });
});

after(() => {
  open?.kill();
  keyed?.kill();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs an example until it ends, or until `enough` is in what it prints; then it is ended, when `others` have come as far. */
async function run(program, words, { node = WITH_WEBSOCKET, enough, typed, others } = {}) {
  const child = spawn(process.execPath, [...node, program, ...words], { cwd: folder, stdio: ["pipe", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill(), PATIENCE_MS);
  let printed = "";
  let isEnough = false;
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text) => {
      printed += text;
      if (typed && /^live$/m.test(text)) child.stdin.write(typed);
      if (isEnough || !enough?.test(printed)) return;
      isEnough = true;
      Promise.resolve(others?.()).then(() => child.kill());
    });
  const [code, signal] = await new Promise((done) => child.once("close", (...ended) => done(ended)));
  clearTimeout(timer);
  return { code, signal, printed };
}

/** Called by each of so many, what it returns is done when all have called. */
function together(count) {
  let [left, all] = [count, null];
  const done = new Promise((resolve) => (all = resolve));
  return () => {
    left -= 1;
    if (left === 0) all();
    return done;
  };
}

const addressOf = (relay) => `ws://127.0.0.1:${relay.port}`;

test("first-game: no relay", async () => {
  const { code, printed } = await run("first-game.mjs", [NOBODY]);
  assert.equal(code, 1, printed);
  assert.match(printed, /127\.0\.0\.1:1 let nobody in\. Start a relay there/);
});

test("first-game: a relay with a key", async () => {
  const { code, printed } = await run("first-game.mjs", [addressOf(keyed)]);
  assert.equal(code, 1, printed);
  assert.match(printed, /corelay token --sub me --topics 'game:\*'/);
});

test("first-game: a Node without WebSocket", async () => {
  const { code, printed } = await run("first-game.mjs", [NOBODY], { node: WITHOUT_WEBSOCKET });
  assert.equal(code, 1, printed);
  assert.match(printed, /run this program with Node 22 or newer/);
});

test("first-game: it plays", async () => {
  const { printed } = await run("first-game.mjs", [addressOf(open)], { enough: /\(me\) at / });
  assert.match(printed, /JavaScript \(me\) at -?\d/);
});

test("phoenix-room: no relay", async () => {
  const { code, printed } = await run("phoenix-room.mjs", ["Ann", NOBODY]);
  assert.equal(code, 1, printed);
  assert.match(printed, /Nothing answers at ws:\/\/127\.0\.0\.1:1: start a relay/);
});

test("phoenix-room: a relay with a key", async () => {
  const { code, printed } = await run("phoenix-room.mjs", ["Ann", addressOf(keyed)]);
  assert.equal(code, 1, printed);
  assert.match(printed, /Not let into the room: unauthorized.*corelay token/);
});

test("phoenix-room: it chats", async () => {
  const { printed } = await run("phoenix-room.mjs", ["Ann", addressOf(open)], { enough: /Ann: hello/ });
  assert.match(printed, /^here: Ann$/m);
  assert.match(printed, /Ann: hello/);
});

test("shared-text: no relay", async () => {
  const { code, printed } = await run("shared-text.mjs", ["Ann", NOBODY]);
  assert.equal(code, 1, printed);
  assert.match(printed, /Nothing answers at ws:\/\/127\.0\.0\.1:1: start a relay/);
});

test("shared-text: a relay with a key", async () => {
  const { code, printed } = await run("shared-text.mjs", ["Ann", addressOf(keyed)]);
  assert.equal(code, 1, printed);
  assert.match(printed, /Not let into the document: unauthorized.*corelay token/);
});

test("shared-text: it edits, and shows what others have typed", async () => {
  const others = together(2);
  const ann = run("shared-text.mjs", ["Ann", addressOf(open)], { typed: "one\n", enough: /^Ben: two$/m, others });
  const ben = run("shared-text.mjs", ["Ben", addressOf(open)], { typed: "two\n", enough: /^Ann: one$/m, others });
  for (const { printed } of await Promise.all([ann, ben])) assert.match(printed, /^--- version \d+:$/m);
});

test("reconnects: it plays", async () => {
  const { printed } = await run("reconnects.mjs", [addressOf(open)], { enough: /^\d+ -?\d+\.\d -?\d+\.\d$/m });
  assert.match(printed, /^player \d+, in a new seat$/m);
});
