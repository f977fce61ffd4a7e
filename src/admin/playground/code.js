// The shortest program that joins the game that is on the page.

/** `token`: whether the relay wants one. */
export function codeFor({ dialect, relay, game, name, token }) {
  const [relayText, gameText, nameText] = [relay, game, name || "me"].map((text) => JSON.stringify(text));
  if (dialect === "native")
    return `// Copy corelay.mjs, records.mjs, requests.mjs and world.mjs of clients/javascript beside this file; run it in a browser, or with Node 22 or newer.
import { NativeGame } from "./corelay.mjs";

const game = new NativeGame({ relay: ${relayText}, game: ${gameText}, name: ${nameText}${token ? ', token: "…"' : ""} }, {
  joined({ playerId }) {
    console.log("joined as player", playerId);
    game.move(0, 0);
    game.event(1, new TextEncoder().encode("hello"), "all");
  },
  frame: ({ whole, positions, gonePlayers }) => console.log({ whole, positions, gonePlayers }),
  roster: (players) => console.log("here:", [...players.values()].map(({ name }) => name).join(", ")),
  event: ({ code, sender, payload }) => console.log("event", code, "of", sender, new TextDecoder().decode(payload)),
  closed: ({ code, reason, retryInMs }) => console.log("closed:", code, reason, retryInMs === null ? "for good" : "comes back"),
});
`;
  return `// npm install phoenix
import { Socket } from "phoenix";

const socket = new Socket(${JSON.stringify(`${relay.replace(/\/$/, "")}/socket`)}${token ? ', { authToken: "…" }' : ""});
const game = socket.channel(${JSON.stringify(`game:${game}`)}, { name: ${nameText} });
game.on("game_update", (data) => console.log(new DataView(data).getUint32(0), "players moved"));
game.on("game_event", ({ code, sender, payload }) => console.log("event", code, "of", sender, payload));
game.join()
  .receive("ok", ({ player_id }) => {
    console.log("joined as player", player_id);
    game.push("move", { x: 0, y: 0 });
    game.push("game_event", { code: 1, to: "all", payload: { text: "hello" } });
  })
  .receive("error", ({ reason }) => console.error(reason));
socket.connect();
`;
}
