// Runs the cases with each version of the client. Usage: node run.mjs [--client 1.6|1.7|1.8] [PART OF A NAME OR ID]
// CORELAY names the binary. With RECORD=1 the transcripts are written anew, from 1.8.
import { createRequire } from "node:module";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import closes from "./cases/closes.mjs";
import connections from "./cases/connections.mjs";
import games from "./cases/games.mjs";
import presence from "./cases/presence.mjs";
import rooms from "./cases/rooms.mjs";
import tokens from "./cases/tokens.mjs";
import { Client } from "./client.mjs";
import { Relay } from "./relay.mjs";
import { SECRET } from "./token.mjs";
import { Transcript } from "./transcript.mjs";
import { until } from "./waiting.mjs";

const CASES = [...connections, ...rooms, ...presence, ...games, ...tokens, ...closes];
const VERSIONS = ["1.6", "1.7", "1.8"];
const RECORDED_VERSION = "1.8";
const RECORDING = process.env.RECORD === "1";
/** Longer than what the relay waits to put presence changes together, and than a tick. */
const QUIET_MS = 200;
/** More than any case takes, so that none hangs for ever. */
const CASE_MS = 20_000;

const require = createRequire(import.meta.url);

/** What one case works with: its clients and relays, which end with it. */
class Case {
  #clients = [];
  #relays = [];
  #transcript;

  constructor({ id, relay = "open" }, version, phoenix, relays, transcript) {
    Object.assign(this, { id, version, phoenix });
    this.commonRelay = relays[relay];
    this.#transcript = transcript;
  }

  /** The name of a topic that no other case and no other version uses. */
  topic(kind) {
    return `${kind}:${this.id}-${this.version}`;
  }

  /** A connected client of the version under test, by default of the relay that the cases share. */
  client(options, relay) {
    return this.closedClient(options, relay).connect();
  }

  closedClient(options, relay = this.commonRelay) {
    const client = new Client(this.phoenix, relay.url, options, this.#transcript);
    this.#clients.push(client);
    return client;
  }

  /** A relay of the case's own. */
  async relay(options) {
    const relay = await Relay.start(options);
    this.#relays.push(relay);
    return relay;
  }

  /** While recording: until nothing moves, so that the order of frames is the same in every recording. */
  async quiet() {
    if (!this.#transcript) return;
    const last = () => Math.max(...this.#clients.map(({ lastFrameAt }) => lastFrameAt));
    await until("the clients to be quiet", () => Date.now() - last() >= QUIET_MS);
  }

  end() {
    this.#transcript?.end();
    for (const client of this.#clients) client.end();
    for (const relay of this.#relays) relay.kill();
  }

  /** What the relays of the case have logged last. */
  get log() {
    return [this.commonRelay, ...this.#relays].map(({ log }) => log).join("\n");
  }
}

async function runCase(definition, version, phoenix, relays) {
  const recorded = RECORDING && version === RECORDED_VERSION && definition.recorded !== false;
  const transcript = recorded ? new Transcript(definition.relay ?? "open") : undefined;
  const running = new Case(definition, version, phoenix, relays, transcript);
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${CASE_MS} ms`)), CASE_MS);
  });
  try {
    await Promise.race([definition.run(running), limit]);
    await running.quiet();
  } catch (error) {
    return { error, log: running.log };
  } finally {
    clearTimeout(timer);
    running.end();
  }
  transcript?.save(definition.id);
  return {};
}

const count = { passed: 0, failed: 0 };

/** Runs `attempt`, and prints how it went: one line, and what helps if it went wrong. */
async function report(name, attempt) {
  const start = Date.now();
  const { error, log } = await attempt().catch((error) => ({ error }));
  const took = `(${Date.now() - start} ms)`;
  if (!error) {
    count.passed++;
    console.log(`ok     ${name} ${took}`);
    return;
  }
  count.failed++;
  const [summary, ...rest] = String(error.message).split("\n");
  const place = error.stack?.split("\n").find((line) => line.includes("/cases/"))?.trim() ?? "";
  console.log(`not ok ${name} ${took}: ${summary}`);
  for (const line of [...rest, place, ...(log ?? "").split("\n")].filter(Boolean)) console.log(`         ${line}`);
}

function selection(words) {
  let versions = VERSIONS;
  if (words[0] === "--client") {
    versions = VERSIONS.filter((version) => version === words[1]);
    words = words.slice(2);
  }
  const wanted = words.join(" ");
  const cases = CASES.filter(({ id, name }) => id.includes(wanted) || name.includes(wanted));
  if (versions.length === 0 || cases.length === 0) throw new Error("no such client or no such case");
  return { versions, cases };
}

const { versions, cases } = selection(process.argv.slice(2));
const directory = mkdtempSync(join(tmpdir(), "corelay-phoenix-clients-"));
const keyFile = join(directory, "corelay.key");
writeFileSync(keyFile, SECRET);
// A case whose client fails where nobody waits for it must not end the others.
process.on("unhandledRejection", (error) => console.log(`         also: ${error.message}`));

const relays = { open: await Relay.start(), keyed: await Relay.start({ flags: ["--jwt-key-file", keyFile] }) };
for (const version of versions) {
  const phoenix = require(`phoenix-${version}`);
  const { version: release } = require(`./node_modules/phoenix-${version}/package.json`);
  for (const definition of cases) {
    if (definition.clients && !definition.clients.includes(version)) continue;
    const name = `${release.padEnd(6)} ${definition.id}: ${definition.name}`;
    await report(name, () => runCase(definition, version, phoenix, relays));
  }
}
for (const [kind, relay] of Object.entries(relays)) {
  await report(`the ${kind} relay drains and ends with 0`, async () => {
    relay.terminate();
    await relay.ended();
    return {};
  });
}
rmSync(directory, { recursive: true });
console.log(`${count.passed} passed, ${count.failed} failed`);
process.exit(count.failed > 0 ? 1 : 0);
