// The document's panel: two pages edit one text, see each other in it, lose connections and relays, and lose no edit.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as pathOf } from "node:path";

import { DESKTOP, PHONE, Relay, becomes, cuttable, mint, screenshots } from "./harness.mjs";

const HTML = `<b id="bold">bold</b><img src=x onerror="document.title='hacked'">`;
const LONG_MS = 30_000;

export const testsOfTexts = {
  async "text: two type at once, at one place and elsewhere, and end with one text"({ open }) {
    const [ann, ben] = await both(open, "together");
    await type(ann, "start 🦀\n\nend 👩🏽‍🚀");
    await same([ann, ben], "start 🦀\n\nend 👩🏽‍🚀");
    // Both between the lines; their letters are in the order in which they came.
    await Promise.all([caretTo(ann, 9), caretTo(ben, 9)]);
    await Promise.all([type(ann, "aé🦀a漢a"), type(ben, "bb👩🏽‍🚀bß")]);
    let text = await same([ann, ben]);
    assert.equal(sorted(text), sorted("start 🦀\n\nend 👩🏽‍🚀aé🦀a漢abb👩🏽‍🚀bß"));
    // One at the begin, one pastes at the end what does not fit into one message.
    const long = "🦀 pasted line\n".repeat(6000);
    await Promise.all([caretTo(ann, 0), caretTo(ben, text.length)]);
    await Promise.all([type(ann, "Begin. "), paste(ben, long)]);
    text = await same([ann, ben], `Begin. ${text}${long}`, LONG_MS);
    const { version } = await textOf(ann);
    assert.equal(await ann.locator("#text-version").innerText(), `version ${version} · saved`);
    const typed = async () => {
      await ann.keyboard.type(".");
      return ben.locator("#text-typing").innerText();
    };
    await becomes(ben, "Ann types", typed, (line) => line === "Ann is typing");
    await becomes(ben, "nobody types", () => ben.locator("#text-typing").innerText(), (line) => line === "");
    assert.deepEqual(await ann.locator("#text-members .name").allInnerTexts().then((names) => names.sort()), ["Ann", "Ben"]);

    await ben.getByRole("button", { name: "Leave document" }).click();
    await becomes(ann, "Ann alone", () => ann.locator("#text-members .name").allInnerTexts(), (names) => String(names) === "Ann");
    await enter(ben, "together");
    await same([ann, ben]);
  },

  async "text: others' cursors and selections stand where they are in the text"({ open }) {
    const [ann, ben] = await both(open, "cursors");
    const lines = Array.from({ length: 60 }, (_, index) => `${index}\t🦀 ${"words that wrap, ".repeat(index % 7)}e\u0301nd`);
    const text = lines.join("\n");
    await paste(ben, text);
    await same([ann, ben], text);
    const places = [0, 3, text.indexOf("wrap, words", 300), text.indexOf("\n", 500), text.indexOf("\n", 500) + 1, text.length];
    const checkAll = async (what) => {
      for (const place of places) {
        await caretTo(ben, place);
        await stands(ann, "Ben", place, `${what}, at ${place}`);
      }
    };
    await checkAll("at first");
    await scrollTo(ann, 400);
    await checkAll("scrolled");
    await ann.setViewportSize({ width: 700, height: 800 });
    await ann.locator("label:has(input[value=text])").click();
    await checkAll("at another width");
    await ann.setViewportSize(DESKTOP);
    await ann.locator("label:has(input[value=text])").click();

    // The cursor goes with the text, and so does a selection.
    await caretTo(ben, places[3]);
    await caretTo(ann, 0);
    await type(ann, "in front\n\n");
    await stands(ann, "Ben", places[3] + 10, "behind what Ann wrote");
    await scrollTo(ann, 0);
    await select(ben, 12, 40);
    await becomes(ann, "a selection", () => covered(ann), (rects) => rects.length > 1);
    const rects = await covered(ann);
    const [first, last] = await Promise.all([placeOf(ann, 12), placeOf(ann, 40)]);
    near(rects[0].left, first.left, "where it begins");
    near(rects[0].top, first.top, "the line where it begins");
    near(rects.at(-1).left + rects.at(-1).width, last.left, "where it ends");
    assert.equal(await ann.locator("#text-layer .flag").innerText(), "Ben");
    // In the colour of the user, and each in another one.
    const hues = await ann.locator("#text-members .swatch").evaluateAll((swatches) => swatches.map((swatch) => swatch.style.getPropertyValue("--hue")));
    assert.equal(new Set(hues).size, 2);
    assert(hues.includes(await ann.locator("#text-layer .caret").evaluate((caret) => caret.style.getPropertyValue("--hue"))));
    await screenshots(ann, "text");
    await ben.getByRole("button", { name: "Leave document" }).click();
    await becomes(ann, "no cursor", () => ann.locator("#text-layer .caret, #text-layer .cover").count(), (count) => count === 0);
  },

  async "text: undo takes back the own edits only"({ open }) {
    const [ann, ben] = await both(open, "undo");
    assert.deepEqual(await steps(ann), [false, false]);
    await ann.keyboard.insertText("Ann's words. ");
    await same([ann, ben], "Ann's words. ");
    await caretTo(ben, 0);
    await ben.keyboard.insertText("Ben's words. ");
    await same([ann, ben], "Ben's words. Ann's words. ");
    assert.deepEqual(await steps(ann), [true, false]);
    await ann.getByRole("button", { name: "Undo" }).click();
    await same([ann, ben], "Ben's words. ");
    await becomes(ann, "redo only", () => steps(ann), (can) => String(can) === "false,true");
    await ann.locator("#text-area").press("Control+y");
    await same([ann, ben], "Ben's words. Ann's words. ");
    await ann.locator("#text-area").press("Control+z");
    await same([ann, ben], "Ben's words. ");
    await ben.locator("#text-area").press("Control+z");
    await same([ann, ben], "");
  },

  async "text: a connection that is cut while both type loses nothing"({ relay, open }) {
    const wire = await cuttable(relay.port);
    try {
      const [ann, ben] = await both(open, "cut", { relay: `ws://127.0.0.1:${wire.port}` });
      const typing = Promise.all([type(ann, "one two three four five six seven ", 20), type(ben, "ONE TWO THREE FOUR FIVE SIX SEVEN ", 20)]);
      await becomes(ann, "typing", () => textOf(ann), ({ version }) => version > 3);
      wire.cut();
      await becomes(ann, "the loss", () => ann.locator("#text-state").innerText(), (line) => /^Connection lost\. Trying again( in \d+ s\.|…)$/.test(line));
      await typing;
      await caretTo(ann, 0);
      for (const word of ["while", "away"]) await ann.keyboard.insertText(`${word} `);
      await becomes(ann, "what is not saved", () => ann.locator("#text-version").innerText(), (line) => /^version \d+ · \d+ edits unsaved$/.test(line));
      await caretTo(ben, (await textOf(ben)).text.length);
      await ben.keyboard.insertText("meanwhile");
      await screenshots(ann, "text-waiting");
      wire.mend();
      const text = await same([ann, ben], null, LONG_MS);
      assert.equal(sorted(text), sorted("one two three four five six seven ONE TWO THREE FOUR FIVE SIX SEVEN while away meanwhile"));
      assert.match(text, /^while away .*meanwhile/s);
      await becomes(ann, "no trouble any more", () => ann.locator("#text-state").innerText(), (line) => line === "");
    } finally {
      wire.close();
    }
  },

  async "text: a relay that is killed, or drains, comes back with every edit"({ open }) {
    const folder = mkdtempSync(pathOf(tmpdir(), "corelay-playground-"));
    let relay = await Relay.start({}, { folder });
    const places = { folder, port: relay.port, adminPort: Number(new URL(relay.url).port) };
    try {
      const [ann, ben] = await both(open, "restart", { origin: relay.url, expectFailures: true });
      let expected = "";
      for (const signal of ["SIGKILL", "SIGTERM"]) {
        const words = [`ann before and after ${signal} `, `BEN BEFORE AND AFTER ${signal} `];
        expected += words.join("");
        const { version: before } = await textOf(ann);
        const typing = Promise.all([ann, ben].map((page, index) => type(page, words[index], 20)));
        await becomes(ann, "typing", () => textOf(ann), ({ version }) => version > before + 3);
        await relay.stop(signal);
        await typing;
        await becomes(ann, "the loss", () => textOf(ann), ({ state }) => state === "waiting");
        relay = await Relay.start({}, places);
        const text = await same([ann, ben], null, LONG_MS);
        assert.equal(sorted(text), sorted(expected));
      }
      await becomes(ann, "why it was lost", () => ann.locator('#log [data-kind="notice"]').allInnerTexts(), (texts) => texts.some((line) => /document: the relay drains/.test(line)));
    } finally {
      await relay.stop();
      rmSync(folder, { recursive: true });
    }
  },

  async "text: of a relay that kept nothing both texts are shown"({ open }) {
    let relay = await Relay.start();
    const places = { port: relay.port, adminPort: Number(new URL(relay.url).port) };
    try {
      const [ann, ben] = await both(open, "forgotten", { origin: relay.url, expectFailures: true });
      await ann.keyboard.insertText("What was here before. ");
      await same([ann, ben], "What was here before. ");
      await relay.stop("SIGKILL");
      await becomes(ann, "the loss", () => textOf(ann), ({ state }) => state === "waiting");
      await ann.keyboard.insertText(HTML);
      relay = await Relay.start({}, places);
      await conflict(ann, `What was here before. ${HTML}`, "");
      assert.equal(await ann.locator("#bold, #text-panel img").count(), 0);
      await becomes(ann, "live again", () => textOf(ann), ({ state }) => state === "live");
      // Who had nothing unsaved has lost nothing of its own, and is told nothing.
      await becomes(ben, "Ben live", () => textOf(ben), ({ state, text }) => state === "live" && text === "", LONG_MS);
      assert.equal(await ben.locator("#text-kept").isVisible(), false);
      await screenshots(ann, "text-conflict");
      await ann.getByRole("button", { name: "Copy mine" }).click();
      await becomes(ann, "an answer", () => ann.locator("#text-copy").innerText(), (text) => /Copied|Ctrl/.test(text));
      await ann.locator("#text-kept").getByRole("button", { name: "Dismiss" }).click();
      assert.equal(await ann.locator("#text-kept").isVisible(), false);
      assert.equal(await ann.locator("#text-badge").isVisible(), false);
    } finally {
      await relay.stop();
    }
  },

  async "text: of edits that were away for longer than the relay keeps edits both texts are shown"({ open }) {
    const much = String(2 ** 30);
    const relay = await Relay.start({ CORELAY_RATES_BYTES_PER_S: much, CORELAY_RATES_BYTES_BURST: much, CORELAY_RATES_OPERATION_BURST: "1000" });
    const wire = await cuttable(relay.port);
    try {
      const [ann, ben] = await both(open, "old", { origin: relay.url, expectFailures: true, relay: `ws://127.0.0.1:${wire.port}` });
      await ann.keyboard.insertText("Hello. ");
      await same([ann, ben], "Hello. ");
      wire.cut();
      await becomes(ann, "the loss", () => textOf(ann), ({ state }) => state === "waiting");
      await ann.keyboard.insertText("Written far away.");
      await churn(ben, "old", 5 * 2 ** 20);
      wire.mend();
      const { text } = await textOf(ben);
      assert.equal(text, "Hello. !");
      await conflict(ann, "Hello. Written far away.", text);
      await same([ann, ben], text);
    } finally {
      wire.close();
      await relay.stop();
    }
  },

  async "text: who leaves before all is saved keeps the text, and what does not fit is refused"({ relay, open }) {
    const wire = await cuttable(relay.port);
    try {
      const ann = await open({ name: "Ann", relay: `ws://127.0.0.1:${wire.port}` });
      await enter(ann, "unsaved");
      await ann.keyboard.insertText("saved, ");
      await same([ann], "saved, ");
      await paste(ann, `too long: ${"x".repeat(262_144)}`);
      await noted(ann, /^An edit was refused and taken back: the text would have more than 262144 bytes\. It had “too long: x{50}…”\.$/);
      await same([ann], "saved, ");
      wire.cut();
      await becomes(ann, "the loss", () => textOf(ann), ({ state }) => state === "waiting");
      await ann.keyboard.insertText("not saved");
      await ann.getByRole("button", { name: "Leave document" }).click();
      await becomes(ann, "what was not saved", () => ann.locator("#text-mine").inputValue(), (text) => text === "saved, not saved");
      assert.match(await ann.locator("#text-kept-why").innerText(), /^You left while this had not been saved\./);
      assert.equal(await ann.locator("#text-theirs").isVisible(), false);
    } finally {
      wire.close();
    }
  },

  async "text: over a rate limit it is said when the rest is sent, and all of it is"({ open }) {
    const relay = await Relay.start({ CORELAY_RATES_OPERATION_PER_S: "1", CORELAY_RATES_OPERATION_BURST: "2" });
    try {
      const [ann, ben] = await both(open, "limited", { origin: relay.url });
      let count = 0;
      const typed = async () => {
        await ann.keyboard.type(String(count++ % 10));
        return ann.locator("#text-state").innerText();
      };
      await becomes(ann, "the limit", typed, (line) => /^Too much within a short time; the rest is sent in \d+ s\.$/.test(line));
      await same([ann, ben], Array.from({ length: count }, (_, index) => index % 10).join(""), LONG_MS);
    } finally {
      await relay.stop();
    }
  },

  async "text: a token for reading reads, one without documents is refused, and so are documents that do not exist"({ open }) {
    const folder = mkdtempSync(pathOf(tmpdir(), "corelay-playground-"));
    const key = pathOf(folder, "corelay.key");
    writeFileSync(key, "a key of at least thirty-two bytes, for tests");
    const config = pathOf(folder, "corelay.toml");
    writeFileSync(config, '[[doc]]\npattern = "made-*"\ncreate = false\n');
    const relay = await Relay.start({ CORELAY_CONFIG: config, CORELAY_JWT_KEY_FILE: key, CORELAY_ALLOWED_ORIGINS: "*" });
    try {
      const page = async (sub, topics) => {
        const opened = await open({ name: "x", origin: relay.url });
        await opened.getByText("Relay and token").click();
        await opened.fill("#token", mint(key, { sub, name: `<i>${sub}</i>`, topics }));
        return opened;
      };
      const [writer, reader, nobody] = [await page("Writer", "doc:*"), await page("Reader", "doc:*:read"), await page("Nobody", "game:*")];
      await enter(writer, "law");
      await writer.keyboard.insertText(HTML);
      await enter(reader, "law");
      await same([writer, reader], HTML);
      await becomes(reader, "that it is for reading", () => reader.locator("#text-state").innerText(), (line) => /^You may read this document, not edit it/.test(line));
      assert.equal(await reader.locator("#text-area").evaluate((area) => area.readOnly), true);
      assert.equal(await reader.getByRole("button", { name: "Undo" }).isVisible(), false);
      assert.match(await reader.locator("#text-version").innerText(), /^version 1$/);
      await caretTo(writer, 5);
      await stands(reader, "<i>Writer</i>", 5, "the writer's cursor");
      assert.equal(await reader.locator("#bold, #text-panel img, #text-panel i").count(), 0);
      assert.notEqual(await reader.title(), "hacked");

      await ask(nobody, "law");
      await noted(nobody, /^The document is not opened\. No token grants it\. Mint one with/);
      await becomes(nobody, "the form", () => nobody.getByRole("button", { name: "Open document" }).isVisible(), Boolean);
      await writer.getByRole("button", { name: "Leave document" }).click();
      await ask(writer, "made-by-nobody");
      await noted(writer, /^The document is not opened\. There is no such document, and on this relay none begins by being opened/);
      await ask(writer, "no name");
      await noted(writer, /^The document is not opened\. A document's name has 1 to 64 of/);
    } finally {
      await relay.stop();
      rmSync(folder, { recursive: true });
    }
  },

  async "text: of a relay that is not there it is said, with what to do"({ open }) {
    const page = await open({ name: "Ann", relay: "ws://127.0.0.1:1", expectFailures: true });
    await ask(page, "nowhere");
    await noted(page, /^Nothing answers there\. No connection to ws:\/\/127\.0\.0\.1:1/);
  },

  async "text: it fits a phone, and its controls have names"({ open }) {
    const page = await open({ name: "Ann", touch: true });
    await page.setViewportSize(PHONE);
    await enter(page, "phone");
    await page.locator("#text-area").focus();
    await page.keyboard.insertText("wide".repeat(100));
    await same([page], "wide".repeat(100));
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
    assert.equal(await page.locator("#text-area").evaluate((area) => area.scrollWidth - area.clientWidth), 0);
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll("input, select, textarea, button, a[href]")]
        .filter((control) => !control.labels?.length && !control.innerText.trim() && !control.ariaLabel && !control.getAttribute("aria-labelledby"))
        .filter((control) => control.checkVisibility())
        .map((control) => control.outerHTML));
    assert.deepEqual(nameless, []);
    for (const [side, shown] of [["game", "#roster-title"], ["chat", "#chat-title"], ["text", "#text-title"]]) {
      await page.locator(`label:has(input[value=${side}])`).click();
      for (const title of ["#roster-title", "#chat-title", "#text-title"]) assert.equal(await page.locator(title).isVisible(), title === shown, `${title} at ${side}`);
    }
    // Wider, the game's panel is always there.
    await page.locator("label:has(input[value=game])").click();
    await page.setViewportSize(DESKTOP);
    await becomes(page, "game and chat", () => page.locator("#chat-title").isVisible(), Boolean);
    assert.equal(await page.locator("#roster-title").isVisible(), true);
    await page.setViewportSize({ width: 1700, height: 900 });
    for (const title of ["#roster-title", "#chat-title", "#text-title"]) assert.equal(await page.locator(title).isVisible(), true, `${title} where there is room`);
  },
};

