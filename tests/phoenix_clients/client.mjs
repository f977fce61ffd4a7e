// One `Socket` of an official client, with what it does turned into promises.
import assert from "node:assert/strict";
import WebSocket from "ws";
import { Inbox, until } from "./waiting.mjs";

/** WebSocket of `ws` that tells `client` what passes. */
const transportFor = (client) =>
  class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols);
      this.on("open", () => client.witness("open", { path: new URL(url).pathname + new URL(url).search, protocols }));
      this.on("message", (data, isBinary) => client.witness("<", isBinary ? { binary: data } : { text: String(data) }));
      this.on("close", (code, reason) => client.witness("close", { code, reason: String(reason) }));
    }

    send(data) {
      client.witness(">", typeof data === "string" ? { text: data } : { binary: data });
      super.send(data);
    }
  };

export class Client {
  /** Frames in both directions, `{dir, text}` or `{dir, binary}`. */
  frames = new Inbox();
  opens = new Inbox();
  /** `{code, reason}` of every closed connection. */
  closes = new Inbox();
  errors = new Inbox();

  /** `phoenix` is the module of one version; `transcript` hears all that passes. */
  constructor(phoenix, url, options = {}, transcript) {
    this.phoenix = phoenix;
    this.transcript = transcript;
    this.number = transcript?.addSocket() ?? 0;
    this.lastFrameAt = Date.now();
    this.socket = new phoenix.Socket(url, {
      transport: transportFor(this),
      // Fast, or the cases that close connections would mostly wait.
      reconnectAfterMs: () => 50,
      ...options,
    });
    this.socket.onOpen(() => this.opens.put(true));
    this.socket.onError((error) => this.errors.put(error?.message ?? String(error)));
  }

  witness(dir, what) {
    this.transcript?.record(this.number, dir, what);
    this.lastFrameAt = Date.now();
    if (dir === "close") this.closes.put(what);
    if (dir === ">" || dir === "<") this.frames.put({ dir, ...what });
  }

  async connect() {
    this.socket.connect();
    await this.opens.take("the connection to open");
    return this;
  }

  topic(name, payload = {}) {
    return new Topic(this, name, payload);
  }

  /** The next text frame from the relay that is an array like this; `undefined` stands for anything. */
  async frame(...expected) {
    const { text } = await this.frames.take(`the frame ${JSON.stringify(expected)}`, ({ dir, text }) => {
      if (dir !== "<" || text === undefined) return false;
      const elements = JSON.parse(text);
      return expected.every((value, at) => value === undefined || JSON.stringify(elements[at]) === JSON.stringify(value));
    });
    assert.equal(JSON.parse(text).length, 5, text);
    assert.equal(text, JSON.stringify(JSON.parse(text)), "frames are compact");
    return JSON.parse(text);
  }

  /** Cuts the connection without a close frame, as a lost network does. */
  cut() {
    // First, or the client would come back.
    const { conn } = this.socket;
    this.socket.disconnect();
    conn.terminate();
  }

  end() {
    const { conn } = this.socket;
    this.socket.disconnect();
    if (conn?.readyState === WebSocket.OPEN) conn.terminate();
  }
}

/** One `Channel`, and what has come for it by event. */
export class Topic {
  #inboxes = new Map();
  /** `{status, response}` of each join: also of the ones that the client does by itself. */
  #joins = new Inbox();

  constructor(client, name, payload) {
    this.name = name;
    this.channel = client.socket.channel(name, payload);
    this.presence = new client.phoenix.Presence(this.channel);
    this.presence.onJoin((key, current, joined) => this.#inbox("onJoin").put({ key, current, joined }));
    this.presence.onLeave((key, current, left) => this.#inbox("onLeave").put({ key, current, left }));
    this.presence.onSync(() => this.#inbox("onSync").put(this.present()));
    // The hook that the package offers for this: it sees every event.
    this.channel.onMessage = (event, message) => {
      this.#inbox(event).put(message);
      return message;
    };
  }

  #inbox(event) {
    if (!this.#inboxes.has(event)) this.#inboxes.set(event, new Inbox());
    return this.#inboxes.get(event);
  }

  /** Joins; the response, which must be an ok. */
  async join() {
    const { status, response } = await this.tryJoin();
    assert.equal(status, "ok", `joining ${this.name}: ${status} ${JSON.stringify(response)}`);
    return response;
  }

  tryJoin() {
    const push = this.channel.join();
    for (const status of ["ok", "error", "timeout"])
      push.receive(status, (response) => this.#joins.put({ status, response }));
    return this.#joins.take(`the reply to joining ${this.name}`);
  }

  /** The response to the next join that the client does by itself. */
  async rejoined(ms) {
    const { response } = await this.#joins.take(`${this.name} to be joined again`, ({ status }) => status === "ok", ms);
    return response;
  }

  /** Pushes, and waits for the reply: `{status, response}`. */
  push(event, payload = {}) {
    return replyTo(this.channel.push(event, payload), `the reply to ${event} on ${this.name}`);
  }

  /** Pushes what is not replied to. */
  send(event, payload) {
    this.channel.push(event, payload);
  }

  leave() {
    return replyTo(this.channel.leave(), `the reply to leaving ${this.name}`);
  }

  /** The payload of the next such event. */
  next(event, matches, ms) {
    return this.#inbox(event).take(`${event} on ${this.name}`, matches, ms);
  }

  /** Who is there, as the package's `Presence` has it: `{user: metas}`. */
  present() {
    return Object.fromEntries(this.presence.list((key, { metas }) => [key, metas]));
  }

  /** Waits until exactly these users are there. */
  async awaitPresent(...users) {
    const wanted = users.toSorted().join();
    await until(`${wanted || "nobody"} to be present on ${this.name}`, () => {
      return Object.keys(this.present()).toSorted().join() === wanted;
    });
    return this.present();
  }
}

function replyTo(push, what) {
  const replies = new Inbox();
  for (const status of ["ok", "error", "timeout"]) push.receive(status, (response) => replies.put({ status, response }));
  return replies.take(what);
}
