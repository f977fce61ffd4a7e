// docs/GETTING-STARTED.md, followed as it is written: its commands make the folder, its page is played in two windows.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { X509Certificate, createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join as pathOf, resolve } from "node:path";
import { createInterface } from "node:readline";

import { ARTIFACTS, BINARY, Relay, becomes, launch, mint } from "./harness.mjs";

const DOCUMENT = readFileSync("docs/GETTING-STARTED.md", "utf8");
/** Units a second, SPEED of the page. */
const SPEED = Number(/const SPEED = (\d+);/.exec(DOCUMENT)[1]);
const [PAGE, CHAT] = fenced("html");

export const testsOfGettingStarted = {
  async "getting started: two dots move smoothly in two windows"({ relay, browser }) {
    await withGame(browser, put(PAGE, ":4000", `:${relay.port}`), async ({ open }) => {
      const pages = [await open(), await open()];
      for (const page of pages) await becomes(page, "two dots with names", () => dotsOf(page), (dots) => dots.length === 2 && dots.every(({ name }) => /^Player \d+$/.test(name)));
      for (const [mover, watcher] of [pages, [...pages].reverse()]) {
        await pointAt(mover, 0.1, 0.3);
        await becomes(watcher, "the dot on the left", () => otherOf(watcher), ({ x, y }) => Math.abs(x - 80) < 2 && Math.abs(y - 150) < 2);
        await watcher.evaluate(() => (drawn.length = 0));
        await pointAt(mover, 0.7, 0.8);
        for (const [page, dotOf] of [[mover, ownOf], [watcher, otherOf]])
          await becomes(page, "the dot on the right", () => dotOf(page), (dot) => dot && Math.abs(dot.x - 560) < 2 && Math.abs(dot.y - 400) < 2);
        const speed = median(await speedsOfOther(watcher));
        assert(speed > 0.5 * SPEED && speed < 1.7 * SPEED, `a dot that walks at ${SPEED} is drawn at ${speed.toFixed(0)}`);
      }
      await pages[1].screenshot({ path: `${ARTIFACTS}/getting-started.png` });
    });
  },

  async "getting started: with a key only who has a token plays, and talks"({ browser }) {
    const folder = mkdtempSync(pathOf(tmpdir(), "corelay-getting-started-"));
    const key = pathOf(folder, "corelay.key");
    writeFileSync(key, "a key of at least thirty-two bytes, for tests");
    const [topics] = /(?<=--topics ')[^']+/.exec(DOCUMENT);
    let relay;
    try {
      relay = await Relay.start({ CORELAY_JWT_KEY_FILE: key, CORELAY_ALLOWED_ORIGINS: "//127.0.0.1" });
      await withGame(browser, put(PAGE + CHAT, ":4000", `:${relay.port}`), async ({ open }) => {
        const stranger = await open("", { expectFailures: true });
        await becomes(stranger, "a refusal", () => stranger.innerText("#note"), (text) => /^No connection to ws:.*token/.test(text));
        const players = [];
        for (const name of ["Ann", "Ben"]) players.push(await open(`#${mint(key, { sub: name, name, topics })}`));
        for (const page of players) await becomes(page, "the names of the tokens", async () => (await dotsOf(page)).map(({ name }) => name).sort(), (names) => String(names) === "Ann,Ben");
        await players[0].fill("#say input", "<b>hello</b>");
        await players[0].click("#say button");
        for (const page of players) await becomes(page, "what was said", () => page.innerText("#said"), (text) => text === "Ann: <b>hello</b>");
        assert.equal(await players[0].inputValue("#say input"), "");
        await players[1].reload();
        await becomes(players[1], "what was said before", () => players[1].innerText("#said"), (text) => text === "Ann: <b>hello</b>");
      });
    } finally {
      await relay?.stop();
      rmSync(folder, { recursive: true });
    }
  },

  async "getting started: who trusts the certificate plays by TLS"({ browser }) {
    const folder = mkdtempSync(pathOf(tmpdir(), "corelay-getting-started-"));
    const [, words] = /target\/release\/corelay (cert .*) > tls.toml/.exec(DOCUMENT);
    writeFileSync(pathOf(folder, "tls.toml"), execFileSync(resolve(BINARY), words.split(" "), { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
    let relay;
    try {
      relay = await Relay.start({ CORELAY_CONFIG: "tls.toml", CORELAY_LISTEN_TLS: "127.0.0.1:0" }, { cwd: folder });
      const [, tlsPort] = /"listen_tls":"127\.0\.0\.1:(\d+)"/.exec(relay.ready);
      const [old] = /^ *const relay = .*\n/m.exec(PAGE);
      const page = put(put(PAGE, old, fenced("javascript")[0]), ":4443", `:${tlsPort}`);
      await withGame(browser, page, async ({ open }) => {
        const stranger = await open("", { expectFailures: true });
        await becomes(stranger, "a refusal", () => stranger.innerText("#note"), (text) => /^No connection to wss:.*certificate/.test(text));
        const ann = await open("", { ignoreHTTPSErrors: true });
        await becomes(ann, "a dot", () => dotsOf(ann), (dots) => dots.length === 1);
      });
      await playFromHttps(browser, folder, page);
    } finally {
      await relay?.stop();
      rmSync(folder, { recursive: true });
    }
  },
};

/** A page that has come by https joins by wss://, in a browser that knows this one certificate, and no other browser loads it. */
async function playFromHttps(stranger, folder, html) {
  const [key, cert] = ["key", "crt"].map((extension) => readFileSync(pathOf(folder, `127.0.0.1.${extension}`)));
  const spki = new X509Certificate(cert).publicKey.export({ type: "spki", format: "der" });
  const hash = createHash("sha256").update(spki).digest("base64");
  const browser = await launch([`--ignore-certificate-errors-spki-list=${hash}`]);
  try {
    await withGame(browser, html, async ({ open, origin }) => {
      const pages = [await open(), await open()];
      for (const page of pages) await becomes(page, "two dots", () => dotsOf(page), (dots) => dots.length === 2);
      assert(await pages[0].evaluate(() => isSecureContext && location.protocol === "https:"));
      await pointAt(pages[0], 0.1, 0.3);
      await becomes(pages[1], "the dot on the left", () => otherOf(pages[1]), ({ x, y }) => Math.abs(x - 80) < 2 && Math.abs(y - 150) < 2);
      const page = await stranger.newPage();
      await assert.rejects(page.goto(origin), /ERR_CERT_AUTHORITY_INVALID/);
      await page.close();
    }, (place) => serveSecurely(place, { key, cert }));
  } finally {
    await browser.close();
  }
}

/** The blocks of one language, in order. */
function fenced(language) {
  return [...DOCUMENT.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, text]) => text);
}

/** A text of the document with one thing, which is there once, changed. */
function put(text, old, now) {
  assert.equal(text.split(old).length, 2, `${old} is there once`);
  return text.replace(old, () => now);
}

/** Makes the game's folder by the document's commands, serves it, as the document says by default, and gives `test` what opens a window. */
async function withGame(browser, html, test, serve = serveAsDocumented) {
  const project = mkdtempSync(pathOf(tmpdir(), "corelay-getting-started-"));
  for (const folder of ["clients", "src"]) symlinkSync(resolve(folder), pathOf(project, folder));
  execFileSync("sh", ["-ec", fenced("sh").find((block) => block.startsWith("mkdir my-game"))], { cwd: project });
  const folder = pathOf(project, "my-game");
  writeFileSync(pathOf(folder, "index.html"), html);
  const { origin, stop } = await serve(folder);
  const contexts = [];
  const faults = [];
  const open = async (hash = "", { expectFailures = false, ignoreHTTPSErrors = false } = {}) => {
    contexts.push(await browser.newContext({ viewport: { width: 820, height: 800 }, ignoreHTTPSErrors }));
    const page = await contexts.at(-1).newPage();
    await page.addInitScript(noteWhatIsDrawn);
    page.on("pageerror", (error) => faults.push(`page: ${error.stack}`));
    // Chromium asks for an icon, too, and logs that there is none.
    const isExpected = (message) => expectFailures || /favicon/.test(message.location().url);
    page.on("console", (message) => message.type() === "error" && !isExpected(message) && faults.push(`console: ${message.text()}`));
    await page.goto(`${origin}/${hash}`);
    return page;
  };
  try {
    await test({ open, origin });
    assert.deepEqual(faults, []);
  } catch (error) {
    throw faults.length > 0 ? new Error(`${error.message}\n${faults.join("\n")}`) : error;
  } finally {
    for (const context of contexts) await context.close();
    stop();
    rmSync(project, { recursive: true });
  }
}

async function serveAsDocumented(folder) {
  const server = spawn("python3", ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"], { cwd: folder, stdio: ["ignore", "pipe", "ignore"] });
  for await (const line of createInterface({ input: server.stdout })) {
    const [, port] = / port (\d+) /.exec(line) ?? [];
    if (port) return { origin: `http://127.0.0.1:${port}`, stop: () => server.kill() };
  }
  throw new Error("python3 -m http.server did not start");
}

async function serveSecurely(folder, keyAndCertificate) {
  const server = createServer(keyAndCertificate, (request, response) => {
    const path = pathOf(folder, request.url === "/" ? "index.html" : request.url);
    if (!existsSync(path)) return response.writeHead(404).end();
    response.writeHead(200, { "Content-Type": path.endsWith(".html") ? "text/html; charset=utf-8" : "text/javascript" });
    response.end(readFileSync(path));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const stop = () => {
    server.close();
    server.closeAllConnections();
  };
  return { origin: `https://127.0.0.1:${server.address().port}`, stop };
}

// ------------------------------------------------------------------------------------------------------ what is on the canvas

/** Runs in the page: `drawn` are its pictures, each with its dots in the order in which they were drawn. */
function noteWhatIsDrawn() {
  const { clearRect, arc, fillText } = CanvasRenderingContext2D.prototype;
  globalThis.drawn = [];
  Object.assign(CanvasRenderingContext2D.prototype, {
    clearRect(...box) {
      drawn.push({ atMs: performance.now(), dots: [] });
      clearRect.apply(this, box);
    },
    arc(x, y, ...rest) {
      drawn.at(-1)?.dots.push({ x, y });
      arc.call(this, x, y, ...rest);
    },
    fillText(text, ...place) {
      const dot = drawn.at(-1)?.dots.at(-1);
      if (dot) dot.name = text;
      fillText.call(this, text, ...place);
    },
  });
}

/** The dots of the last picture that is finished. */
const dotsOf = (page) => page.evaluate(() => drawn.at(-2)?.dots ?? []);
const ownOf = async (page) => (await dotsOf(page)).at(-1);
const otherOf = async (page) => (await dotsOf(page)).at(0);

async function pointAt(page, partX, partY) {
  const box = await page.locator("canvas").boundingBox();
  await page.mouse.move(box.x + box.width * partX, box.y + box.height * partY);
}

/** How fast the other's dot went from picture to picture, where it moved at all. */
async function speedsOfOther(page) {
  const pictures = await page.evaluate(() => drawn.filter(({ dots }) => dots.length === 2).map(({ atMs, dots }) => ({ atMs, ...dots[0] })));
  const speeds = pictures.slice(1).map(({ atMs, x, y }, before) => {
    const last = pictures[before];
    return (1000 * Math.hypot(x - last.x, y - last.y)) / (atMs - last.atMs);
  });
  return speeds.filter((speed) => speed > 1);
}

const median = (values) => values.sort((one, other) => one - other)[values.length >> 1];
