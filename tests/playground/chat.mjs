// The room's panel: two pages say, edit and miss things; relays that end; moderators.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as pathOf } from "node:path";

import { PHONE, Relay, becomes, cuttable, mint, screenshots } from "./harness.mjs";

const HTML = `<b id="bold">bold</b><img src=x onerror="document.title='hacked'"> \u202etxet desrever\u0007`;

export const testsOfRooms = {
  async "room: a message, typing, an edit and a deletion are on both pages"({ open }) {
    const [ann, ben] = [await open({ name: "Ann" }), await open({ name: "Ben" })];
    for (const page of [ann, ben]) await enter(page, "talk");
    await becomes(ann, "both here", () => membersOf(ann), (names) => String(names) === "Ann,Ben");
    await makeYoung(ann);
    await ann.locator("#chat-text").pressSequentially("Hello Ben");
    await becomes(ben, "Ann types", () => ben.locator("#chat-typing").innerText(), (text) => text === "Ann is typing");
    await ann.keyboard.press("Enter");
    for (const page of [ann, ben]) await said(page, ["Hello Ben"]);
    await becomes(ben, "nobody types", () => ben.locator("#chat-typing").innerText(), (text) => text === "");
    assert.equal(await ben.locator("#chat-list .name").innerText(), "Ann");
    assert.match(await ben.locator("#chat-list time").innerText(), /^\d\d:\d\d$/);

    await say(ben, "Hello Anm");
    await said(ann, ["Hello Ben", "Hello Anm"]);
    await ben.locator("#chat-text").press("ArrowUp");
    await ben.keyboard.press("Escape");
    await choose(ben, "Hello Anm", "Edit");
    await ben.getByRole("textbox", { name: /^Edit message/ }).fill("Hello Ann");
    await ben.keyboard.press("Enter");
    for (const page of [ann, ben]) {
      await said(page, ["Hello Ben", "Hello Ann"]);
      await becomes(page, "the mark", () => page.locator("#chat-list .mark").allInnerTexts(), (marks) => String(marks) === "edited");
    }
    assert.equal(await ann.locator(".dots").count(), 1, "only the own messages can be changed");

    await choose(ann, "Hello Ben", "Delete");
    for (const page of [ann, ben]) await said(page, ["Message deleted", "Hello Ann"]);
    await ben.getByRole("button", { name: "Leave room" }).click();
    await becomes(ann, "Ann alone", () => membersOf(ann), (names) => String(names) === "Ann");
    await enter(ben, "talk");
    await said(ben, ["Message deleted", "Hello Ann"]);
  },

  async "room: what others write is text"({ open }) {
    const [ann, ben] = [await open({ name: "Ann" }), await open({ name: "<i>Ben</i>" })];
    for (const page of [ann, ben]) await enter(page, "markup");
    await say(ben, HTML);
    await said(ann, [HTML.replace("\u0007", "\u2407")]);
    assert.equal(await ann.locator("#bold, #chat-list img, #chat-list i").count(), 0);
    assert.equal(await ann.locator("#chat-list .name").innerText(), "<i>Ben</i>");
    assert.notEqual(await ann.title(), "hacked");
    await say(ben, `${"wide".repeat(300)}\n\n\nthree lines further down`);
    await becomes(ann, "the long one", () => bodiesOf(ann), ({ length }) => length === 2);
    assert.equal(await ann.evaluate(() => document.querySelector("#chat-scroll").scrollWidth - document.querySelector("#chat-scroll").clientWidth), 0);
  },

  async "room: who was away is told how much was missed, and what was said meanwhile is sent once"({ relay, open }) {
    const wire = await cuttable(relay.port);
    try {
      const [ann, ben] = [await open({ name: "Ann", relay: `ws://127.0.0.1:${wire.port}` }), await open({ name: "Ben" })];
      for (const page of [ann, ben]) await enter(page, "away");
      await say(ben, "before");
      await said(ann, ["before"]);
      // The marker for it is on its way for a moment.
      await ann.waitForTimeout(600);
      wire.cut();
      await becomes(ann, "the loss", () => chatOf(ann), ({ state }) => state === "waiting");
      for (const text of ["one", "two", "three"]) await say(ben, text);
      await said(ben, ["before", "one", "two", "three"]);
      await say(ann, "said while away");
      await becomes(ann, "that it waits", () => ann.locator(".pending .fate").innerText(), (text) => /waits for the connection/.test(text));
      wire.mend();
      await becomes(ann, "what was missed", () => ann.locator("#chat-missed-text").innerText(), (text) => text === "You missed 3 messages.");
      for (const page of [ann, ben]) await said(page, ["before", "one", "two", "three", "said while away"]);
      assert.equal(await ann.locator("#chat-list > .line + li .words").innerText(), "one");
      await screenshots(ann, "room");
      await ann.locator("#chat-missed").getByRole("button", { name: "Dismiss" }).click();
      await becomes(ann, "no such line", () => ann.locator("#chat-missed").isVisible(), (is) => !is);
      await say(ben, "welcome back");
      await becomes(ann, "no line any more", () => ann.locator("#chat-list > .line").count(), (count) => count === 0);
    } finally {
      wire.close();
    }
  },

  async "room: unread messages are counted while nobody looks, and read once somebody does"({ open }) {
    const [ann, ben] = [await open({ name: "Ann", user: "reader" }), await open({ name: "Ben" })];
    for (const page of [ann, ben]) await enter(page, "unread");
    await say(ben, "seen");
    await said(ann, ["seen"]);
    const focus = (has) => ann.evaluate((value) => {
      document.hasFocus = () => value;
      dispatchEvent(new Event(value ? "focus" : "blur"));
    }, has);
    // The marker for what was seen is on its way for a moment.
    await ann.waitForTimeout(600);
    await focus(false);
    for (const text of ["unseen 1", "unseen 2"]) await say(ben, text);
    await becomes(ann, "two unread", () => chatOf(ann), ({ unread }) => unread === 2);
    assert.equal(await ann.locator("#chat-list > .line + li .words").innerText(), "unseen 1");
    // Another device of the user learns the same from the relay.
    const phone = await open({ name: "Ann", user: "reader" });
    await phone.evaluate(() => (document.hasFocus = () => false));
    await enter(phone, "unread");
    await becomes(phone, "two missed", () => phone.locator("#chat-missed-text").innerText(), (text) => text === "You missed 2 messages.");
    await focus(true);
    await becomes(ann, "all read", () => chatOf(ann), ({ unread }) => unread === 0);
    await ann.waitForTimeout(600);
    await phone.getByRole("button", { name: "Leave room" }).click();
    await enter(phone, "unread");
    await said(phone, ["seen", "unseen 1", "unseen 2"]);
    assert.equal(await phone.locator("#chat-missed").isVisible(), false);
  },

  async "room: a relay that is killed, or drains, comes back with what was said"({ open }) {
    const folder = mkdtempSync(pathOf(tmpdir(), "corelay-playground-"));
    let relay = await Relay.start({}, { folder });
    const places = { folder, port: relay.port, adminPort: Number(new URL(relay.url).port) };
    try {
      const [ann, ben] = [await open({ name: "Ann", origin: relay.url, expectFailures: true }), await open({ name: "Ben", origin: relay.url, expectFailures: true })];
      for (const page of [ann, ben]) await enter(page, "restart");
      await say(ann, "before the end");
      await said(ben, ["before the end"]);
      for (const signal of ["SIGKILL", "SIGTERM"]) {
        await relay.stop(signal);
        await becomes(ann, "the loss", () => chatOf(ann), ({ state }) => state === "waiting");
        await say(ann, `after ${signal}`);
        relay = await Relay.start({}, places);
        for (const page of [ann, ben]) await becomes(page, "the page back", () => chatOf(page), ({ state }) => state === "joined", 20_000);
        await becomes(ben, "the message", () => bodiesOf(ben), (bodies) => bodies.at(-1) === `after ${signal}`);
      }
      for (const page of [ann, ben]) await said(page, ["before the end", "after SIGKILL", "after SIGTERM"]);
    } finally {
      await relay.stop();
      rmSync(folder, { recursive: true });
    }
  },

  async "room: a relay that kept nothing is another room, and what waits is said there"({ open }) {
    let relay = await Relay.start();
    const places = { port: relay.port, adminPort: Number(new URL(relay.url).port) };
    try {
      const ann = await open({ name: "Ann", origin: relay.url, expectFailures: true });
      await enter(ann, "forgetful");
      await say(ann, "forgotten");
      await said(ann, ["forgotten"]);
      await relay.stop("SIGKILL");
      await becomes(ann, "the loss", () => chatOf(ann), ({ state }) => state === "waiting");
      await say(ann, "remembered");
      relay = await Relay.start({}, places);
      await said(ann, ["remembered"]);
      await becomes(ann, "why", () => ann.locator('#log [data-kind="notice"]').allInnerTexts(), (texts) => texts.some((text) => /not known \(epoch\)/.test(text)));
    } finally {
      await relay.stop();
    }
  },

  async "room: of a crowd it is told how many there are"({ open }) {
    const relay = await Relay.start({ CORELAY_PRESENCE_LIST_MAX: "2" });
    try {
      const pages = [];
      for (const name of ["Ann", "Ben", "Cem"]) {
        pages.push(await open({ name, origin: relay.url }));
        await enter(pages.at(-1), "crowd");
      }
      for (const page of pages) {
        await becomes(page, "the number", () => page.locator("#chat-count").innerText(), (text) => text === "3 here");
        await becomes(page, "no names", () => page.locator("#chat-members").innerText(), (text) => text === "A crowd: the room says how many, no longer who.");
      }
      await say(pages[0], "hello crowd");
      await said(pages[2], ["hello crowd"]);
      for (const page of pages.slice(1)) await page.getByRole("button", { name: "Leave room" }).click();
      await becomes(pages[0], "the list again", () => membersOf(pages[0]), (names) => String(names) === "Ann");
    } finally {
      await relay.stop();
    }
  },

  async "room: old messages are read page by page, and what is too much is said with its time"({ open }) {
    const folder = mkdtempSync(pathOf(tmpdir(), "corelay-playground-"));
    const config = pathOf(folder, "corelay.toml");
    writeFileSync(config, '[[room]]\npattern = "long"\nmessages_per_minute = 1000\n');
    const relay = await Relay.start({ CORELAY_CONFIG: config }, { folder });
    try {
      const ann = await open({ name: "Ann", origin: relay.url });
      await enter(ann, "long");
      const texts = Array.from({ length: 130 }, (_, index) => `message ${index + 1}`);
      for (const text of texts) await say(ann, text);
      await said(ann, texts);
      const ben = await open({ name: "Ben", origin: relay.url });
      await enter(ben, "long");
      await said(ben, texts.slice(-50));
      for (const count of [100, 130]) {
        await ben.getByRole("button", { name: "Older messages" }).click();
        await said(ben, texts.slice(-count));
      }
      await becomes(ben, "no more", () => ben.getByRole("button", { name: "Older messages" }).isVisible(), (is) => !is);
      await ben.getByRole("button", { name: "Newest" }).click();
      await ben.getByRole("button", { name: "Leave room" }).click();

      await enter(ben, "short");
      for (const text of texts.slice(0, 11)) await say(ben, text);
      const fate = await becomes(ben, "a refusal", () => ben.locator(".refused .fate").innerText(), Boolean);
      await becomes(ben, "its time", () => ben.locator(".refused .fate").innerText(), (text) => /^Refused: too much within a short time\. Again in \d+ s\./.test(text));
      assert(fate);
      await screenshots(ben, "room-refused");
      await ben.getByRole("button", { name: "Discard" }).click();
      await said(ben, texts.slice(0, 10));
      await choose(ben, "message 10", "Edit");
      await ben.getByRole("textbox", { name: /^Edit message/ }).fill("another one");
      await ben.keyboard.press("Enter");
      await becomes(ben, "a refusal", () => ben.locator("#chat-note-text").innerText(), (text) => /^The edit was refused: too much within a short time\. Try again in \d+ s\.$/.test(text));
      await say(ben, "x".repeat(5000));
      await becomes(ben, "a fault of the field", () => ben.locator(".refused .fate").innerText(), (text) => text.startsWith("Refused: the message is longer than 4096 bytes."));
    } finally {
      await relay.stop();
      rmSync(folder, { recursive: true });
    }
  },

  async "room: a moderator mutes, deletes and bans"({ open }) {
    const folder = mkdtempSync(pathOf(tmpdir(), "corelay-playground-"));
    const key = pathOf(folder, "corelay.key");
    writeFileSync(key, "a key of at least thirty-two bytes, for tests");
    const relay = await Relay.start({ CORELAY_JWT_KEY_FILE: key, CORELAY_ALLOWED_ORIGINS: "*" });
    try {
      const page = async (sub, flags) => {
        const opened = await open({ name: "x", origin: relay.url });
        await opened.getByText("Relay and token").click();
        await opened.fill("#token", mint(key, { sub, name: sub, topics: "room:court", flags }));
        return opened;
      };
      const [judge, troll] = [await page("Judge", ["--moderator"]), await page("Troll", [])];
      await troll.fill("#chat-room", "elsewhere");
      await troll.getByRole("button", { name: "Join room" }).click();
      await noted(troll, /^The room refuses you\. No token grants it\./);
      await becomes(troll, "no state of a room", () => troll.locator("#chat-state").innerText(), (text) => text === "");
      for (const each of [judge, troll]) await enter(each, "court");
      await say(troll, "spam");
      await said(judge, ["spam"]);
      await choose(judge, "spam", "Delete");
      await said(troll, ["Message deleted"]);

      await say(troll, "more spam");
      await said(judge, ["Message deleted", "more spam"]);
      await choose(judge, "more spam", "Mute for 10 min");
      await noted(judge, /^Troll is muted for 10 min\.$/);
      await say(troll, "can you hear me?");
      await becomes(troll, "why not", () => troll.locator(".refused .fate").innerText(), (text) => /^Refused: a moderator has muted you, for (10 min|\d+ s) more\./.test(text));
      await act(judge, "Unmute");
      await noted(judge, /^Troll may speak again\.$/);
      await troll.getByRole("button", { name: "Send again" }).click();
      await said(judge, ["Message deleted", "more spam", "can you hear me?"]);
      await judge.getByRole("button", { name: "Troll", exact: true }).click();
      await screenshots(judge, "room-moderator");
      await judge.keyboard.press("Escape");

      await act(judge, "Ban for 1 h");
      await noted(troll, /^You are out of the room\. A moderator has banned you/);
      await becomes(judge, "the judge alone", () => membersOf(judge), (names) => String(names) === "Judge");
      await troll.getByRole("button", { name: "Join room" }).click();
      await noted(troll, /^The room refuses you\. A moderator has banned you from this room, for \d+ (min|h) more\./);
      await choose(judge, "more spam", "Unban");
      await enter(troll, "court");
      await said(troll, ["Message deleted", "more spam", "can you hear me?"]);
    } finally {
      await relay.stop();
      rmSync(folder, { recursive: true });
    }
  },

  async "room: it fits a phone, and its controls have names"({ open }) {
    const page = await open({ name: "Ann", touch: true });
    await page.setViewportSize(PHONE);
    await page.locator("label:has(input[value=chat])").click();
    await enter(page, "phone");
    await say(page, "x".repeat(400));
    await becomes(page, "the message", () => bodiesOf(page), ({ length }) => length === 1);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll("input, select, textarea, button, a[href]")]
        .filter((control) => !control.labels?.length && !control.innerText.trim() && !control.ariaLabel && !control.getAttribute("aria-labelledby"))
        .filter((control) => control.checkVisibility())
        .map((control) => control.outerHTML));
    assert.deepEqual(nameless, []);
    await page.locator("label:has(input[value=game])").click();
    assert.equal(await page.locator("#chat-panel").isVisible(), false);
  },
};

