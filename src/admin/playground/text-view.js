// The document's panel: a text that several edit, who is here, where they are in it, and what is not saved yet.

import { part, hueOfUser, swatchOf } from "./chat-rows.js";
import { typingText, visibleText } from "./chat-words.js";
import { SharedText } from "./text.js";
import { CursorLayer } from "./text-cursors.js";
import { Kept } from "./text-kept.js";
import { refusalText, stateText, versionText } from "./text-words.js";
import { bindTextarea } from "./textarea.mjs";
import { closeText } from "./words.js";

const TICK_MS = 250;
const MEMBERS_SHOWN = 40;
/** A note about an edit holds so much of what was taken back. */
const EXCERPT_CHARS = 60;

const element = (id) => document.getElementById(`text-${id}`);

export class TextPanel {
  #text = null;
  #unbind = null;
  #options;
  #findCause;
  #hueOf;
  #log;
  #form = element("enter");
  #area = element("area");
  #cursors = new CursorLayer(this.#area, element("layer"));
  #kept = new Kept(() => this.#draw());
  #isDrawing = false;
  #membersShown = "";

  /** `options()`, `cause(before)`, `refusals()`, `log`, `changed` and `hueOf(user)` are as the room's panel has them. */
  constructor({ options, refusals, cause, log, changed, hueOf }) {
    this.#options = options;
    this.#hueOf = (user) => hueOf(user) ?? hueOfUser(user);
    this.#findCause = { refusals, cause };
    this.#log = log;
    this.changed = changed;
    this.#listen();
    setInterval(() => this.#tick(), TICK_MS);
  }

  /** The name of the document that is open, or null. */
  get name() {
    return this.#text?.name ?? null;
  }

  /** For tests and the curious. */
  get state() {
    if (!this.#text) return null;
    const { state, document: { userId: user, version, pendingEdits, text, cursors } } = this.#text;
    return { state, user, version, pendingEdits, text, cursors: [...cursors] };
  }

  /** The document of that name is what the form proposes, unless somebody wrote another one. */
  propose(name) {
    if (!this.#form.doc.dataset.chosen) this.#form.doc.value = name || "notes";
  }

  async open() {
    const doc = this.#form.doc.value.trim() || "notes";
    const options = { ...this.#options(), doc };
    if (!URL.canParse(options.relay)) return this.#trouble("The relay's address is not one", "See “Relay and token” in the form.", "");
    this.#note(null);
    const before = await this.#findCause.refusals();
    if (this.#text) return;
    const whileCurrent = (handle) => (...details) => (text === undefined || text === this.#text ? handle(...details) : undefined);
    let text;
    text = new SharedText(options, {
      changed: whileCurrent(() => this.#draw()),
      log: whileCurrent((kind, words) => this.#log.add(kind, words)),
      conflict: whileCurrent((texts) => this.#conflict(texts)),
      refused: whileCurrent((refusal) => this.#refused(refusal)),
      ended: whileCurrent((how) => this.#ended(how, before)),
    });
    this.#text = text;
    this.#unbind = bindTextarea(text.document, this.#area);
    this.#draw();
    this.#area.focus({ preventScroll: true });
  }

  leave() {
    const before = this.#unsaved();
    this.#text?.leave();
    this.#forget();
    this.#keep(before, "You left while this had not been saved.");
  }

  /** Who plays has the colour that it has on the map. */
  recolor() {
    for (const swatch of element("members").querySelectorAll(".swatch")) swatch.style.setProperty("--hue", this.#hueOf(swatch.dataset.user));
    this.#draw();
  }

  // ------------------------------------------------------------------------------------------------------------ input

  #listen() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.#text) this.open();
    });
    this.#form.doc.addEventListener("input", ({ target }) => (target.dataset.chosen = "yes"));
    element("exit").addEventListener("click", () => this.leave());
    element("note-hide").addEventListener("click", () => this.#note(null));
    for (const step of ["undo", "redo"]) {
      // The caret stays in the text.
      element(step).addEventListener("pointerdown", (event) => event.preventDefault());
      element(step).addEventListener("click", () => this.#text?.document[step]());
    }
    addEventListener("beforeunload", (event) => this.#text?.document.pending && event.preventDefault());
  }

  // ----------------------------------------------------------------------------------------- what could have been lost

  #conflict({ mine, theirs }) {
    this.#log.add("error", `document ${this.name}: your edits could not be brought into its text`);
    this.#kept.add({ mine, theirs, why: "The document has another text now, into which your last edits could not be brought. Nothing of yours is lost: copy what you need." });
  }

  #refused({ reason, operation }) {
    const typed = visibleText(operation.filter((component) => typeof component === "string").join(" … "));
    const excerpt = typed.length > EXCERPT_CHARS ? `${[...typed].slice(0, EXCERPT_CHARS).join("")}…` : typed;
    this.#log.add("error", `document ${this.name}: an edit was refused: ${reason}`);
    this.#note(`An edit was refused and taken back: ${refusalText(reason)}.${excerpt ? ` It had “${excerpt}”.` : ""}`, true);
  }

  /** The text that would go with the document; null if all of it is saved. */
  #unsaved() {
    const shared = this.#text?.document;
    return shared?.pending ? shared.text : null;
  }

  #keep(unsaved, why) {
    if (unsaved !== null) this.#kept.add({ mine: unsaved, theirs: null, why });
  }

  // --------------------------------------------------------------------------------------------------------------- end

  async #ended({ code, reason, denied, opened, everJoined }, before) {
    const { name } = this.#text;
    const unsaved = this.#unsaved();
    this.#forget();
    this.#keep(unsaved, "The document ended before this was saved.");
    if (denied) {
      this.#log.add("error", `document ${name}: ${denied.reason}`);
      return this.#trouble(everJoined ? "You are out of the document" : "The document is not opened", sentence(refusalText(denied.reason)), "");
    }
    if (everJoined || opened || code !== 1006) {
      this.#log.add("close", `document ${name}: ${closeText({ code, reason })}`);
      return this.#trouble("The relay closed the connection", `${closeText({ code, reason })}.`, "");
    }
    this.#trouble(...(await this.#findCause.cause(before)));
  }

  #forget() {
    this.#unbind?.();
    this.#unbind = this.#text = null;
    this.#area.value = "";
    this.#membersShown = "";
    this.#cursors.show("", []);
    this.#draw();
  }

  #trouble(title, text, remedy) {
    this.#note(`${title}. ${text} ${remedy}`, true);
  }

  #note(text, isBad = false) {
    element("note").hidden = text === null;
    element("note").dataset.kind = isBad ? "bad" : "good";
    element("note-text").textContent = text ?? "";
  }

  // ----------------------------------------------------------------------------------------------------------- showing

  /** Many events at once are one drawing. */
  #draw() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#show();
    });
  }

  #show() {
    const text = this.#text;
    for (const id of ["head", "write"]) element(id).hidden = text === null;
    this.#form.hidden = text !== null;
    element("badge").hidden = this.#kept.isEmpty;
    element("name").textContent = text?.name ?? "";
    this.#showState(performance.now());
    this.changed();
    if (!text) return;
    this.#showMembers(text);
    this.#cursors.show(this.#area.value, this.#cursorsOf(text));
  }

