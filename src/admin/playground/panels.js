// The lists beside the map: who is here, and what happened.

import { hueOf } from "./stage.js";

const LOG_ENTRIES_MAX = 300;

export class Roster {
  #list = document.getElementById("roster");
  #empty = document.getElementById("roster-empty");
  #rows = new Map();

  /** `players`: Map of id → {name, user, status}. */
  show(players, ownId) {
    for (const [id, row] of this.#rows) {
      if (players.has(id)) continue;
      row.item.remove();
      this.#rows.delete(id);
    }
    for (const [id, { name, user, status = "online" }] of players) {
      const row = this.#rows.get(id) ?? this.#add(id);
      row.name.textContent = name;
      row.item.title = `user ${user}, player ${id}`;
      row.you.hidden = id !== ownId;
      row.status.textContent = status;
      row.item.dataset.status = status;
    }
    this.#empty.hidden = players.size > 0;
  }

  /** `positionOf(id)` gives {x, y} or undefined. */
  showPositions(positionOf) {
    for (const [id, { place }] of this.#rows) {
      const position = positionOf(id);
      place.textContent = position ? `${position.x.toFixed(1)}, ${position.y.toFixed(1)}` : "–";
    }
  }

  #add(id) {
    const item = document.createElement("li");
    item.style.setProperty("--hue", hueOf(id));
    const part = (className, text = "") => {
      const span = document.createElement("span");
      span.className = className;
      span.textContent = text;
      item.append(span);
      return span;
    };
    part("swatch");
    const row = { item, name: part("name"), you: part("you", "you"), place: part("place"), status: part("state") };
    this.#list.append(item);
    this.#rows.set(id, row);
    return row;
  }
}

export class Log {
  #list = document.getElementById("log");
  #empty = document.getElementById("log-empty");

  constructor() {
    document.getElementById("clear").addEventListener("click", () => {
      this.#list.replaceChildren();
      this.#empty.hidden = false;
    });
  }

  /** `kind` is one word: join, leave, event, correction, notice, error, close, relay. */
  add(kind, text) {
    const now = new Date();
    const entry = document.createElement("li");
    entry.dataset.kind = kind;
    const time = document.createElement("time");
    time.textContent = now.toTimeString().slice(0, 8);
    time.dateTime = now.toISOString();
    time.title = now.toISOString();
    const tag = document.createElement("b");
    tag.textContent = kind;
    const words = document.createElement("span");
    words.textContent = text;
    entry.append(time, tag, words);
    this.#list.prepend(entry);
    while (this.#list.childElementCount > LOG_ENTRIES_MAX) this.#list.lastElementChild.remove();
    this.#empty.hidden = true;
  }
}
