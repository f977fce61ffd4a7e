// Edits a shared text with the official Phoenix client. Needs: npm install phoenix ws. Start it twice, and type lines into both:
// node shared-text.mjs [NAME [RELAY [TOKEN]]]
import { createInterface } from "node:readline";
import { Socket } from "phoenix";
import WebSocket from "ws"; // browsers, and Node 22 or newer, have one of their own
import { SharedDocument } from "./documents.mjs";

const [name = "Ann", relay = "ws://127.0.0.1:4000", token] = process.argv.slice(2);
const socket = new Socket(`${relay}/socket`, { transport: WebSocket });
const notes = new SharedDocument(socket, "notes", { name, token }, {
  changed: ({ isOwn }) => isOwn || console.log(`--- version ${notes.version}:\n${notes.text}`),
  state: (state, { reason }) => {
    if (state === "ended") fail(`Not let into the document: ${reason}. A relay with a key wants a token: corelay token --sub me --topics 'doc:*' …`);
    console.log(state);
  },
  conflict: ({ mine }) => console.log("the text is another one now; what you had:", mine),
  refused: ({ reason }) => console.log("taken back:", reason),
});
createInterface({ input: process.stdin }).on("line", (line) => {
  if (notes.isWritable) notes.replaceText(`${notes.text}${name}: ${line}\n`); // an edit of what is different
});
socket.onError((_error, _transport, connections) => {
  if (connections === 0) fail(`Nothing answers at ${relay}: start a relay there (cargo run --release).`);
});
socket.connect();

function fail(text) {
  console.error(text);
  process.exit(1);
}
