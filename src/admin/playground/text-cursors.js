// The others' cursors and selections, drawn over a text area. It goes with the wrapping, the scrolling and the size of the area.

import { part } from "./chat-rows.js";
import { Lines } from "./text-lines.js";

/** A name is read once; later it is only in the way of the text. */
const NAME_MS = 3000;

export class CursorLayer {
  #area;
  #layer;
  #inner = part("div", "inner");
  #covers = part("div", "covers");
  #lines;
  #carets = new Map(); // user id → {node, name, place, movedAt}
  #shown = { text: "", cursors: [] };
  #isDue = false;

  /** `layer` lies over the text area `area`. */
  constructor(area, layer) {
    this.#area = area;
    this.#layer = layer;
    const mirror = part("div", "mirror");
    this.#lines = new Lines(mirror);
    this.#inner.append(mirror, this.#covers);
    layer.append(this.#inner);
    area.addEventListener("scroll", () => this.#drawSoon());
    new ResizeObserver(() => this.#drawSoon()).observe(area);
  }

  /** `cursors`: [{user, name, hue, position, selectionEnd}, …], in characters of the text. */
  show(text, cursors) {
    this.#shown = { text, cursors };
    this.#draw();
  }

  /** What time changes. */
  tick(now) {
    for (const { node, movedAt } of this.#carets.values()) node.classList.toggle("still", now - movedAt > NAME_MS);
  }

  #drawSoon() {
    if (this.#isDue || this.#shown.cursors.length === 0) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#draw();
    });
  }

  #draw() {
    const { text, cursors } = this.#shown;
    this.#forgetBut(new Set(cursors.map(({ user }) => user)));
    // Who edits alone pays nothing.
    if (cursors.length === 0) return this.#lines.clear();
    const { clientWidth, clientHeight, scrollTop } = this.#area;
    // Without the scroll bar, and the inner edge of the border.
    this.#inner.style.setProperty("width", `${clientWidth}px`);
    this.#layer.style.setProperty("height", `${clientHeight}px`);
    this.#inner.style.setProperty("transform", `translateY(${-scrollTop}px)`);
    this.#lines.show(text);
    const covers = [];
    for (const cursor of cursors) {
      const ends = [this.#lines.find(cursor.position), this.#lines.find(cursor.selectionEnd)];
      this.#placeCaret(cursor, this.#lines.caretAt(ends[0]), scrollTop);
      if (cursor.selectionEnd < cursor.position) ends.reverse();
      for (const rect of this.#lines.covered(...ends, scrollTop, scrollTop + clientHeight)) covers.push(coverOf(cursor, rect));
    }
    this.#covers.replaceChildren(...covers);
  }

  #forgetBut(users) {
    for (const [user, { node }] of this.#carets) {
      if (users.has(user)) continue;
      node.remove();
      this.#carets.delete(user);
    }
    if (users.size === 0) this.#covers.replaceChildren();
  }

  #placeCaret({ user, name, hue }, { left, top, height }, scrollTop) {
    const caret = this.#carets.get(user) ?? this.#addCaret(user);
    caret.name.textContent = name;
    const place = `${left} ${top}`;
    if (caret.place !== place) caret.movedAt = performance.now();
    caret.place = place;
    const { node } = caret;
    node.style.setProperty("--hue", hue);
    node.style.setProperty("height", `${height}px`);
    node.style.setProperty("transform", `translate(${left}px, ${top}px)`);
    node.classList.remove("still");
    // The name stays within what is seen.
    node.classList.toggle("below", top - scrollTop < height);
    node.classList.toggle("leftward", left > this.#inner.clientWidth / 2);
    this.tick(performance.now());
  }

  #addCaret(user) {
    const caret = { node: part("div", "caret"), name: part("bdi", "flag"), place: null, movedAt: -Infinity };
    caret.node.dataset.user = user;
    caret.node.append(caret.name);
    this.#inner.append(caret.node);
    this.#carets.set(user, caret);
    return caret;
  }
}

function coverOf({ user, hue }, { left, top, width, height }) {
  const cover = part("div", "cover");
  cover.dataset.user = user;
  cover.style.setProperty("--hue", hue);
  // Of a line feed that is selected something is seen, too.
  for (const [key, value] of Object.entries({ left, top, width: Math.max(width, 4), height })) cover.style.setProperty(key, `${value}px`);
  return cover;
}
