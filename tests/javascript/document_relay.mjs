// A relay that serves one document as docs/PROTOCOL.md says, in memory, to the npm client `phoenix` as it is, through a
// WebSocket that the test can slow down and cut.
import assert from "node:assert/strict";
import { apply, normalize, scalarLength, transform, transformCursor } from "../../clients/javascript/operations.mjs";
import { SharedDocument } from "../../clients/javascript/documents.mjs";
import { Socket } from "../phoenix_clients/node_modules/phoenix-1.8/priv/static/phoenix.mjs";
import { pass } from "./virtual_time.mjs";

const TOPIC = "doc:notes";

export class Relay {
  text = "";
  version = 0;
  epoch = "7";
  /** The operations behind `firstKept`: {op, user, id}. */
  log = [];
  /** User → {id, version} of its last operation. */
  lastOf = new Map();
  members = new Set();
  isUp = true;
  /** All that clients have pushed: {user, event, payload}. */
  heard = [];
  /** op_id → how often it became a version. */
  timesDone = new Map();

  // What the test may change.
  kept = 1000;
  pageSize = 1000;
  partLength = 1000;
  latencyMs = () => 5;
  diskMs = () => 1;
  /** What a push is refused with instead of being handled: (event, payload, user) => response or null. */
  refusal = () => null;
  /** Whether a live operation is told to this member, and how often. */
  timesTold = () => 1;
  readers = new Set();

  #written = 0; // when what waits for the disk is done
  #generation = 0;

  get firstKept() {
    return this.version - this.log.length;
  }

  /** The WebSocket class of one client. */
  transportOf(user) {
    const relay = this;
    return class extends FakeWebSocket {
      constructor() {
        super(relay, user);
      }
    };
  }

  receive(connection, [joinRef, ref, topic, event, payload]) {
    const member = [...this.members].find((one) => one.connection === connection);
    const reply = (status, response) => connection.tell([joinRef, ref, topic, "phx_reply", { status, response }]);
    if (topic === "phoenix") return reply("ok", {});
    if (event === "phx_join") return this.#join(connection, joinRef, payload, reply);
    if (event === "phx_leave") {
      this.members.delete(member);
      reply("ok", {});
      return connection.tell([joinRef, ref, topic, "phx_close", {}]);
    }
    if (!member || member.joinRef !== joinRef) return member ? undefined : reply("error", { reason: "unmatched topic" });
    this.heard.push({ user: connection.user, event, payload });
    const refusal = this.refusal(event, payload, connection.user);
    if (refusal) return reply("error", refusal);
    // What is behind an operation is answered behind it.
    const generation = this.#generation;
    this.#written = Math.max(this.#written, performance.now() + (event === "operation" ? this.diskMs() : 0));
    setTimeout(() => {
      if (generation === this.#generation) this.#handle(member, event, payload, reply);
    }, this.#written - performance.now());
  }

  /** The process ends and begins anew: what was not written is lost, and all connections. */
  restart(downMs = 0) {
    this.#generation += 1;
    this.isUp = false;
    for (const { connection } of [...this.members]) connection.cut();
    this.members.clear();
    setTimeout(() => (this.isUp = true), downMs);
  }

  /** An operation of somebody who is not here. */
  write(op, { user = "other", id } = {}) {
    return this.#commit(null, normalize(op), user, id);
  }

  tellAll(event, payload, but = null) {
    for (const member of this.members) if (member !== but) member.tell(event, payload);
  }

  #join(connection, joinRef, { resume }, reply) {
    for (const member of this.members) if (member.connection === connection) this.members.delete(member);
    const refusal = this.refusal("phx_join", { resume }, connection.user);
    if (refusal) return reply("error", refusal);
    // A broadcast names no join.
    const tell = (event, payload) => connection.tell([event === "operation" || event === "cursor" ? null : joinRef, null, TOPIC, event, payload]);
    const member = { connection, joinRef, user: connection.user, tell, cursor: null };
    const isReader = this.readers.has(member.user);
    reply("ok", { epoch: this.epoch, seq: this.version, user_id: member.user, version: this.version, length: scalarLength(this.text), read_only: isReader });
    tell("presence_state", {});
    this.#catchUp(member, resume);
    for (const other of this.members) if (other.cursor) tell("cursor", this.#cursorOf(other));
    this.members.add(member);
  }

  #catchUp(member, position) {
    const isKept = position?.epoch === this.epoch && position.seq <= this.version && position.seq >= this.firstKept;
    if (isKept) member.tell("operations", this.#page(position.seq));
    else this.#tellState(member);
  }

  #tellState({ tell }) {
    const characters = [...this.text];
    const parts = Math.max(1, Math.ceil(characters.length / this.partLength));
    for (let part = 1; part <= parts; part++) {
      const content = characters.slice((part - 1) * this.partLength, part * this.partLength).join("");
      tell("doc_state", { version: this.version, epoch: this.epoch, content, part, parts });
    }
  }

  #page(after) {
    const operations = this.log.slice(after - this.firstKept, after - this.firstKept + this.pageSize);
    return {
      operations: operations.map(({ op, user, id }, index) => ({ op, version: after + 1 + index, user_id: user, op_id: id })),
      more: after + operations.length < this.version,
    };
  }

