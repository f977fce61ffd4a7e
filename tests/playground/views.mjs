// Games of other layouts than the plain one, and games in which players are told of what is near them.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as pathOf } from "node:path";

import { ARTIFACTS, Relay, becomes, screenshots } from "./harness.mjs";

const GAMES = `
[[game]]
pattern = "island-*"
bounds = [0, 0, 240, 240]
state = { number = "u16", pose_bytes = 1 }
view = { cell = 20, radius = 2, radius_max = 4, overview_hz = 5 }

[[game]]
pattern = "hills-*"
bounds = [0, 0, 0, 100, 100, 60]
state = { axes = 3, pose_bytes = 4 }

[[game]]
pattern = "plain-*"
bounds = [-500, -500, 500, 500]
`;
/** The relay lists nobody of two. */
const CROWD = `presence = { list_max = 1 }
${GAMES}`;
/** A player crosses most of the map on its way. */
const WALK_MS = 20_000;
const WEST = 128;

export const testsOfViews = {
  async "views: who walks out of view is gone, and is seen again nearer, or with a larger view"({ open, dialect }) {
    await withGames(async (relay) => {
      const [ann, ben] = await both(open, relay, dialect, "island");
      await Promise.all([walkTo(ann, { x: 10, y: 10 }), walkTo(ben, { x: 15, y: 10 })]);
      await becomes(ann, "Ben beside Ann", () => seen(ann, "Ben"), Boolean);
      await figuresSay(ann, /Known 2 of 2 players/);

      await walkTo(ben, { x: 82, y: 10 });
      await becomes(ann, "Ben out of view", () => seen(ann, "Ben"), (player) => player === undefined);
      assert.deepEqual(await rosterNames(ann), ["Ann", "Ben"], "he is in the game all the same");
      await figuresSay(ann, /Known 1 of 2 players/);
      await figuresSay(ann, /in; without views about \d+ B\/s if all move \(computed: 2 × 7 bytes × 20 Hz\)/);
      await becomes(ann, "both in the overview", () => ann.evaluate(() => playground.overview()), ({ length }) => length === 2);
      assert.deepEqual((await sightOf(ann)).cell, { column: 0, row: 0 });

      await look(ann, "farther", 2);
      await becomes(ann, "Ben in the larger view", () => seen(ann, "Ben"), Boolean);
      await figuresSay(ann, /Known 2 of 2 players/);
      await staleWhileWalking(ann, ben);
      await look(ann, "less far", 3);
      await becomes(ann, "Ben out of the smaller view", () => seen(ann, "Ben"), (player) => player === undefined);
      assert.equal(await ann.getByRole("button", { name: "See less far" }).isDisabled(), true);

      await walkTo(ben, { x: 82, y: 12 });
      await walkTo(ben, { x: 25, y: 12 });
      const back = await becomes(ann, "Ben near Ann again", () => seen(ann, "Ben"), (player) => player && Math.abs(player.x - 25) < 1);
      assert(Math.abs(back.pose[0] - WEST) <= 1, `he looks where he went: ${back.pose}`);
      await look(ann, "farther", 1);
      await screenshots(ann, `views-${dialect}`);
    });
  },

  async "views: the map follows the own player where the field is larger than it"({ open, dialect }) {
    await withGames(async (relay) => {
      const [ann, ben] = await both(open, relay, dialect, "plain");
      const middle = () => toWorld(ann, 0.5, 0.5);
      const own = await becomes(ann, "Ann's place", () => seen(ann, "Ann"), Boolean);
      const before = await becomes(ann, "the map around Ann", middle, ({ x }) => Math.abs(x - own.x) < 1);
      const goal = { x: own.x + 60, y: own.y };
      await walkTo(ann, goal);
      await becomes(ann, "the map around where she is", middle, ({ x }) => Math.abs(x - before.x - 60) < 1);
      await becomes(ben, "Ann there", () => seen(ben, "Ann"), ({ x }) => Math.abs(x - goal.x) < 1);
      await figuresSay(ann, /Known 2 of 2 players/);
      assert.equal(await ann.locator("#view").isVisible(), false, "there is nothing to choose");
    });
  },

  async "views: of a crowd that is not listed the page asks for the names, and counts all"({ open, dialect }) {
    await withGames(async (relay) => {
      const [ann, ben] = await both(open, relay, dialect, "hills");
      await becomes(ann, "Ben by his name", () => seen(ann, "Ben"), Boolean);
      await becomes(ben, "Ann by her name", () => seen(ben, "Ann"), Boolean);
      for (const page of [ann, ben]) await figuresSay(page, /Known 2 of 2 players/);
    }, CROWD);
  },

  async "views: height and pose are those of the layout"({ open, dialect }) {
    await withGames(async (relay) => {
      const [ann, ben] = await both(open, relay, dialect, "hills");
      const at = await becomes(ann, "Ann's place", () => seen(ann, "Ann"), Boolean);
      await walkTo(ann, { x: at.x > 50 ? 20 : 80, y: at.y });
      const there = await becomes(ben, "Ann there", () => seen(ben, "Ann"), ({ x }) => Math.abs(x - at.x) > 25);
      assert.equal(there.pose.length, 4);
      await becomes(ben, "her direction", () => seen(ben, "Ann"), ({ pose }) => pose[0] === (at.x > 50 ? WEST : 0));
      await ann.locator("#stage").focus();
      await ann.keyboard.down("e");
      await becomes(ben, "Ann up in the air", () => seen(ben, "Ann"), ({ z }) => z > 30, WALK_MS);
      await ann.keyboard.up("e");
      await ben.screenshot({ path: `${ARTIFACTS}/heights-${dialect}.png` });
    });
  },
};

