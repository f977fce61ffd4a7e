// By wss://, with the pair that `corelay cert` makes: Node's own WebSocket, `ws`, the Phoenix client, and Python. CORELAY names the
// relay's binary, PYTHON one that has `websockets`.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import WebSocket from "../phoenix_clients/node_modules/ws/wrapper.mjs";
import { Socket } from "../phoenix_clients/node_modules/phoenix-1.8/priv/static/phoenix.mjs";
import { Relay, freePort } from "../phoenix_clients/relay.mjs";

const CLIENTS = join(import.meta.dirname, "../../clients");
/** Node 22 has a WebSocket; 20 has the same one behind a flag. */
const WITH_WEBSOCKET = Number(process.versions.node.split(".")[0]) >= 22 ? [] : ["--experimental-websocket"];
const PATIENCE_MS = 10_000;
const KEYFRAME = 0x82;
const DELTA = 0x83;

let folder;
let relay;
let address;
let ca;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "corelay-secure-"));
  const toml = execFileSync(process.env.CORELAY, ["cert", "--self-signed", "localhost", "--out-dir", folder], { stdio: ["ignore", "pipe", "ignore"] });
  writeFileSync(join(folder, "corelay.toml"), toml);
  ca = readFileSync(join(folder, "localhost.crt"));
  const port = await freePort();
  address = `wss://localhost:${port}`;
  relay = await Relay.start({ environment: { CORELAY_CONFIG: join(folder, "corelay.toml"), CORELAY_LISTEN_TLS: `127.0.0.1:${port}` } });
});

after(() => {
  relay?.kill();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs a program until it ends, or until `enough` is in what it prints. */
async function printedBy(command, words, enough, environment = {}) {
  const child = spawn(command, words, { cwd: folder, env: { ...process.env, ...environment }, stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill(), PATIENCE_MS);
  let printed = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text) => {
      printed += text;
      if (enough.test(printed)) child.kill();
    });
  await new Promise((done) => child.once("close", done));
  clearTimeout(timer);
  return printed;
}

/** What comes of opening: the socket, or the code of its error. */
function opened(url, options) {
  const socket = new WebSocket(url, options);
  return new Promise((done) => socket.once("open", () => done(socket)).once("error", ({ code }) => done(code)));
}

/** The next place of this player that the relay tells of. */
function placeOf(socket, player) {
  return new Promise((done) => {
    const read = (record) => {
      const at = { [KEYFRAME]: 16, [DELTA]: 20 }[record[0]];
      for (let left = at ? record.readUInt32BE(8) : 0; left > 0; left--) {
        const place = at + 12 * (left - 1);
        if (record.readUInt32BE(place) !== player) continue;
        socket.off("message", read);
        done([record.readFloatBE(place + 4), record.readFloatBE(place + 8)]);
      }
    };
    socket.on("message", read);
  });
}

test("ws: who is given the certificate plays", async () => {
  const socket = new WebSocket(`${address}/play/arena`, { ca });
  const [welcome] = await new Promise((done, failed) => socket.once("message", (...first) => done(first)).once("error", failed));
  assert.equal(welcome[0], 0x81, "a Welcome");
  for (const [number, place] of [[1, [1.5, -2]], [2, [3, 4]]]) {
    const move = Buffer.alloc(12);
    move[0] = 0x01;
    move.writeUInt16BE(number, 2);
    place.forEach((coordinate, index) => move.writeFloatBE(coordinate, 4 + 4 * index));
    socket.send(move);
    assert.deepEqual(await placeOf(socket, welcome.readUInt32BE(4)), place);
  }
  socket.close(1000);
  const [code] = await new Promise((done) => socket.once("close", (...how) => done(how)));
  assert.equal(code, 1000);
});

test("ws: who is not given it, or expects another name, connects to nobody", async () => {
  assert.equal(await opened(`${address}/play/arena`), "DEPTH_ZERO_SELF_SIGNED_CERT");
  assert.equal(await opened(`${address}/play/arena`.replace("localhost", "127.0.0.1"), { ca }), "ERR_TLS_CERT_ALTNAME_INVALID");
});

test("phoenix: a room by wss://", async () => {
  class Trusting extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { ca });
    }
  }
  const sockets = [0, 1].map(() => new Socket(`${address}/socket`, { transport: Trusting }));
  const rooms = sockets.map((socket) => socket.channel("room:secure"));
  const heard = new Promise((done) => rooms[1].on("new_message", ({ body }) => done(body)));
  for (const [index, room] of rooms.entries()) {
    sockets[index].connect();
    await new Promise((done, failed) => room.join().receive("ok", done).receive("error", failed).receive("timeout", failed));
  }
  rooms[0].push("new_message", { body: "by TLS" });
  assert.equal(await heard, "by TLS");
  for (const socket of sockets) await new Promise((done) => socket.disconnect(done));
});

test("first-game: it plays by wss:// as `corelay cert --help` says", async () => {
  const words = [...WITH_WEBSOCKET, join(CLIENTS, "javascript/first-game.mjs"), address];
  const printed = await printedBy(process.execPath, words, /\(me\) at /, { NODE_EXTRA_CA_CERTS: join(folder, "localhost.crt") });
  assert.match(printed, /JavaScript \(me\) at -?\d/);
});

test("first_game.py: it plays by wss:// with the certificate in its context", async () => {
  const program = readFileSync(join(CLIENTS, "python/first_game.py"), "utf8");
  const connect = 'websockets.connect("ws://127.0.0.1:4000/play/first-game?name=Python")';
  assert.equal(program.split(connect).length, 2, `${connect} is there once`);
  const context = `__import__("ssl").create_default_context(cafile=${JSON.stringify(join(folder, "localhost.crt"))})`;
  const secure = `websockets.connect("${address}/play/first-game?name=Python", ssl=${context})`;
  const printed = await printedBy(process.env.PYTHON, ["-c", program.replace(connect, secure)], /\(me\) at /);
  assert.match(printed, /Python \(me\) at -?\d/);
});

test("first_game.py: it plays", async () => {
  const program = readFileSync(join(CLIENTS, "python/first_game.py"), "utf8").replace("127.0.0.1:4000", `127.0.0.1:${relay.port}`);
  assert.match(await printedBy(process.env.PYTHON, ["-c", program], /\(me\) at /), /Python \(me\) at -?\d/);
});