  #handle(member, event, payload, reply) {
    if (event === "operation") return this.#operation(member, payload, reply);
    if (event === "reconnect") return this.#catchUp(member, payload.last_seen);
    if (event === "cursor") return this.#cursor(member, payload);
    if (event !== "operations") throw new Error(`what is ${event}?`);
    if (payload.after < this.firstKept) return reply("error", { reason: "too_old", version: this.version });
    reply("ok", this.#page(payload.after));
  }

  #operation(member, { op, version, op_id: id }, reply) {
    const { user } = member;
    const known = this.log.findIndex((kept) => kept.id === id && kept.user === user);
    const last = this.lastOf.get(user);
    if (known >= 0) return reply("ok", { version: this.firstKept + known + 1 });
    if (last?.id === id) return reply("ok", { version: last.version });
    if (this.readers.has(user)) return reply("error", { reason: "read_only" });
    if (version > this.version) return reply("error", { reason: "ahead", version: this.version });
    if (version < this.firstKept) {
      reply("error", { reason: "too_old", version: this.version });
      return this.#tellState(member);
    }
    let later = normalize(op);
    for (const { op: earlier } of this.log.slice(version - this.firstKept)) [, later] = transform(earlier, later);
    try {
      apply(this.text, later);
    } catch {
      return reply("error", { reason: "the operation reaches beyond the end of the text" });
    }
    reply("ok", { version: this.#commit(member, later, user, id) });
  }

  #commit(member, op, user, id) {
    this.text = apply(this.text, op);
    this.version += 1;
    if (id) this.timesDone.set(id, (this.timesDone.get(id) ?? 0) + 1);
    this.log.push({ op, user, id });
    if (this.log.length > this.kept) this.log.shift();
    this.lastOf.set(user, { id, version: this.version });
    for (const { cursor, user: owner } of this.members) if (cursor) moveCursor(cursor, op, owner === user);
    for (const other of this.members)
      if (other !== member)
        for (let times = this.timesTold(other, this.version); times > 0; times--)
          other.tell("operation", { op, version: this.version, user_id: user, ...(id && { op_id: id }) });
    return this.version;
  }

  #cursor(member, { position, selection_end: selectionEnd, version }) {
    if (!this.members.has(member)) return;
    member.cursor = position === null ? null : { position, selectionEnd };
    if (member.cursor) for (const { op, user } of this.log.slice(version - this.firstKept)) moveCursor(member.cursor, op, user === member.user);
    this.tellAll("cursor", this.#cursorOf(member), member);
  }

