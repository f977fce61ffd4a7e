// A text that several edit at once, over the Socket of the npm client `phoenix`: docs/PROTOCOL.md, "Documents".
//
//   const socket = new Socket("ws://127.0.0.1:4000/socket");
//   const shared = new SharedDocument(socket, "notes", { name: "Ann" }, {
//     changed: ({ operation, isOwn, userId }) => …,   // the text is another one; `shared.text` is it already
//     cursors: () => …,                               // `shared.cursors` has others, or others have moved
//     state: (state, { reason }) => …,                // "joining", "live", "catching_up", "waiting" (lost; it comes back), "ended"
//     saved: () => …,                                 // an edit was acknowledged; `shared.pendingEdits` tells how many were not
//     conflict: ({ mine, theirs }) => …,              // edits that cannot be brought in any more: the text is `theirs` now
//     refused: ({ reason, operation }) => …,          // an edit that the relay does not take: it was taken back
//   });
//   socket.connect();
//   shared.insert(0, "Hello");                          // positions count Unicode characters, not UTF-16 units
//   shared.setCursor(5);
//   shared.leave();
//
// What is edited shows at once, also without a connection, and is sent as soon as it can be. Every handler is optional, and
// `listen` adds more. A text area is bound by `bindTextarea` of textarea.mjs. Presence and all else of the topic: `shared.channel`.

import { Cursors } from "./cursors.mjs";
import { Membership } from "./membership.mjs";
import { apply, compose, cut, diff, invert, normalize, scalarLength, transform } from "./operations.mjs";
import { History } from "./undo.mjs";

export { scalarToUtf16, utf16ToScalar } from "./operations.mjs";

/** UTF-8 of the whole text. */
const MAX_TEXT_BYTES = 262_144;
/** The relay takes 56 KiB of JSON and 1,000 components; what is sent again may have grown by what others did meanwhile. */
const MAX_PART_BYTES = 50_000;
const MAX_PART_COMPONENTS = 500;
const CURSOR_INTERVAL_MS = 50;
/** When to try again what is refused without a time. */
const RETRY_MS = 1000;
/** Refusals that end by themselves. */
const PASSING = new Set(["rate_limited", "overload", "storage_full", "unavailable"]);
/** The answer to a push whose membership has just ended; phoenix joins again. */
const NO_MEMBER = "unmatched topic";
/** A position in no stream: whoever has seen that is sent the whole text. */
const NOTHING_SEEN = { epoch: "0", seq: 0 };

/**
 * @typedef {(string | number)[]} Operation what becomes of a text, see operations.mjs
 * @typedef {{ position: number, selectionEnd: number }} Cursor
 * @typedef {{
 *   changed?: (change: { operation: Operation, isOwn: boolean, userId: string | null }) => void,
 *   cursors?: () => void,
 *   state?: (state: string, detail: { reason: string | null }) => void,
 *   saved?: () => void,
 *   conflict?: (texts: { mine: string, theirs: string }) => void,
 *   refused?: (refusal: { reason: string, operation: Operation }) => void,
 * }} Handlers
 */

export class SharedDocument {
  /** Of the npm client; for presence, and for what else is said in the topic. */
  channel;
  /** The user id, from the first join on. */
  userId = null;
  /** The token is for reading only. */
  isReadOnly = false;

  #socket;
  #listeners = new Set();
  #state = "joining";
  #epoch = null;
  /** Of #agreed; null: it has not come yet. */
  #version = null;
  /** The text as everybody has it at #version. */
  #agreed = "";
  /** #agreed, and behind it what is outstanding and what is buffered. */
  #text = "";
  /** The edit {operation, id, edits} that was sent and not answered; on #agreed. `edits`: of how many it is the end. */
  #outstanding = null;
  /** All later edits in one; behind the outstanding one. */
  #buffer = [];
  /** Of how many edits #buffer was made. */
  #bufferedEdits = 0;
  #history = new History();
  #cursors = new Cursors();
  #cursorToldAt = -Infinity;

  // What is of the present membership, and ends with it.

  #membership = null;
  #isSending = false;
  #isCursorDue = false;
  /** The length of the text at a version, as the relay has said it. */
  #measured = null;
  /** What was told while something before it is missing: {event, payload}. */
  #held = [];
  /** Of a doc_state of which the last has not come. */
  #parts = [];
  /** A doc_state that waits until it is known whether the outstanding edit is in it. */
  #unresolved = null;
  /** The own text is not what the relay has: only a doc_state helps. */
  #isAstray = false;