// ---------------------------------------------------------------------------------------------------------- what they do

async function both(open, name, { relay, ...options } = {}) {
  const pages = [await open({ name: "Ann", relay, ...options }), await open({ name: "Ben", ...options })];
  for (const page of pages) await enter(page, name);
  for (const page of pages) await becomes(page, "both here", () => page.locator("#text-members .name").count(), (count) => count === 2);
  return pages;
}

async function ask(page, name) {
  await page.locator("label:has(input[value=text])").click();
  await page.fill("#text-doc", name);
  await page.getByRole("button", { name: "Open document" }).click();
}

async function enter(page, name) {
  await ask(page, name);
  await becomes(page, `in document ${name}`, () => textOf(page), (text) => text?.state === "live");
  await page.locator("#text-area").focus();
}

/** Letter for letter, where the caret is. */
const type = (page, text, delay = 0) => page.locator("#text-area").pressSequentially(text, { delay, timeout: LONG_MS });

/** Chromium takes minutes to insert many lines for a test; when a user pastes, this is what the page sees. */
const paste = (page, text) =>
  page.locator("#text-area").evaluate((area, pasted) => {
    area.setRangeText(pasted, area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new InputEvent("input", { inputType: "insertFromPaste", bubbles: true }));
  }, text);

const select = (page, start, end, direction = "forward") =>
  page.locator("#text-area").evaluate((area, range) => {
    area.focus();
    area.setSelectionRange(...range);
  }, [start, end, direction]);
