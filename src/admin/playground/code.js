// The shortest program that joins the game that is on the page, and the dialog that shows it.

const element = (id) => document.getElementById(id);

/** Shows it for a game, see `codeFor`. */
export function showCode(game) {
  element("code-text").value = codeFor(game);
  element("code-dialog").showModal();
}

export function listenToCode() {
  element("copy-code").addEventListener("click", copy);
  element("close-code").addEventListener("click", () => element("code-dialog").close());
}

async function copy() {
  try {
    // Only pages of this machine, and those over HTTPS, may.
    await navigator.clipboard.writeText(element("code-text").value);
    element("copy-code").textContent = "Copied";
  } catch {
    element("code-text").select();
    element("copy-code").textContent = "Press Ctrl+C";
  }
  setTimeout(() => (element("copy-code").textContent = "Copy"), 2000);
}

/** `token`: whether the relay wants one. */
function codeFor({ dialect, relay, game, name, token }) {
  const trust = relay.startsWith("wss:") ? "// If the relay's certificate is one of your own, Node wants its file: NODE_EXTRA_CA_CERTS=….crt node ….mjs\n" : "";
  const [relayText, gameText, nameText] = [relay, game, name || "me"].map((text) => JSON.stringify(text));
  if (dialect === "native")
    return `// Copy corelay.mjs, records.mjs, requests.mjs and world.mjs of clients/javascript beside this file; run it in a browser, or with Node 22 or newer.
${trust}import { NativeGame } from "./corelay.mjs";

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
${trust}import { Socket } from "phoenix";

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
