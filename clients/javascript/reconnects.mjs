import { NativeGame } from "./corelay.mjs"; // no packages: copy it and the three files that it imports into your game

const [relay = "ws://127.0.0.1:4000", token] = globalThis.process?.argv.slice(2) ?? [];
const game = new NativeGame({ relay, token, game: "first-game", name: "Ann" }, {
  joined: ({ playerId, resumed }) => console.log(`player ${playerId}, ${resumed ? "in my old seat" : "in a new seat"}`),
  frame: ({ positions }) => positions.forEach(({ id, x, y }) => console.log(id, x.toFixed(1), y.toFixed(1))),
  event: ({ code, sender, payload }) => console.log(code, sender, payload), // also those that were missed
  closed: ({ code, reason, why, retryInMs }) => console.log("closed:", code, reason || why, retryInMs ?? "for good"),
});
setInterval(() => game.move(10 * Math.cos(Date.now() / 1000), 10 * Math.sin(Date.now() / 1000)), 50);
