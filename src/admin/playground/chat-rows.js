// The messages of a room as rows of a list. What others wrote is text, never markup, and cannot turn the direction of what is around it.

import { timeText, visibleText } from "./chat-words.js";
import { hueOf } from "./stage.js";

/** Messages of one user within this time stand under one name. */
const TOGETHER_MS = 5 * 60_000;

/** Hue of a user, by its id. */
export function hueOfUser(userId) {
  let hash = 0;
  for (const char of userId) hash = (hash * 31 + char.codePointAt(0)) % 65_521;
  return hueOf(hash);
}

/** The dot of a user's colour. */
export function swatchOf(userId, hue = hueOfUser(userId)) {
  const swatch = part("span", "swatch");
  swatch.dataset.user = userId;
  swatch.style.setProperty("--hue", hue);
  return swatch;
}

/** An element with a class and a text. */
export function part(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

export class Rows {
  #list;
  #on;
  #rows = new Map(); // key → {item, shown}
  #line = part("li", "line", "new");
  #editing = null; // {id, field}

  /** Handlers: `open(button, message)` for the menu of a message, `edit(id, body)`, `again(entry)`, `discard(entry)`, `done()` after an edit; `hueOf(user)`. */
  constructor(list, handlers) {
    this.#list = list;
    this.#on = handlers;
    this.#line.role = "separator";
  }

  /** `chat` as it is now; `hasMenu(message)`: whether anything can be done with it. */
  show(chat, hasMenu) {
    const items = [];
    const kept = new Set();
    let before = null;
    const firstNew = firstNewOf(chat);
    for (const message of chat.messages.list) {
      if (message === firstNew) {
        items.push(this.#line);
        before = null;
      }
      items.push(this.#keep(kept, message.id, message, () => this.#message(message, chat.userId, hasMenu(message))));
      items.at(-1).classList.toggle("continued", isContinued(before, message));
      before = message;
    }
    for (const entry of chat.outbox.entries) {
      if (entry.isTold) continue;
      const fate = fateOf(entry, chat.state);
      items.push(this.#keep(kept, entry.clientId, fate, () => this.#pending(entry, fate)));
    }
    for (const key of this.#rows.keys()) if (!kept.has(key)) this.#rows.delete(key);
    this.#arrange(items);
  }

  clear() {
    this.#rows.clear();
    this.#editing = null;
    this.#list.replaceChildren();
  }

  /** Counts down in the rows that wait. */
  tick(outbox, now) {
    for (const entry of outbox.entries) {
      const countdown = this.#rows.get(entry.clientId)?.item.querySelector(".countdown");
      if (countdown && entry.retryAt !== null) countdown.textContent = ` Again in ${Math.max(0, Math.ceil((entry.retryAt - now) / 1000))} s.`;
    }
  }

  /** Turns a row into a field. */
  edit(message) {
    this.stopEditing();
    const row = this.#rows.get(message.id);
    if (!row) return;
    const field = part("textarea", "edit");
    field.value = message.body;
    field.rows = 1;
    field.setAttribute("aria-label", "Edit message: Enter saves, Escape cancels");
    field.addEventListener("keydown", (event) => this.#editKey(event, message));
    this.#editing = { id: message.id, field };
    row.item.classList.add("edits");
    row.item.querySelector(".text").after(field, part("small", "keys", "Enter saves · Esc cancels"));
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  stopEditing() {
    if (!this.#editing) return;
    const item = this.#editing.field.closest("li");
    this.#editing = null;
    item?.classList.remove("edits");
    for (const node of item?.querySelectorAll(".edit, .keys") ?? []) node.remove();
    this.#on.done();
  }

  get lineElement() {
    return this.#line.isConnected ? this.#line : null;
  }

  #editKey(event, message) {
    if (event.key === "Escape") {
      event.preventDefault();
      this.stopEditing();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      const body = event.target.value;
      this.stopEditing();
      if (body.trim() && body !== message.body) this.#on.edit(message.id, body);
    }
  }

  #keep(kept, key, shown, make) {
    kept.add(key);
    const row = this.#rows.get(key);
    if (row && row.shown === shown) return row.item;
    if (this.#editing?.id === key) this.stopEditing();
    const item = make();
    this.#rows.set(key, { item, shown });
    return item;
  }

  /** Moves only what is out of place: who has the focus in a row keeps it. */
  #arrange(items) {
    const wanted = new Set(items);
    for (const item of [...this.#list.children]) if (!wanted.has(item)) item.remove();
    let place = this.#list.firstElementChild;
    for (const item of items) {
      if (item === place) place = place.nextElementSibling;
      else this.#list.insertBefore(item, place);
    }
  }

  #message(message, ownId, hasMenu) {
    const item = part("li", "message");
    item.dataset.id = message.id;
    if (message.deleted) {
      item.classList.add("deleted");
      item.append(part("p", "text", "Message deleted"));
      return item;
    }
    const name = visibleText(message.name);
    item.classList.toggle("own", message.user_id === ownId);
    item.append(head(name, swatchOf(message.user_id, this.#on.hueOf(message.user_id)), message.user_id, message.inserted_at));
    const text = part("p", "text");
    text.append(part("bdi", "words", visibleText(message.body)));
    if (message.edited_at) {
      const mark = part("small", "mark", "edited");
      mark.title = `edited ${timeText(message.edited_at)}`;
      text.append(" ", mark);
    }
    item.append(text);
    if (hasMenu) item.append(this.#menuButton(message, name));
    return item;
  }

  #menuButton(message, name) {
    const button = part("button", "dots", "⋯");
    button.type = "button";
    button.setAttribute("aria-label", `Actions for the message of ${name}`);
    button.setAttribute("aria-haspopup", "menu");
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => this.#on.open(button, message));
    return button;
  }

  #pending(entry, fateText) {
    const item = part("li", `message own pending ${entry.state}`);
    const text = part("p", "text");
    text.append(part("bdi", "words", visibleText(entry.body)));
    const fate = part("p", "fate", fateText);
    item.append(text, fate);
    if (entry.state !== "refused") return item;
    fate.append(part("span", "countdown"), " ");
    for (const [label, act] of [["Send again", () => this.#on.again(entry)], ["Discard", () => this.#on.discard(entry)]]) {
      const button = part("button", "link", label);
      button.type = "button";
      button.addEventListener("click", act);
      fate.append(button, " ");
    }
    return item;
  }
}

/** What becomes of what was said. */
function fateOf({ state, why }, chatState) {
  if (state === "refused") return `Refused: ${why}.`;
  if (state === "sending") return "sending…";
  return chatState === "joined" ? "waits for its turn" : "waits for the connection";
}

/** The first message of another behind the line. */
function firstNewOf({ line, userId, messages }) {
  if (line === null) return undefined;
  return messages.list.find((message) => message.seq > line && message.user_id !== userId && !message.deleted);
}

function head(name, swatch, userId, at) {
  const line = part("p", "by");
  const who = part("bdi", "name", name);
  who.title = `user ${visibleText(userId)}`;
  const time = part("time", "", timeText(at));
  time.dateTime = new Date(at).toISOString();
  time.title = time.dateTime;
  line.append(swatch, who, time);
  return line;
}

function isContinued(before, message) {
  if (!before || before.deleted || message.deleted || before.user_id !== message.user_id) return false;
  return message.inserted_at - before.inserted_at < TOGETHER_MS;
}
