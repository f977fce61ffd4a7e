// The picture of the README, docs/playground.png: two who play, talk and write. It is left beside the other screenshots; copy it.

import { ARTIFACTS, becomes } from "./harness.mjs";

/** As large as makes room for all panels; as a file it is 1280 × 800. */
const VIEWPORT = { width: 1600, height: 1000 };
const SCALE = 0.8;
const PATIENCE_MS = 20_000;
const TALK = [["Ann", "Shall we write the patch notes before the match?"], ["Ben", "Open “notes”, I have begun."], ["Ann", "There already."]];

export const pictures = {
  async "picture: two who play, talk and write"({ open }) {
    const giveUp = Date.now() + PATIENCE_MS;
    const ann = await open({ name: "Ann", user: "ann", viewport: VIEWPORT, scale: SCALE });
    const ben = await open({ name: "Ben", user: "ben", viewport: VIEWPORT });
    const pages = { Ann: ann, Ben: ben };
    for (const page of [ann, ben]) {
      await page.fill("#game", "arena");
      await page.getByRole("button", { name: "Join", exact: true }).click();
      await becomes(page, "joined", () => page.evaluate(() => playground.state()), (state) => state === "joined");
      await page.fill("#chat-room", "arena");
      await page.getByRole("button", { name: "Join room" }).click();
      await becomes(page, "in the room", () => page.evaluate(() => playground.chat()?.state), (state) => state === "joined");
      await page.fill("#text-doc", "notes");
      await page.getByRole("button", { name: "Open document" }).click();
      await becomes(page, "in the document", () => page.evaluate(() => playground.text()?.state), (state) => state === "live");
    }
    await dragTo(ann, 0.3, 0.62);
    for (const [index, [name, text]] of TALK.entries()) {
      await pages[name].fill("#chat-text", text);
      await pages[name].locator("#chat-text").press("Enter");
      for (const page of [ann, ben]) await becomes(page, text, () => page.locator("#chat-list .message:not(.pending)").count(), (count) => count === index + 1);
    }
    await ben.locator("#text-area").pressSequentially("# Patch notes\n\n* Crabs walk sideways now.\n* Rooms keep what was said.\n* ");
    await becomes(ann, "the notes", () => ann.inputValue("#text-area"), (text) => text.endsWith("* "));
    await ann.locator("#text-area").focus();
    await ann.keyboard.press("Control+End");
    await ann.keyboard.insertText("Two may write one text.");
    await becomes(ben, "the last line", () => ben.inputValue("#text-area"), (text) => text.endsWith("text."));
    await ann.locator("#text-area").blur();
    // Until the meters have something to show, and not what else this machine does.
    const latency = async () => {
      for (const place of [[0.8, 0.8], [0.3, 0.2], [0.7, 0.3], [0.4, 0.5], [0.68, 0.34]]) await dragTo(ben, ...place);
      return Number(await ann.locator("#latency").innerText());
    };
    await becomes(ann, "a low latency", latency, (ms) => ms < 5 || Date.now() > giveUp, 2 * PATIENCE_MS);
    await ben.locator("#text-area").evaluate((area) => {
      area.focus();
      area.setSelectionRange(17, 22);
    });
    await becomes(ann, "Ben's selection", () => ann.locator("#text-layer .cover").count(), (count) => count === 1);
    await ann.screenshot({ path: `${ARTIFACTS}/playground.png` });
  },
};

async function dragTo(page, partX, partY) {
  const box = await page.locator("#stage").boundingBox();
  const [x, y] = [box.x + box.width * partX, box.y + box.height * partY];
  await page.mouse.move(x, y);
  await page.mouse.down();
  await page.waitForTimeout(1500);
  await page.mouse.up();
}
