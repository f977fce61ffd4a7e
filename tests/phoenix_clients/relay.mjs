// A relay of the suite's own: the real binary, on free ports, in an empty directory.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { PATIENCE_MS, sleep, until } from "./waiting.mjs";

const BINARY = resolve(process.env.CORELAY || join(import.meta.dirname, "../../target/debug/corelay"));
const LOG_LINES_SHOWN = 20;

const running = new Set();
process.on("exit", () => running.forEach((relay) => relay.kill()));

/** A port that nobody listens on. The kernel does not give it out again soon. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export class Relay {
  #arguments;
  #environment;
  #child;
  #directory;
  #log = [];

  /** Starts a relay, and waits until it is ready. */
  static async start({ flags = [], environment = {} } = {}) {
    const relay = new Relay();
    relay.port = await freePort();
    relay.adminPort = await freePort();
    relay.#arguments = [
      ...["--listen", `127.0.0.1:${relay.port}`, "--admin", `127.0.0.1:${relay.adminPort}`],
      ...["--shards", "2", "--log-format", "json", ...flags],
    ];
    relay.#environment = environment;
    await relay.startAgain();
    return relay;
  }

  /** The mount that a `Socket` is made with. */
  get url() {
    return `ws://127.0.0.1:${this.port}/socket`;
  }

  /** Starts the relay on the ports that it had before. */
  async startAgain() {
    this.#directory = mkdtempSync(join(tmpdir(), "corelay-phoenix-clients-"));
    this.exit = undefined;
    // Only what a case sets may configure the relay: neither the caller's environment, nor a file in its directory.
    const child = spawn(BINARY, this.#arguments, {
      cwd: this.#directory,
      env: { PATH: process.env.PATH, ...this.#environment },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child = child;
    running.add(this);
    child.stderr.setEncoding("utf8").on("data", (text) => {
      this.#log.push(...text.split("\n").filter(Boolean));
      this.#log.splice(0, this.#log.length - LOG_LINES_SHOWN);
    });
    child.on("error", (error) => this.#ended({ error: error.message }));
    child.on("exit", (code, signal) => this.#ended({ code, signal }));
    for (const end = Date.now() + 2 * PATIENCE_MS; !(await this.#isReady()); await sleep(20)) {
      if (this.exit) throw new Error(`${BINARY} did not start: ${JSON.stringify(this.exit)}\n${this.log}`);
      if (Date.now() > end) throw new Error(`${BINARY} did not answer /readyz with 200\n${this.log}`);
    }
  }

  async #isReady() {
    try {
      return (await fetch(`http://127.0.0.1:${this.adminPort}/readyz`)).status === 200;
    } catch {
      return false; // Nobody listens yet.
    }
  }

  #ended(exit) {
    this.exit = exit;
    running.delete(this);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** The last lines of the relay's log. */
  get log() {
    return this.#log.join("\n");
  }

  /** Asks the relay to drain and end. */
  terminate() {
    this.#child.kill("SIGTERM");
  }

  /** Waits for the end, which must be a good one. */
  async ended() {
    await until("the relay's end after SIGTERM", () => this.exit, 2 * PATIENCE_MS);
    if (this.exit.code !== 0) throw new Error(`the relay ended with ${JSON.stringify(this.exit)}\n${this.log}`);
  }

  kill() {
    if (!this.exit) this.#child.kill("SIGKILL");
  }
}
