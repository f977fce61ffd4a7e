// The lines of a text as elements that wrap as a text area does, to measure where something stands in it; nothing of them is seen.
// Only lines that have changed are laid out again, so a long text is cheap to edit.

export class Lines {
  #box;
  #lines = []; // {text, scalars, node}
  #shown = null;

  constructor(box) {
    this.#box = box;
  }

  show(text) {
    if (text === this.#shown) return;
    this.#shown = text;
    const next = text.split("\n");
    const before = this.#lines;
    const most = Math.min(before.length, next.length);
    let head = 0;
    while (head < most && before[head].text === next[head]) head++;
    let tail = 0;
    while (tail < most - head && before.at(-1 - tail).text === next.at(-1 - tail)) tail++;
    const added = next.slice(head, next.length - tail).map(lineOf);
    for (const { node } of before.slice(head, before.length - tail)) node.remove();
    const behind = tail > 0 ? before[before.length - tail].node : null;
    const nodes = document.createDocumentFragment();
    nodes.append(...added.map(({ node }) => node));
    this.#box.insertBefore(nodes, behind);
    this.#lines = [...before.slice(0, head), ...added, ...before.slice(before.length - tail)];
  }

  clear() {
    this.#lines = [];
    this.#shown = null;
    this.#box.replaceChildren();
  }

  /** Where a position, in characters of the text, is: {line, index}, the index in UTF-16 units of the line. */
  find(position) {
    let left = position;
    for (const [line, { text, scalars }] of this.#lines.entries()) {
      if (left <= scalars) return { line, index: left === scalars ? text.length : indexOf(text, left) };
      left -= scalars + 1;
    }
    return { line: this.#lines.length - 1, index: this.#lines.at(-1).text.length };
  }

  /** Where a caret stands, in pixels of the box: {left, top, height}. */
  caretAt({ line, index }) {
    const { text, node } = this.#lines[line];
    const rect = this.#rects(line, index, index + (text.codePointAt(index) > 0xffff ? 2 : 1))[0];
    // A line feed need not have a place of its own.
    return rect ?? { left: 0, top: node.offsetTop, height: node.offsetHeight, width: 0 };
  }

  /** What is covered from one place to another, of the lines that reach between `top` and `bottom`. */
  covered(from, to, top, bottom) {
    const first = Math.max(from.line, this.#lineBelow(top));
    const rects = [];
    for (let line = first; line <= to.line && this.#lines[line].node.offsetTop < bottom; line++) {
      const begin = line === from.line ? from.index : 0;
      const end = line === to.line ? to.index : this.#lines[line].text.length + 1;
      rects.push(...this.#rects(line, begin, end));
    }
    return rects;
  }

  #rects(line, begin, end) {
    if (begin === end) return [];
    const text = this.#lines[line].node.firstChild;
    const range = document.createRange();
    range.setStart(text, begin);
    range.setEnd(text, end);
    const box = this.#box.getBoundingClientRect();
    return Array.from(range.getClientRects(), ({ left, top, width, height }) => ({ left: left - box.left, top: top - box.top, width, height }));
  }

  /** The first line of which something is below `top`. */
  #lineBelow(top) {
    let [low, high] = [0, this.#lines.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      const { offsetTop, offsetHeight } = this.#lines[middle].node;
      if (offsetTop + offsetHeight > top) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

function lineOf(text) {
  const node = document.createElement("div");
  // Its line feed gives an empty line its height, and what is behind the last character a place.
  node.textContent = `${text}\n`;
  return { text, scalars: scalarsOf(text), node };
}

function scalarsOf(text) {
  let count = 0;
  for (const _char of text) count++;
  return count;
}

function indexOf(text, scalars) {
  let index = 0;
  for (; scalars > 0; scalars--) index += text.codePointAt(index) > 0xffff ? 2 : 1;
  return index;
}