const caretTo = (page, index) => select(page, index, index);

const scrollTo = (page, top) => page.locator("#text-area").evaluate((area, to) => (area.scrollTop = to), top);

/** Another member writes so many bytes, and all but a "!" away again. */
const churn = (page, name, bytes) =>
  page.evaluate(async ([doc, total]) => {
    const [{ SharedDocument }, { Socket }] = await Promise.all([import("/playground/documents.mjs"), import("/playground/phoenix.mjs")]);
    const socket = new Socket(`${document.getElementById("relay").value}/socket`, { params: { user: "churn" } });
    const shared = new SharedDocument(socket, doc, {});
    socket.connect();
    const until = async (isSo) => {
      while (!isSo()) await new Promise((done) => setTimeout(done, 5));
    };
    await until(() => shared.state === "live");
    const end = [...shared.text].length;
    shared.insert(end, "!");
    for (let written = 0; written < total; written += 45_000) {
      shared.insert(end, "x".repeat(45_000));
      await until(() => !shared.pending);
      shared.delete(end, 45_000);
      await until(() => !shared.pending);
    }
    shared.leave();
    socket.disconnect();
  }, [name, bytes]);

// ---------------------------------------------------------------------------------------------------- what they look at

const textOf = (page) => page.evaluate(() => playground.text());
const steps = (page) => page.locator("#text-undo, #text-redo").evaluateAll((buttons) => buttons.map(({ disabled }) => !disabled));
const noted = (page, pattern) => becomes(page, String(pattern), () => page.locator("#text-note-text").textContent(), (text) => pattern.test(text));
const sorted = (text) => [...text].sort().join("");