// ---------------------------------------------------------------------------------------------------- what they look at

async function withGames(run, configuration = GAMES) {
  const folder = mkdtempSync(pathOf(tmpdir(), "corelay-playground-"));
  const file = pathOf(folder, "corelay.toml");
  writeFileSync(file, configuration);
  let relay;
  try {
    relay = await Relay.start({ CORELAY_CONFIG: file });
    await run(relay);
  } finally {
    await relay?.stop();
    rmSync(folder, { recursive: true });
  }
}

async function both(open, relay, dialect, game) {
  const pages = [];
  for (const name of ["Ann", "Ben"]) {
    const page = await open({ name, origin: relay.url });
    await page.locator(`label:has(input[value=${dialect}])`).click();
    await page.fill("#game", `${game}-${dialect}`);
    await page.getByRole("button", { name: "Join", exact: true }).click();
    await becomes(page, `joined ${game}`, () => page.evaluate(() => playground.state()), (state) => state === "joined");
    await becomes(page, "the own place", () => own(page), Boolean);
    pages.push(page);
  }
  return pages;
}

const seen = (page, name) => page.evaluate((wanted) => playground.players().find((player) => player.name === wanted), name);
const own = (page) => page.evaluate(() => playground.players().find((player) => player.me));
const sightOf = (page) => page.evaluate(() => playground.sight());
const rosterNames = (page) => page.evaluate(() => playground.roster().map(({ name }) => name).sort());
const figuresSay = (page, text) => becomes(page, String(text), () => page.locator("#figures").innerText(), (said) => text.test(said.replace(/\s+/g, " ")));

/** World coordinates of a part of the map's width and height. */
const toWorld = (page, partX, partY) =>
  page.evaluate(([x, y]) => {
    const box = document.getElementById("stage").getBoundingClientRect();
    return playground.toWorld(box.left + box.width * x, box.top + box.height * y);
  }, [partX, partY]);

async function look(page, where, times) {
  const { radius } = await sightOf(page);
  for (let time = 0; time < times; time++) await page.getByRole("button", { name: `See ${where}` }).click();
  await figuresSay(page, new RegExp(`View ${where === "farther" ? radius + times : radius - times} of 4`));
}

/** Clicks its way: as far as the map shows at a time. */
async function walkTo(page, goal) {
  const isAt = (place) => (player) => player && Math.hypot(player.x - place.x, player.y - place.y) < 1;
  for (let legs = 0; legs < 12; legs++) {
    const place = await click(page, goal);
    await becomes(page, `at ${place.x}, ${place.y}`, () => own(page), isAt(place), WALK_MS);
    if (isAt(goal)(await own(page))) return;
  }
  throw new Error(`not at ${goal.x}, ${goal.y}`);
}

/** Clicks a place on the map, or what is nearest to it; returns the place. */
async function click(page, { x, y }) {
  const box = await page.locator("#stage").boundingBox();
  const [least, most] = [await toWorld(page, 0, 0), await toWorld(page, 1, 1)];
  const part = (value, from, to) => Math.min(0.95, Math.max(0.05, (value - from) / (to - from)));
  const [partX, partY] = [part(x, least.x, most.x), part(y, least.y, most.y)];
  await page.mouse.click(box.x + partX * box.width, box.y + partY * box.height);
  return { x: least.x + partX * (most.x - least.x), y: least.y + partY * (most.y - least.y) };
}

/** Ben goes up and down, two cells away from Ann and farther, until what she knows of him is a while old. */
async function staleWhileWalking(ann, ben) {
  const ends = [{ x: 82, y: 85 }, { x: 82, y: 10 }];
  let goal = ends[1];
  const walk = async () => {
    const { x, y } = await own(ben);
    if (Math.hypot(x - goal.x, y - goal.y) < 5) await click(ben, (goal = ends[1 - ends.indexOf(goal)]));
    return seen(ann, "Ben");
  };
  await becomes(ann, "what Ann knows of Ben is older than a tick", walk, (player) => player?.age > 1, WALK_MS);
  await walkTo(ben, ends[1]);
}
