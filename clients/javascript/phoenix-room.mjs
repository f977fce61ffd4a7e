// Joins a chat room with the official Phoenix client. Needs: npm install phoenix ws. Start it twice to see both:
// node phoenix-room.mjs [NAME [RELAY [TOKEN]]]
import { Presence, Socket } from "phoenix";
import WebSocket from "ws"; // browsers, and Node 22 or newer, have one of their own

const [name = "Ann", relay = "ws://127.0.0.1:4000", token] = process.argv.slice(2);
const socket = new Socket(`${relay}/socket`, { transport: WebSocket });
const room = socket.channel("room:lobby", { name, token });
const presence = new Presence(room);
presence.onSync(() => console.log("here:", presence.list((_user, { metas }) => metas[0].name).join(", ")));
room.on("room_state", ({ messages }) => messages.forEach(({ name, body }) => console.log(`earlier, ${name}: ${body}`)));
room.on("new_message", ({ name, body }) => console.log(`${name}: ${body}`));
room.join().receive("ok", () => room.push("new_message", { body: "hello" })).receive("error", ({ reason }) => {
  fail(`Not let into the room: ${reason}. A relay with a key wants a token: corelay token --sub me --topics 'room:*' …`);
});
socket.onError((_error, _transport, connections) => {
  if (connections === 0) fail(`Nothing answers at ${relay}: start a relay there (cargo run --release).`);
});
socket.connect();

function fail(text) {
  console.error(text);
  process.exit(1);
}