  #cursorsOf(text) {
    return Array.from(text.document.cursors, ([user, cursor]) => ({ user, name: visibleText(text.nameOf(user)), hue: this.#hueOf(user), ...cursor }));
  }

  #showState(now) {
    const text = this.#text;
    setText(element("state"), text ? stateText(text, now) : "");
    element("panel").dataset.state = text?.state ?? "none";
    if (!text) return;
    const shared = text.document;
    setText(element("version"), versionText(shared));
    element("version").dataset.saved = String(!shared.pending);
    setText(element("typing"), typingText(text.typing(now).map((user) => visibleText(text.nameOf(user)))));
    element("undo").disabled = !shared.canUndo;
    element("redo").disabled = !shared.canRedo;
    for (const id of ["undo", "redo"]) element(id).hidden = shared.isReadOnly;
  }

  #showMembers(text) {
    const count = text.crowd ?? text.members.size;
    element("count").textContent = count > 0 ? `${count} here` : "";
    const members = text.crowd === null ? [...text.members] : [];
    const typing = new Set(text.typing(performance.now()));
    const shown = JSON.stringify([text.document.userId, text.crowd, members.slice(0, MEMBERS_SHOWN), members.length, [...typing]]);
    if (this.#membersShown === shown) return;
    this.#membersShown = shown;
    const chips = members.slice(0, MEMBERS_SHOWN).map(([user, member]) => this.#chip(user, member, typing.has(user)));
    if (members.length > MEMBERS_SHOWN) chips.push(part("li", "rest", `and ${members.length - MEMBERS_SHOWN} more`));
    if (text.crowd !== null) chips.push(part("li", "rest", "A crowd: the relay says how many, no longer who or where."));
    element("members").replaceChildren(...chips);
  }

  #chip(user, { name, status, devices }, types) {
    const item = part("li", "member");
    item.dataset.status = types ? "typing" : status;
    const box = part("span", "chip");
    box.append(swatchOf(user, this.#hueOf(user)), part("bdi", "name", visibleText(name)));
    if (user === this.#text.document.userId) box.append(part("span", "you", "you"));
    box.title = `user ${visibleText(user)}, ${visibleText(status)}${devices > 1 ? `, ${devices} connections` : ""}`;
    item.append(box);
    return item;
  }

  /** What changes with the time alone. */
  #tick() {
    if (!this.#text) return;
    const now = performance.now();
    this.#showState(now);
    this.#showMembers(this.#text);
    this.#cursors.tick(now);
  }
}

/** What stays the same is not announced again. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}