  /**
   * Joins `doc:{id}`.
   * @param {object} socket a Socket of phoenix, connected or not
   * @param {string} id
   * @param {{ name?: string, token?: string, meta?: object }} options of the join
   * @param {Handlers} handlers
   */
  constructor(socket, id, options = {}, handlers = {}) {
    this.#socket = socket;
    this.listen(handlers);
    this.channel = socket.channel(`doc:${id}`, () => ({ ...options, ...(this.#canResume && { resume: this.#position }) }));
    this.channel.onError(() => this.#lost());
    this.channel.onClose(() => this.#end("closed"));
    this.#on("doc_state", (part) => this.#statePart(part));
    this.#on("operations", (page) => this.#page(page));
    this.#on("presence_count", () => this.#forgetCursors());
    for (const event of ["operation", "cursor"]) this.#on(event, (payload) => this.#told({ event, payload }));
    this.channel
      .join()
      .receive("ok", (reply) => this.#joined(reply))
      .receive("error", (refusal) => this.#notJoined(refusal));
  }

  /** Adds handlers; returns a function that removes them. @param {Handlers} handlers */
  listen(handlers) {
    this.#listeners.add(handlers);
    return () => this.#listeners.delete(handlers);
  }

  /** With all own edits. */
  get text() {
    return this.#text;
  }

  /** The last version of which everything is in the text; null before the text has come. */
  get version() {
    return this.#version;
  }

  get state() {
    return this.#state;
  }

  /** Whether there are edits that the relay has not acknowledged. */
  get pending() {
    return this.#outstanding !== null || this.#buffer.length > 0;
  }

  /** How many edits those are. */
  get pendingEdits() {
    const buffered = this.#buffer.length > 0 ? this.#bufferedEdits : 0;
    return this.pending ? Math.max(1, (this.#outstanding?.edits ?? 0) + buffered) : 0;
  }

  get canUndo() {
    return this.isWritable && this.#history.canUndo;
  }

  get canRedo() {
    return this.isWritable && this.#history.canRedo;
  }

  get #pendingOperations() {
    return [this.#outstanding?.operation ?? [], this.#buffer];
  }

  /** Whether `edit` may be called. */
  get isWritable() {
    return this.#version !== null && !this.isReadOnly && this.#state !== "ended";
  }

  /** The others' cursors in the present text. @returns {Map<string, Cursor>} by user id */
  get cursors() {
    return this.#cursors.shown(this.#pendingOperations);
  }

  /** Returns false if the text would be too long; `refused` is told why. @param {Operation} operation */
  edit(operation) {
    if (!this.isWritable) throw new Error("the document cannot be edited: it has not come yet, is over, or may only be read");
    const edit = normalize(operation);
    return this.#perform(edit, (inverse) => this.#history.record(edit, inverse));
  }

  insert(position, text) {
    return this.edit([position, text]);
  }

  delete(position, length) {
    return this.edit([position, -length]);
  }

  /** Edits what is different. `caret`: where it was typed, as UTF-16 index in the new text; it decides between equal letters. */
  replaceText(text, caret) {
    return this.edit(diff(this.#text, text, caret));
  }

  /** Takes back the last own edit that is not taken back; returns whether there was one. */
  undo() {
    const operation = this.isWritable && this.#history.undo();
    return operation ? this.#perform(operation, (inverse) => this.#history.undone(inverse)) : false;
  }

  redo() {
    const operation = this.isWritable && this.#history.redo();
    return operation ? this.#perform(operation, (inverse) => this.#history.redone(inverse)) : false;
  }

  /** Where the user's cursor is, and where its selection ends; null: nowhere. Others' edits and the own move it. */
  setCursor(position, selectionEnd = position) {
    this.#cursors.placeOwn(position === null ? null : { position, selectionEnd });
    this.#tellCursor();
  }

  /** Leaves for good. What is `pending` then may not arrive. */
  leave() {
    this.#end("left");
    this.channel.leave();
  }

  // ------------------------------------------------------------------------------------------------------ membership

  get #canResume() {
    return this.#version !== null && !this.#isAstray;
  }

  get #position() {
    return { epoch: this.#epoch, seq: this.#version };
  }

  /** What comes for an earlier membership, or for one that is not answered yet, comes again when this one catches up. */
  #on(event, handle) {
    this.channel.on(event, (payload) => this.#membership && handle(payload));
  }

  #joined({ epoch, user_id: userId, read_only: isReadOnly, version, length }) {
    this.#endMembership();
    this.#membership = new Membership(this.channel, this.#socket);
    this.userId = userId;
    this.isReadOnly = isReadOnly;
    if (epoch === this.#epoch) this.#measured = { version, length };
    this.#setState(this.#version === null ? "joining" : "catching_up");
  }

  #notJoined(refusal) {
    // phoenix joins again by itself, for ever; that is right only for what passes.
    if (PASSING.has(refusal.reason)) {
      this.#setState("waiting", refusal.reason);
    } else {
      this.#end(refusal.reason);
      this.channel.leave();
    }
  }

  #lost() {
    if (this.#state === "ended") return;
    this.#endMembership();
    this.#setState("waiting");
    this.#forgetCursors();
  }

  #end(reason) {
    if (this.#state === "ended") return;
    this.#endMembership();
    this.#setState("ended", reason);
    this.#forgetCursors();
  }

  #endMembership() {
    this.#membership?.end();
    this.#membership = this.#measured = this.#unresolved = null;
    this.#isSending = this.#isCursorDue = false;
    this.#cursors.told(null);
    this.#held = [];
    this.#parts = [];
  }

  #setState(state, reason = null) {
    // A handler may have left.
    if (state === this.#state || this.#state === "ended") return;
    this.#state = state;
    this.#tell("state", state, { reason });
  }

  #tell(name, ...details) {
    for (const handlers of [...this.#listeners]) handlers[name]?.(...details);
  }

  // -------------------------------------------------------------------------------------------------------- own edits

  #perform(operation, remember) {
    const text = apply(this.#text, operation);
    // What others have written may have made it too long: then it can be made shorter.
    if (isTooLong(text) && text.length >= this.#text.length) {
      this.#tell("refused", { reason: `the text would have more than ${MAX_TEXT_BYTES} bytes`, operation });
      return false;
    }
    if (operation.length === 0) return true;
    remember(invert(this.#text, operation));
    this.#text = text;
    this.#bufferedEdits = (this.#buffer.length > 0 ? this.#bufferedEdits : 0) + 1;
    this.#buffer = compose(this.#buffer, operation);
    this.#cursors.moveOwn(operation, true);
    this.#send();
    this.#tell("changed", { operation, isOwn: true, userId: this.userId });
    this.#tellCursor();
    return true;
  }

  /** Sends the outstanding edit, or the next one. */
  #send() {
    const mayAsk = this.#state === "live" || this.#unresolved !== null;
    if (this.#isSending || !mayAsk) return;
    // What others' edits have made nothing of needs no version.
    if (this.#outstanding?.operation.length === 0 && !this.#unresolved) this.#outstanding = null;
    if (this.#outstanding === null) {
      if (this.#buffer.length === 0) return;
      const [operation, rest] = cut(this.#buffer, MAX_PART_BYTES, MAX_PART_COMPONENTS);
      this.#outstanding = { operation, id: randomId(), edits: rest.length > 0 ? 0 : this.#bufferedEdits };
      this.#buffer = rest;
    }
    const { operation, id } = this.#outstanding;
    this.#isSending = true;
    const edit = { op: operation, version: this.#version, epoch: this.#epoch, op_id: id };
    this.#membership?.push("operation", edit, (status, response) => {
      // It may have been answered by what others were told.
      if (this.#outstanding?.id !== id) return;
      this.#isSending = false;
      if (status === "ok") this.#acknowledged(response.version);
      else if (status === "timeout") this.#send();
      else this.#notTaken(response);
    });
  }

  #acknowledged(version) {
    if (this.#unresolved) return this.#resolve(true, version);
    // What is missing has it, too, and then it is in order.
    if (version > this.#version + 1) return this.#catchUp();
    if (version <= this.#version) return this.#goneAstray();
    this.#advance(this.#outstanding.operation, this.userId);
    this.#settled();
  }

  /** The outstanding edit is in #agreed. */
  #settled() {
    this.#outstanding = null;
    this.#isSending = false;
    this.#send();
    this.#tellCursor();
    this.#tell("saved");
  }

  #notTaken(refusal) {
    const { reason } = refusal;
    if (isPassing(refusal)) {
      const { id } = this.#outstanding;
      this.#isSending = true;
      this.#membership?.later(refusal.retry_after ?? RETRY_MS, () => {
        if (this.#outstanding?.id !== id) return;
        this.#isSending = false;
        this.#send();
      });
    } else if (this.#unresolved) {
      // A guest whose name was drawn anew is another user now.
      this.#resolve(reason === "op_id_taken");
    } else if (reason === "too_old") {
      // `doc_state` follows. Mostly it is the text that is here already, and the edit can be sent for that.
      this.#setState("catching_up");
    } else if (reason === "ahead") {
      this.#goneAstray();
    } else {
      this.#takeBack(reason);
    }
  }

  #takeBack(reason) {
    const { operation } = this.#outstanding;
    const [change, buffer] = transform(invert(this.#agreed, operation), this.#buffer);
    this.#outstanding = null;
    this.#buffer = buffer;
    // To take back once more what is in the list would do harm.
    this.#history.clear();
    this.#show(apply(this.#text, change), change, null);
    this.#tell("refused", { reason, operation });
    this.#send();
  }

  // ---------------------------------------------------------------------------------------------------- others' edits

  #told(news) {
    if (this.#state !== "live") {
      this.#held.push(news);
    } else if (!this.#take(news)) {
      this.#held.push(news);
      this.#catchUp();
    }
  }

  /** Returns false if something before it is missing. */
  #take({ event, payload }) {
    if (event === "cursor") return this.#cursorTold(payload);
    if (payload.version > this.#version + 1) return false;
    if (payload.version === this.#version + 1) this.#next(payload);
    return true;
  }

  /** The operation that makes the next version. */
  #next({ op, user_id: userId, op_id: id }) {
    let operation;
    try {
      operation = normalize(op);
      this.#advance(operation, userId);
    } catch {
      return this.#goneAstray();
    }
    // It was sent over a connection that was lost with the answer.
    if (id !== undefined && id === this.#outstanding?.id) return this.#settled();
    const [behind, outstanding] = transform(operation, this.#outstanding?.operation ?? []);
    const [change, buffer] = transform(behind, this.#buffer);
    if (this.#outstanding) this.#outstanding.operation = outstanding;
    this.#buffer = buffer;
    this.#history.transform(change);
    this.#show(apply(this.#text, change), change, userId);
  }

  #advance(operation, userId) {
    this.#agreed = apply(this.#agreed, operation);
    this.#version += 1;
    this.#cursors.advance(operation, userId, this.userId);
  }

  /** A change that the user did not make. */
  #show(text, operation, userId) {
    this.#text = text;
    this.#cursors.moveOwn(operation, false);
    if (operation.length > 0) this.#tell("changed", { operation, isOwn: false, userId });
    this.#tellCursor();
  }

  // ------------------------------------------------------------------------------------------------------ catching up

  #catchUp() {
    this.#setState("catching_up");
    this.#membership?.push("operations", { after: this.#version }, (status, response) => {
      if (status === "ok") this.#page(response);
      else if (status === "timeout") this.#catchUp();
      else if (isPassing(response)) this.#membership?.later(response.retry_after ?? RETRY_MS, () => this.#catchUp());
      // They are not kept any more.
      else this.#askForText();
    });
  }

  /** What was missed: the push that answers a join, and what was asked for. */
  #page({ operations, more }) {
    if (this.#version === null || this.#unresolved) return;
    this.#measure();
    for (const operation of operations) {
      if (this.#isAstray) return;
      if (!this.#take({ event: "operation", payload: operation })) return this.#goneAstray();
      this.#measure();
    }
    if (this.#isAstray) return;
    if (more) this.#catchUp();
    else this.#caughtUp();
  }

  #caughtUp() {
    while (this.#held.length > 0) {
      if (!this.#take(this.#held[0])) return this.#catchUp();
      this.#held.shift();
      if (this.#isAstray) return;
    }
    this.#setState("live");
    this.#send();
    this.#tellCursor();
  }

  /** An operator may have put a backup in place, with other edits under the same numbers. */
  #measure() {
    if (this.#version === this.#measured?.version && scalarLength(this.#agreed) !== this.#measured.length) this.#goneAstray();
  }

  #goneAstray() {
    this.#isAstray = true;
    this.#askForText();
  }

  #askForText() {
    this.#setState("catching_up");
    const lastSeen = this.#canResume ? this.#position : NOTHING_SEEN;
    // It has no reply if it is taken, so a timeout says nothing.
    this.#membership?.push("reconnect", { last_seen: lastSeen }, (status, { retry_after: retryMs = RETRY_MS }) => {
      if (status === "error") this.#membership?.later(retryMs, () => this.#askForText());
    });
  }

  // -------------------------------------------------------------------------------------------------- the whole text

  #statePart({ version, epoch, content, part, parts }) {
    if (part === 1) this.#parts = [];
    this.#parts.push(content);
    if (part === parts) this.#stated({ version, epoch, text: this.#parts.join("") });
  }

  #stated(state) {
    const follows = state.epoch === this.#epoch && state.version >= this.#version && !this.#isAstray;
    if (follows && state.version === this.#version) return this.#caughtUp();
    if (follows && this.#outstanding) {
      // Whether it is in this text only the relay knows, by its id.
      this.#unresolved = state;
      this.#setState("catching_up");
      return this.#send();
    }
    this.#replace(state, this.pending);
  }

  /** The relay knows the outstanding edit, or it does not and never will: it was made for a version that is gone. */
  #resolve(isIn, version = 0) {
    const state = this.#unresolved;
    this.#unresolved = null;
    this.#replace(state, !isIn || this.#buffer.length > 0);
    if (version > this.#version) this.#catchUp();
  }

  #replace({ version, epoch, text }, isConflict) {
    const mine = this.#text;
    this.#version = version;
    this.#epoch = epoch;
    this.#agreed = text;
    this.#outstanding = null;
    this.#buffer = [];
    this.#isSending = this.#isAstray = false;
    this.#history.clear();
    this.#measured = null;
    this.#cursors.told(null);
    this.#forgetCursors();
    this.#show(text, diff(mine, text), null);
    if (isConflict && mine !== text) this.#tell("conflict", { mine, theirs: text });
    this.#caughtUp();
  }

  // ---------------------------------------------------------------------------------------------------------- cursors

  #cursorTold({ user_id: user, position, selection_end: selectionEnd, version }) {
    if (position === null) {
      this.#cursors.delete(user);
    } else {
      if (version > this.#version) return false;
      // One that was held may be of a longer text.
      const inText = (at) => (version < this.#version ? Math.min(at, scalarLength(this.#agreed)) : at);
      this.#cursors.set(user, { position: inText(position), selectionEnd: inText(selectionEnd ?? position) });
    }
    this.#tell("cursors");
    return true;
  }

  #forgetCursors() {
    if (this.#cursors.isEmpty) return;
    this.#cursors.forgetOthers();
    this.#tell("cursors");
  }

  #tellCursor() {
    if (this.#state !== "live" || this.#isCursorDue) return;
    const cursor = this.#cursors.untold(this.#pendingOperations);
    if (cursor === undefined) return;
    const waitMs = this.#cursorToldAt + CURSOR_INTERVAL_MS - performance.now();
    if (waitMs > 0) return this.#tellCursorIn(waitMs);
    this.#cursorToldAt = performance.now();
    this.#cursors.told(cursor);
    const { position, selectionEnd } = cursor ?? { position: null };
    const payload = { position, ...(selectionEnd !== position && { selection_end: selectionEnd }), version: this.#version };
    this.#membership?.push("cursor", payload, (status, { retry_after: retryMs = RETRY_MS }) => {
      if (status !== "error" || this.#isCursorDue) return;
      this.#cursors.told(null);
      this.#tellCursorIn(retryMs);
    });
  }

  #tellCursorIn(ms) {
    this.#isCursorDue = true;
    this.#membership?.later(ms, () => {
      this.#isCursorDue = false;
      this.#tellCursor();
    });
  }
}

function isPassing({ reason, retry_after: retryMs }) {
  return retryMs !== undefined || PASSING.has(reason) || reason === NO_MEMBER;
}

function isTooLong(text) {
  return text.length * 3 > MAX_TEXT_BYTES && new TextEncoder().encode(text).length > MAX_TEXT_BYTES;
}

function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