/** Waits until all of it is saved, and everybody has the same text, which is returned: `expected`, if that is not null. */
async function same(pages, expected = null, waitMs = undefined) {
  const look = () => Promise.all(pages.map(async (page) => ({ ...(await textOf(page)), shown: await page.inputValue("#text-area") })));
  const [first] = await becomes(
    pages[0],
    expected === null ? "the same text" : `the text ${JSON.stringify(expected.slice(0, 80))}`,
    look,
    (seen) => seen.every(({ state, pendingEdits, text, shown, version }) =>
      state === "live" && pendingEdits === 0 && version === seen[0].version && text === shown && text === (expected ?? seen[0].text)),
    waitMs,
  );
  return first.text;
}

async function conflict(page, mine, theirs) {
  await becomes(page, "the conflict", () => page.locator("#text-kept").isVisible(), Boolean, LONG_MS);
  assert.deepEqual([await page.inputValue("#text-mine"), await page.inputValue("#text-theirs")], [mine, theirs]);
  assert.equal(await page.locator("#text-badge").isVisible(), true);
}

/** Where a character of the text is on the page, measured by a copy of the text area in one piece. */
const placeOf = (page, index) =>
  page.locator("#text-area").evaluate((area, at) => {
    const copy = document.createElement("div");
    const style = getComputedStyle(area);
    for (const key of ["font", "letterSpacing", "padding", "tabSize", "whiteSpace", "overflowWrap", "boxSizing"]) copy.style[key] = style[key];
    Object.assign(copy.style, { position: "absolute", left: "0", top: "0", width: `${area.clientWidth}px` });
    copy.textContent = `${area.value}\n\n`;
    document.body.append(copy);
    const range = document.createRange();
    range.setStart(copy.firstChild, at);
    range.setEnd(copy.firstChild, at + 1);
    const [rect, box, outer] = [range.getClientRects()[0], copy.getBoundingClientRect(), area.getBoundingClientRect()];
    const heights = [copy.offsetHeight - parseFloat(style.lineHeight), Math.max(area.scrollHeight, area.clientHeight)];
    copy.remove();
    return { left: rect.left - box.left + outer.left, top: rect.top - box.top + outer.top - area.scrollTop, heights };
  }, index);

/** A member's caret is at this place of the text, once it has come. */
async function stands(page, name, index, what) {
  const look = async () => {
    const caret = page.locator("#text-layer .caret").filter({ hasText: name });
    const rect = (await caret.count()) === 1 ? await caret.evaluate((node) => node.getBoundingClientRect().toJSON()) : null;
    return { rect, place: await placeOf(page, index) };
  };
  const isThere = ({ rect, place }) => rect !== null && Math.abs(rect.left + 1 - place.left) < 1.5 && Math.abs(rect.top - place.top) < 1.5;
  const { place } = await becomes(page, `${name}'s caret ${what}`, look, isThere);
  // The measure itself is right: it wraps as the text area does.
  if (place.heights[0] > 1000) near(...place.heights, "the height of the text");
}

const covered = (page) => page.locator("#text-layer .cover").evaluateAll((covers) => covers.map((cover) => cover.getBoundingClientRect().toJSON()));

function near(seen, expected, what) {
  assert(Math.abs(seen - expected) < 1.5, `${what}: ${seen}, and not ${expected}`);
}