// ---------------------------------------------------------------------------------------------------- what they look at

async function enter(page, room) {
  await page.fill("#chat-room", room);
  await page.getByRole("button", { name: "Join room" }).click();
  await becomes(page, `in room ${room}`, () => chatOf(page), (chat) => chat?.state === "joined");
}

async function say(page, text) {
  await page.fill("#chat-text", text);
  await page.locator("#chat-text").press("Enter");
}

/** From now on the page's clock says that it was loaded just now. */
const makeYoung = (page) =>
  page.evaluate(() => {
    const [now, start] = [performance.now.bind(performance), performance.now()];
    performance.now = () => now() - start;
  });

/** Opens the menu of a message, and chooses from it. */
async function choose(page, body, item) {
  const row = page.locator("#chat-list .message").filter({ hasText: body });
  await row.hover();
  await row.getByRole("button", { name: /^Actions/ }).click();
  await page.getByRole("menuitem", { name: item, exact: true }).click();
}

/** The same by the member's name. */
async function act(page, item) {
  await page.getByRole("button", { name: "Troll", exact: true }).click();
  await page.getByRole("menuitem", { name: item, exact: true }).click();
}

const chatOf = (page) => page.evaluate(() => playground.chat());
const bodiesOf = (page) => page.locator("#chat-list .message:not(.pending)").evaluateAll((rows) => rows.map((row) => (row.querySelector(".words") ?? row).textContent));
const membersOf = (page) => page.locator("#chat-members .name").evaluateAll((names) => names.map((name) => name.textContent).sort());
const said = (page, bodies) => becomes(page, `the messages ${bodies.slice(-5)}`, () => bodiesOf(page), (seen) => JSON.stringify(seen) === JSON.stringify(bodies));
const noted = (page, pattern) => becomes(page, String(pattern), () => page.locator("#chat-note-text").textContent(), (text) => pattern.test(text));
