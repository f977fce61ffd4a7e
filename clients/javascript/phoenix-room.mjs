// Joins a chat room with the official Phoenix client. Needs: npm install phoenix ws. Start it twice to see both.
import { Presence, Socket } from "phoenix";
import WebSocket from "ws"; // browsers, and Node 22 or newer, have one of their own

const socket = new Socket("ws://127.0.0.1:4000/socket", { transport: WebSocket });
const room = socket.channel("room:lobby", { name: process.argv[2] ?? "Ann" });
const presence = new Presence(room);
presence.onSync(() => console.log("here:", presence.list((_user, { metas }) => metas[0].name).join(", ")));
room.on("room_state", ({ messages }) => messages.forEach(({ name, body }) => console.log(`earlier, ${name}: ${body}`)));
room.on("new_message", ({ name, body }) => console.log(`${name}: ${body}`));
room.join().receive("ok", () => room.push("new_message", { body: "hello" })).receive("error", console.error);
socket.connect();