  #cursorOf({ user, cursor }) {
    if (cursor === null) return { user_id: user, position: null };
    return { user_id: user, position: cursor.position, selection_end: cursor.selectionEnd, version: this.version };
  }

  /** The relay learns that a connection is gone. */
  gone(connection) {
    for (const member of [...this.members])
      if (member.connection === connection) {
        this.members.delete(member);
        if (member.cursor) this.tellAll("cursor", { user_id: member.user, position: null });
      }
  }
}

function moveCursor(cursor, op, isOwn) {
  cursor.position = transformCursor(cursor.position, op, isOwn);
  if (cursor.selectionEnd !== undefined) cursor.selectionEnd = transformCursor(cursor.selectionEnd, op, isOwn);
}

/** Messages come in order each way, after the relay's latency. */
class FakeWebSocket {
  readyState = 0;
  bufferedAmount = 0;
  #relay;
  #upAt = 0;
  #downAt = 0;
  /** Whether what is on its way to the relay still arrives after a cut. */
  #arrives = true;

  constructor(relay, user) {
    this.#relay = relay;
    this.user = user;
    setTimeout(() => {
      if (this.readyState !== 0) return;
      if (!relay.isUp) return this.cut();
      this.readyState = 1;
      this.onopen?.({});
    }, relay.latencyMs());
  }

  send(text) {
    this.#upAt = Math.max(this.#upAt, performance.now() + this.#relay.latencyMs());
    setTimeout(() => this.#arrives && this.#relay.isUp && this.#relay.receive(this, JSON.parse(text)), this.#upAt - performance.now());
  }

  tell(message) {
    const text = JSON.stringify(message);
    this.#downAt = Math.max(this.#downAt, performance.now() + this.#relay.latencyMs());
    setTimeout(() => this.readyState === 1 && this.onmessage?.({ data: text }), this.#downAt - performance.now());
  }

  /** The network fails. `arrives`: only what comes from the relay is lost. */
  cut({ arrives = false } = {}) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.#arrives = arrives;
    setTimeout(() => this.#relay.gone(this), arrives ? 50 : 0);
    this.onclose?.({ code: 1006, reason: "" });
  }

  close() {
    this.cut({ arrives: true });
  }
}

/** A client with what its handlers were told. */
export class Client {
  changes = [];
  states = [];
  conflicts = [];
  refusals = [];
  cursorTimes = 0;
  /** What the application shows, by the changes alone. */
  shown = "";

  constructor(relay, user, socketOptions = {}) {
    this.user = user;
    this.socket = new Socket("ws://relay/socket", { transport: relay.transportOf(user), reconnectAfterMs: () => 100, rejoinAfterMs: () => 100, ...socketOptions });
    this.document = new SharedDocument(this.socket, "notes", { name: user }, {
      changed: (change) => {
        this.changes.push(change);
        this.shown = apply(this.shown, change.operation);
      },
      cursors: () => (this.cursorTimes += 1),
      state: (state, { reason }) => this.states.push(reason ? `${state}: ${reason}` : state),
      conflict: (texts) => this.conflicts.push(texts),
      refused: (refusal) => this.refusals.push(refusal),
    });
    this.socket.connect();
  }

  get text() {
    return this.document.text;
  }

  cut(how) {
    this.socket.conn?.cut(how);
  }
}

/** A relay with this text, and clients that have it. */
export function joined(text = "", users = ["ann", "ben"]) {
  const relay = new Relay();
  if (text) relay.write([text]);
  const clients = users.map((user) => new Client(relay, user));
  pass(100);
  for (const client of clients) assert.equal(client.document.state, "live");
  return [relay, ...clients];
}

/** What a user has pushed of this event. */
export const pushed = (relay, event, from = "ann") => relay.heard.filter((push) => push.event === event && push.user === from).map(({ payload }) => payload);

/** Answers pushes of this event, until the test says otherwise. */
export function refuse(relay, event, response) {
  relay.refusal = (pushed) => (pushed === event ? response : null);
}
