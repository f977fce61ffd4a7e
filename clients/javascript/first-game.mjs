// Joins a game and runs in a circle. In a browser: <script type="module" src="first-game.mjs"></script>, then look at the console.
// With Node 22 or newer: node first-game.mjs [RELAY [TOKEN]]. Start it twice to see two players.
const [relay = "ws://127.0.0.1:4000", token = ""] = globalThis.process?.argv.slice(2) ?? [];
if (!globalThis.WebSocket) {
  console.error(`Node ${process.version} has no WebSocket: run this program with Node 22 or newer.`);
  process.exit(1);
}
const socket = new WebSocket(`${relay}/play/first-game?name=JavaScript&token=${encodeURIComponent(token)}`);
socket.binaryType = "arraybuffer";
const names = new Map(); // player id → display name
const places = new Map(); // player id → [x, y]
const timers = [];
let me;

socket.onmessage = ({ data }) => {
  const record = new DataView(data); // big-endian, like every record
  const kind = record.getUint8(0);
  if (kind === 0x81) start(record.getUint32(4), record.getUint16(2)); // Welcome
  if (kind === 0x86) readRoster(record);
  if (kind === 0x82) places.clear(), readPositions(record, 16); // Keyframe
  if (kind === 0x83) readPositions(record, 20); // Delta
};
socket.onclose = ({ code, reason }) => {
  console.log("closed:", code, reason);
  timers.forEach(clearInterval);
};
socket.onerror = () => {
  if (me) return; // it was in: the close says more
  console.error(`${relay} let nobody in. Start a relay there (cargo run --release); if it has a key, give a token as well:`);
  console.error("  corelay token --sub me --topics 'game:*' --jwt-key-file FILE");
  if (globalThis.process) process.exitCode = 1;
};

function start(player, tickHz) {
  me = player;
  let angle = Math.random() * 2 * Math.PI;
  const move = new DataView(new ArrayBuffer(12));
  move.setUint8(0, 0x01); // Move
  const run = () => {
    angle += 1 / tickHz;
    move.setFloat32(4, 10 * Math.cos(angle));
    move.setFloat32(8, 10 * Math.sin(angle));
    socket.send(move);
  };
  timers.push(setInterval(run, 1000 / tickHz), setInterval(show, 1000));
}

function readPositions(record, at) {
  for (let left = record.getUint32(8); left > 0; left--, at += 12)
    places.set(record.getUint32(at), [record.getFloat32(at + 4), record.getFloat32(at + 8)]);
}

function readRoster(record) {
  if (record.getUint8(1) & 1) names.clear(); // this is the whole roster
  let at = 6;
  for (let joined = record.getUint16(2); joined > 0; joined--) {
    const name = at + 5 + record.getUint8(at + 4); // behind the user id
    const bytes = new Uint8Array(record.buffer, name + 1, record.getUint8(name));
    names.set(record.getUint32(at), new TextDecoder().decode(bytes));
    at = name + 1 + bytes.length;
  }
  for (let left = record.getUint16(4); left > 0; left--, at += 5) {
    names.delete(record.getUint32(at));
    places.delete(record.getUint32(at));
  }
}

function show() {
  const line = ([id, [x, y]]) => `${names.get(id)}${id === me ? " (me)" : ""} at ${x.toFixed(1)}, ${y.toFixed(1)}`;
  console.log([...places].map(line).join(" | "));
}
