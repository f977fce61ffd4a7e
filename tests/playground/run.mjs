// The playground in Chromium, against a relay of its own. Run by scripts/playground.
//
//   CORELAY    the binary (target/debug/corelay)
//   CHROMIUM   the browser (/usr/bin/chromium)
//   DIALECTS   which to try, with commas between (native,phoenix)
//   ONLY       a part of the names of the tests to run
//   LIVE       the project's directory: its files of the page instead of the binary's, to try a change without a build
//   ARTIFACTS  where screenshots go (target/playground)

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as pathOf } from "node:path";

import { testsOfRooms } from "./chat.mjs";
import { testsOfGettingStarted } from "./getting_started.mjs";
import { ARTIFACTS, PHONE, Relay, becomes, cuttable, launch, mint, runTest, screenshots } from "./harness.mjs";
import { pictures } from "./picture.mjs";
import { testsOfTexts } from "./text.mjs";
import { testsOfTls } from "./tls.mjs";
import { testsOfViews } from "./views.mjs";

const DIALECTS = (process.env.DIALECTS ?? "native,phoenix").split(",");

// ------------------------------------------------------------------------------------------------------------ the tests

const tests = {
  async "two pages see each other move"({ relay, open, dialect }) {
    const [ann, ben] = [await open({ name: "Ann" }), await open({ name: "Ben" })];
    await join(ann, dialect, "arena");
    await join(ben, dialect, "arena");
    for (const page of [ann, ben]) await becomes(page, "both names in the roster", () => rosterNames(page), (names) => String(names) === "Ann,Ben");

    // Ann is dragged to the lower right quarter of her map.
    const box = await ann.locator("#stage").boundingBox();
    await ann.mouse.move(box.x + box.width * 0.5, box.y + box.height * 0.5);
    const before = await becomes(ben, "Ann on Ben's map", () => playerOf(ben, "Ann"), Boolean);
    await ann.mouse.down();
    await ann.mouse.move(box.x + box.width * 0.6, box.y + box.height * 0.85, { steps: 5 });
    await ann.mouse.up();
    const goal = await target(ann, 0.6, 0.85);
    const away = (player) => Math.hypot(player.x - goal.x, player.y - goal.y);
    const between = await becomes(ben, "Ann on her way", () => playerOf(ben, "Ann"), (player) => away(player) < 0.8 * away(before));
    const arrived = await becomes(ben, "Ann where she was dragged to", () => playerOf(ben, "Ann"), (player) => away(player) < 1);
    assert(away(arrived) <= away(between), "she approaches");
    assert(between.x !== before.x || between.y !== before.y);

    // Ben walks up by the keyboard.
    await ben.locator("#stage").focus();
    const start = await becomes(ann, "Ben on Ann's map", () => playerOf(ann, "Ben"), Boolean);
    await ben.keyboard.down("w");
    await becomes(ann, "Ben further up", () => playerOf(ann, "Ben"), ({ y }) => y < start.y - 5);
    await ben.keyboard.up("w");
    await screenshots(ann, `${dialect}`);
    assert.equal((await relay.page(ann, "/readyz")).status, 200);
  },

  async "an event flashes on the other page and is in both logs"({ open, dialect }) {
    const [ann, ben] = [await open({ name: "Ann" }), await open({ name: "Ben" })];
    await join(ann, dialect, "events");
    await join(ben, dialect, "events");
    await becomes(ann, "a join in the log", () => logOf(ann, "join"), (entries) => entries.includes("Ben"));
    await ann.fill("#message", "good evening");
    await ann.getByRole("button", { name: "Send event" }).click();
    for (const page of [ann, ben]) await becomes(page, "the event", () => logOf(page, "event"), (entries) => entries.some((text) => text.startsWith("Ann: good evening")));
    await ben.locator("#stage").focus();
    await ben.keyboard.press("Space");
    await becomes(ann, "a wave", () => logOf(ann, "event"), (entries) => entries.some((text) => text.startsWith("Ben: 👋")));
    await becomes(ann, "a latency", () => ann.locator("#latency").innerText(), (text) => Number(text) < 1000);
    await ben.getByRole("button", { name: "Leave", exact: true }).click();
    await becomes(ann, "a leave in the log", () => logOf(ann, "leave"), (entries) => entries.includes("Ben: left"));
    await becomes(ann, "Ann alone", () => rosterNames(ann), (names) => String(names) === "Ann");
  },

  async "a lost connection comes back to its seat and to what it missed"({ relay, open, dialect }) {
    const wire = await cuttable(relay.port);
    try {
      const [ann, ben] = [await open({ name: "Ann", relay: `ws://127.0.0.1:${wire.port}` }), await open({ name: "Ben" })];
      await join(ann, dialect, "lost");
      await join(ben, dialect, "lost");
      await becomes(ann, "Ann's own place", () => playerOf(ben, "Ann"), Boolean);
      const before = await ann.evaluate(() => playground.me());
      wire.cut();
      await becomes(ann, "the loss noticed", () => stateOf(ann), (state) => state === "waiting");
      await ben.fill("#message", "while you were away");
      await ben.getByRole("button", { name: "Send event" }).click();
      await becomes(ben, "the event", () => logOf(ben, "event"), (entries) => entries.length === 1);
      wire.mend();
      await becomes(ann, "Ann back", () => stateOf(ann), (state) => state === "joined");
      const after = await ann.evaluate(() => playground.me());
      assert.deepEqual(after, { ...before, resumed: true });
      await becomes(ann, "the missed event", () => logOf(ann, "event"), ([text]) => text?.includes("while you were away"));
      assert.deepEqual(await rosterNames(ben), ["Ann", "Ben"]);
    } finally {
      wire.close();
    }
  },

  async "a connection that is cut on the page comes back to its seat, and latency can be added"({ open, dialect }) {
    const [ann, ben] = [await open({ name: "Ann" }), await open({ name: "Ben" })];
    await join(ann, dialect, "cut");
    await join(ben, dialect, "cut");
    await becomes(ben, "Ann's own place", () => playerOf(ben, "Ann"), Boolean);
    const before = await ann.evaluate(() => playground.me());
    await ann.getByRole("button", { name: "Cut for 3 s" }).click();
    await becomes(ann, "the loss", () => stateOf(ann), (state) => state === "waiting");
    await becomes(ann, "what is wrong", () => ann.locator("#banner").innerText(), (text) => /The network is cut/.test(text));
    await ben.fill("#message", "while you were cut off");
    await ben.getByRole("button", { name: "Send event" }).click();
    await becomes(ann, "Ann back", () => stateOf(ann), (state) => state === "joined");
    assert.deepEqual(await ann.evaluate(() => playground.me()), { ...before, resumed: true });
    await becomes(ann, "the missed event", () => logOf(ann, "event"), ([text]) => text?.includes("while you were cut off"));
    await ann.selectOption("#added-latency", "400");
    await becomes(ann, "a latency of more than 400 ms", () => ann.locator("#latency").innerText(), (text) => Number(text) >= 400);
  },

  async "an object is put beside its player, and told to others"({ open, dialect }) {
    const [ann, ben] = [await open({ name: "Ann" }), await open({ name: "Ben" })];
    await join(ann, dialect, "objects");
    await join(ben, dialect, "objects");
    const own = await becomes(ann, "Ann's own place", () => playerOf(ann, "Ann"), Boolean);
    await ann.getByRole("button", { name: "Put object" }).click();
    await becomes(ann, "the log", () => logOf(ann, "object"), ([text]) => / put at /.test(text));
    const [object] = await becomes(ben, "the object", () => ben.evaluate(() => playground.objects()), ({ length }) => length === 1);
    assert(Math.hypot(object.x - own.x, object.y - own.y) > 2, "not under the own dot");
  },

  async "the game's code can be copied"({ relay, open, dialect }) {
    const ann = await open({ name: "Ann" });
    await join(ann, dialect, "code");
    await ann.getByRole("button", { name: "Code" }).click();
    const code = await ann.locator("#code-text").inputValue();
    const says = dialect === "native" ? /new NativeGame\({ relay: "(.*)", game: "code-native", name: "Ann" }/ : /new Socket\("(.*)\/socket"\)[^]*"game:code-phoenix", { name: "Ann" }/;
    assert.equal(new URL(says.exec(code)?.[1]).port, String(relay.port), code);
    await ann.getByRole("button", { name: "Copy" }).click();
    await becomes(ann, "an answer", () => ann.locator("#copy-code").innerText(), (text) => /Copied|Ctrl/.test(text));
    await ann.getByRole("button", { name: "Close" }).click();
  },
};

/** Of one dialect only: what they try is the page's. */
const testsOfThePage = {
  async "a relay that is not there is named, with what to do"({ open }) {
    const page = await open({ name: "Ann", relay: "ws://127.0.0.1:1", expectFailures: true });
    await page.getByRole("button", { name: "Join", exact: true }).click();
    await becomes(page, "the trouble", () => page.locator("#trouble").innerText(), (text) => /Nothing answers there/.test(text) && /127\.0\.0\.1:1/.test(text));
    await screenshots(page, "unreachable");
    await page.fill("#relay", "127.0.0.1");
    await page.getByRole("button", { name: "Join", exact: true }).click();
    await becomes(page, "the address named", () => page.locator("#trouble-title").innerText(), (text) => text === "“127.0.0.1” is no relay address");
    await page.fill("#game", "no such name!");
    await page.getByRole("button", { name: "Join", exact: true }).click();
    assert.equal(await page.locator("#game").getAttribute("aria-invalid"), "true");
  },

  async "the games that run are listed by players, and a click joins one"({ open }) {
    const crowd = [];
    for (const [name, game] of [["Ann", "listed-a"], ["Ben", "listed-b"], ["Cem", "listed-b"]]) {
      crowd.push(await open({ name }));
      await join(crowd.at(-1), "native", game);
    }
    const dora = await open({ name: "Dora" });
    const listed = () => dora.locator("#games-list button").allInnerTexts();
    const those = (texts) => texts.map((text) => text.replace(/\s+/g, " ")).filter((text) => text.startsWith("listed-"));
    await becomes(dora, "both games", listed, (texts) => String(those(texts)) === "listed-b-native 2 players,listed-a-native 1 player");
    await screenshots(dora, "games");
    await crowd[1].getByRole("button", { name: "Leave", exact: true }).click();
    await becomes(dora, "one player less", listed, (texts) => String(those(texts)) === "listed-a-native 1 player,listed-b-native 1 player");

    let asked = 0;
    dora.on("request", (request) => (asked += request.url().endsWith("/games.json")));
    const see = (state) => dora.evaluate((visibility) => {
      Object.defineProperty(document, "visibilityState", { value: visibility, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
    await see("hidden");
    asked = 0;
    await dora.waitForTimeout(3500);
    assert.equal(asked, 0, "a hidden page asks nothing");
    await see("visible");
    await becomes(dora, "a question", () => asked, (times) => times > 0);
    // A list of another relay would be none of this page.
    const own = await dora.inputValue("#relay");
    await dora.getByText("Relay and token").click();
    await dora.fill("#relay", "ws://127.0.0.1:1");
    await dora.locator("#relay").blur();
    assert.equal(await dora.locator("#games").isVisible(), false);
    await dora.fill("#relay", own);
    await dora.locator("#relay").blur();
    await dora.getByRole("button", { name: /^listed-a-native/ }).click();
    await becomes(dora, "joined", () => stateOf(dora), (state) => state === "joined");
    await becomes(dora, "both names", () => rosterNames(dora), (names) => String(names) === "Ann,Dora");
    assert.equal(await dora.inputValue("#game"), "listed-a-native");
    const before = asked;
    await dora.waitForTimeout(3500);
    assert.equal(asked, before, "who plays asks nothing");
  },

  async "a relay with a key says what it wants: an origin, then a token"({ open }) {
    const folder = mkdtempSync(pathOf(tmpdir(), "corelay-playground-"));
    const key = pathOf(folder, "corelay.key");
    writeFileSync(key, "a key of at least thirty-two bytes, for tests");
    const relays = [];
    const press = async (page, title) => {
      await page.getByRole("button", { name: "Join", exact: true }).click();
      await becomes(page, title, () => page.locator("#trouble-title").innerText(), (text) => text === title);
    };
    try {
      // Outside development mode a page of the admin listener is just another origin.
      relays.push(await Relay.start({ CORELAY_JWT_KEY_FILE: key }));
      const stranger = await open({ name: "Ann", origin: relays[0].url, expectFailures: true });
      await press(stranger, "The relay refuses this page's origin");
      assert.match(await stranger.locator("#trouble-remedy").innerText(), new RegExp(`allowed_origins = \\["${relays[0].url}"\\]`));

      relays.push(await Relay.start({ CORELAY_JWT_KEY_FILE: key, CORELAY_ALLOWED_ORIGINS: "*" }));
      // A page of another relay may not read why; but something answers.
      const foreign = await open({ name: "Ann", origin: relays[1].url, relay: `ws://127.0.0.1:${relays[0].port}`, expectFailures: true });
      await press(foreign, "The relay lets this page not in");
      const page = await open({ name: "Ann", origin: relays[1].url, expectFailures: true });
      await page.getByText("Relay and token").click();
      await page.fill("#relay", `ws://localhost:${relays[1].port}`);
      await press(page, "The relay wants a token");
      await page.fill("#token", mint(key));
      await page.getByRole("button", { name: "Join", exact: true }).click();
      await becomes(page, "joined", () => stateOf(page), (state) => state === "joined");
      await becomes(page, "the token's name", () => rosterNames(page), (names) => String(names) === "Ann of the token");
    } finally {
      for (const relay of relays) await relay.stop();
      rmSync(folder, { recursive: true });
    }
  },

  async "a relay that has ended is not said to hold a seat"({ open }) {
    const relay = await Relay.start();
    let page;
    try {
      page = await open({ name: "Ann", origin: relay.url, expectFailures: true });
      await join(page, "native", "ended");
    } finally {
      await relay.stop();
    }
    await becomes(page, "the loss", () => stateOf(page), (state) => state === "waiting");
    const banner = () => page.locator("#banner").innerText();
    const said = await becomes(page, "that nothing answers", banner, (text) => /Nothing answers at ws:/.test(text));
    assert.doesNotMatch(said, /seat/);
  },

  async "/metrics is shown, not downloaded"({ relay, open }) {
    // Chromium asks for an icon, too, and logs that there is none.
    const page = await open({ name: "Ann", expectFailures: true });
    await page.goto(`${relay.url}/metrics`);
    assert.match(await page.locator("body").innerText(), /corelay_connections/);
  },

  async "phones have no sideways scrolling, no keys, and everything has a name"({ open }) {
    const page = await open({ name: "Ann", touch: true });
    await page.setViewportSize(PHONE);
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.equal(await overflow(), 0, "before joining");
    await join(page, "native", "phone");
    assert.equal(await overflow(), 0, "after joining");
    assert.equal(await page.locator("#hint").innerText(), "Drag or tap to move");
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll("input, select, button, a[href]")]
        .filter((control) => !control.labels?.length && !control.innerText.trim() && !control.ariaLabel)
        .map((control) => control.outerHTML));
    assert.deepEqual(nameless, []);
  },

  async "nothing but this server's own files is loaded"({ relay, open }) {
    const page = await open({ name: "Ann" });
    const { headers } = await relay.page(page, "/");
    assert.match(headers["content-security-policy"], /default-src 'none'/);
    assert.equal(headers["x-content-type-options"], "nosniff");
    const again = await page.request.get(`${relay.url}/`, { headers: { "If-None-Match": headers.etag } });
    assert.equal(again.status(), 304);
    // The policy stops the request before it leaves; Chromium logs that as an error.
    const blocked = await page.evaluate(() => new Promise((done) => {
      document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => done(effectiveDirective));
      new Image().src = "https://example.invalid/";
    }));
    assert.equal(blocked, "img-src");
  },
};

// ---------------------------------------------------------------------------------------------------- what they look at

async function join(page, dialect, game) {
  await page.locator(`label:has(input[value=${dialect}])`).click();
  // The seats of a lost player are held: a game of one dialect's run would show in the other's.
  await page.fill("#game", `${game}-${dialect}`);
  await page.getByRole("button", { name: "Join", exact: true }).click();
  await becomes(page, `joined ${game}`, () => stateOf(page), (state) => state === "joined");
}

const stateOf = (page) => page.evaluate(() => playground.state());
const rosterNames = (page) => page.evaluate(() => playground.roster().map(({ name }) => name).sort());
const playerOf = (page, name) => page.evaluate((wanted) => playground.players().find((player) => player.name === wanted), name);
const logOf = (page, kind) => page.locator(`#log [data-kind="${kind}"] span`).allInnerTexts();

/** World coordinates of a place on the map, given as parts of its width and height. */
const target = (page, partX, partY) =>
  page.evaluate(([x, y]) => {
    const box = document.getElementById("stage").getBoundingClientRect();
    return playground.toWorld(box.left + box.width * x, box.top + box.height * y);
  }, [partX, partY]);

// ---------------------------------------------------------------------------------------------------------- running

async function main() {
  mkdirSync(ARTIFACTS, { recursive: true });
  const relay = await Relay.start();
  const browser = await launch();
  const all = Object.entries({ ...testsOfThePage, ...testsOfRooms, ...testsOfTexts, ...testsOfTls, ...testsOfGettingStarted, ...pictures }).map(([name, test]) => ({ name, test, dialect: "native" }));
  for (const dialect of DIALECTS) for (const [name, test] of Object.entries({ ...tests, ...testsOfViews })) all.push({ name: `${dialect}: ${name}`, test, dialect });
  const cases = all.filter(({ name }) => name.includes(process.env.ONLY ?? ""));
  let failed = 0;
  try {
    for (const { name, test, dialect } of cases) {
      try {
        await runTest(browser, relay, dialect, test);
        console.log(`ok     ${name}`);
      } catch (error) {
        failed += 1;
        console.log(`FAILED ${name}\n${error.stack ?? error}\n`);
      }
    }
  } finally {
    await browser.close();
    await relay.stop();
  }
  console.log(`${cases.length - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

await main();
