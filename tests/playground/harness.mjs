// What the tests of the page share: relays, wires that can be cut, pages whose faults are noted, and waiting.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import net from "node:net";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

export const BINARY = process.env.CORELAY ?? "target/debug/corelay";
export const ARTIFACTS = process.env.ARTIFACTS ?? "target/playground";
/** Where the page's files are taken from instead of from the binary, to try a change without a build: the project's directory. */
const LIVE = process.env.LIVE;
/** Chromium takes a page that the test answers for one from far away, which may not connect to this machine. */
const FLAGS = LIVE ? ["--disable-features=LocalNetworkAccessChecks"] : [];
const WAIT_MS = 8000;
export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };

/** A browser of a test's own, or the one that the tests share. */
export function launch(flags = []) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", ...FLAGS, ...flags],
  });
}

/** Waits until `isGood(await look())`, and gives what was seen. */
export async function becomes(page, what, look, isGood, waitMs = WAIT_MS) {
  const deadline = Date.now() + waitMs;
  let seen;
  while (Date.now() < deadline) {
    seen = await look();
    if (isGood(seen)) return seen;
    await new Promise((done) => setTimeout(done, 40));
  }
  const trouble = await page.locator("#trouble, #log, #chat-note, #chat-list .fate, #text-note, #text-state").allInnerTexts();
  throw new Error(`not within ${waitMs} ms: ${what}; last seen ${JSON.stringify(seen)}; the page says ${JSON.stringify(trouble)}`);
}

export async function screenshots(page, name) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    for (const [size, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
      await page.setViewportSize(viewport);
      await page.waitForTimeout(250);
      await page.screenshot({ path: `${ARTIFACTS}/${name}-${colorScheme}-${size}.png`, fullPage: size === "phone" });
    }
  }
  await page.setViewportSize(DESKTOP);
}

// ------------------------------------------------------------------------------------------------- relays and wires

export class Relay {
  /** `folder`: where its data directory is; without it nothing is kept. `port`, `adminPort`: those of one that ran before. `cwd`: where it runs. */
  static async start(environment = {}, { folder, port = 0, adminPort = 0, cwd = "." } = {}) {
    const relay = new Relay();
    const store = folder ? ["--data-dir", folder] : ["--ephemeral"];
    const flags = ["--listen", `127.0.0.1:${port}`, "--admin", `127.0.0.1:${adminPort}`, "--shards", "1", "--log-format", "json", ...store];
    relay.process = spawn(resolve(BINARY), flags, { cwd, stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...environment } });
    relay.ended = new Promise((done) => relay.process.once("exit", done));
    const log = [];
    for await (const line of createInterface({ input: relay.process.stderr })) {
      log.push(line);
      const ready = /"message":"ready"/.test(line);
      if (!ready) continue;
      const field = (name) => new RegExp(`"${name}":"([^"]+)"`).exec(line)[1];
      relay.port = Number(field("listen").split(":").pop());
      if (/"listen_tls"/.test(line)) relay.tlsPort = Number(field("listen_tls").split(":").pop());
      relay.url = `http://${field("admin")}`;
      relay.ready = line;
      relay.process.stderr.resume();
      return relay;
    }
    throw new Error(`${BINARY} did not start:\n${log.join("\n")}`);
  }

  async page(page, path) {
    const answer = await page.request.get(this.url + path);
    return { status: answer.status(), headers: answer.headers() };
  }

  async stop(signal = "SIGTERM") {
    this.process.kill(signal);
    await this.ended;
  }
}

export function mint(keyFile, { sub = "ann", name = "Ann of the token", topics = "game:*", flags = [] } = {}) {
  const words = ["token", "--sub", sub, "--name", name, "--topics", topics, "--jwt-key-file", keyFile, ...flags];
  return execFileSync(BINARY, words, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).match(/eyJ\S+/)[0];
}

/** A TCP port in front of another one, whose connections can be lost without a goodbye. */
export async function cuttable(port) {
  const pairs = new Set();
  let isCut = false;
  const server = net.createServer((near) => {
    if (isCut) return near.resetAndDestroy();
    const far = net.connect(port, "127.0.0.1");
    for (const end of [near, far]) end.on("error", () => {});
    near.pipe(far).pipe(near);
    pairs.add([near, far]);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const cut = () => {
    isCut = true;
    for (const pair of pairs) for (const end of pair) end.resetAndDestroy();
    pairs.clear();
  };
  return { port: server.address().port, cut, mend: () => (isCut = false), close: () => (cut(), server.close()) };
}

// ---------------------------------------------------------------------------------------------------------- running

async function serveFrom(project, page, origin) {
  const types = { html: "text/html; charset=utf-8", css: "text/css", svg: "image/svg+xml" };
  await page.route((url) => url.origin === origin && /^\/(playground\/.*)?$/.test(url.pathname), (route) => {
    const name = /\/playground\/([^?]+)/.exec(route.request().url())?.[1] ?? "index.html";
    const path = ["src/admin/playground", "clients/javascript"].map((folder) => `${project}/${folder}/${name}`).find((each) => existsSync(each));
    return route.fulfill({ path, contentType: types[name.split(".").at(-1)] ?? "text/javascript" });
  });
}

export async function runTest(browser, relay, dialect, test) {
  const contexts = [];
  const faults = [];
  const open = async ({ name, user, relay: address, origin = relay.url, expectFailures = false, touch = false, viewport = DESKTOP, scale = 1, trusts = false }) => {
    const context = await browser.newContext({ ignoreHTTPSErrors: trusts, viewport, deviceScaleFactor: scale, colorScheme: "light", hasTouch: touch, isMobile: touch });
    contexts.push(context);
    const page = await context.newPage();
    if (LIVE) await serveFrom(LIVE, page, origin);
    // Chromium logs each failed WebSocket as an error by itself, and a relay that refuses is what those tests are about.
    const isExpected = (text) => expectFailures || /WebSocket connection to/.test(text) || /example\.invalid/.test(text);
    page.on("console", (message) => message.type() === "error" && !isExpected(message.text()) && faults.push(`console: ${message.text()}`));
    page.on("pageerror", (error) => faults.push(`page: ${error.stack}`));
    page.on("request", (request) => {
      // Where a page asks whether a relay is there at all, failures are expected.
      const isOwn = request.url().startsWith(`${origin}/`) || request.url().startsWith("data:") || expectFailures;
      if (!isOwn && !/example\.invalid/.test(request.url())) faults.push(`request to ${request.url()}`);
    });
    const parameters = new URLSearchParams({ name, ...(user && { user }), ...(address && { relay: address }) });
    await page.goto(`${origin}/?${parameters}`);
    await becomes(page, "the relay's address", () => page.inputValue("#relay"), Boolean);
    return page;
  };
  try {
    await test({ relay, open, dialect, browser });
    assert.deepEqual(faults, []);
  } catch (error) {
    for (const [index, context] of contexts.entries())
      for (const page of context.pages()) await page.screenshot({ path: `${ARTIFACTS}/failed-${index}.png` }).catch(() => {});
    throw faults.length > 0 ? new Error(`${error.message}\n${faults.join("\n")}`) : error;
  } finally {
    for (const context of contexts) await context.close();
  }
}
