// bindTextarea of clients/javascript/textarea.mjs, with a text area that the test plays.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { bindTextarea } from "../../clients/javascript/textarea.mjs";
import { Client, Relay } from "./document_relay.mjs";
import { Random } from "./random.mjs";
import { pass, startTime } from "./virtual_time.mjs";

/** What of a browser's text area the binding sees. */
class FakeTextarea extends EventTarget {
  ownerDocument = Object.assign(new EventTarget(), { activeElement: this });
  readOnly = false;
  selectionStart = 0;
  selectionEnd = 0;
  selectionDirection = "none";
  scrollTop = 0;
  scrollLeft = 0;
  #value = "";

  get value() {
    return this.#value;
  }

  /** As browsers do, it forgets where the user was. */
  set value(text) {
    this.#value = text.replace(/\r\n?/g, "\n");
    this.scrollTop = 0;
    this.setSelectionRange(this.#value.length, this.#value.length);
  }

  setSelectionRange(start, end, direction = "none") {
    assert(start <= end && end <= this.#value.length);
    Object.assign(this, { selectionStart: start, selectionEnd: end, selectionDirection: direction });
  }

  // What the user does.

  select(start, end = start, direction) {
    this.setSelectionRange(start, end, direction);
    this.ownerDocument.dispatchEvent(new Event("selectionchange"));
  }

  type(text) {
    this.replaceSelection(text);
    this.dispatchEvent(new Event("input"));
  }

  replaceSelection(text) {
    const { selectionStart: start, selectionEnd: end } = this;
    this.#value = this.#value.slice(0, start) + text + this.#value.slice(end);
    this.setSelectionRange(start + text.length, start + text.length);
  }

  /** Returns whether the browser does nothing of its own. */
  press(key, more = {}) {
    const event = Object.assign(new Event("keydown", { cancelable: true }), { key, ctrlKey: true, ...more });
    return !this.dispatchEvent(event);
  }
}

beforeEach(startTime);

function bound(text = "") {
  const relay = new Relay();
  if (text) relay.write([text]);
  const [ann, ben] = ["ann", "ben"].map((user) => new Client(relay, user));
  const textarea = new FakeTextarea();
  const unbind = bindTextarea(ann.document, textarea);
  assert(textarea.readOnly, "nothing is typed before the text has come");
  pass(100);
  assert.equal(textarea.readOnly, false);
  return { relay, ann, ben, textarea, unbind };
}

test("what is typed is an edit where it was typed, and the cursor is told", () => {
  const { relay, ben, textarea } = bound("aaa 🦀");
  textarea.select(6);
  textarea.type("!");
  textarea.select(1);
  textarea.type("a");
  pass(200);
  assert.equal(relay.text, "aaaa 🦀!");
  assert.deepEqual(relay.log.slice(1).map(({ op }) => op), [[5, "!"], [1, "a"]]);
  assert.deepEqual(ben.document.cursors.get("ann"), { position: 2, selectionEnd: 2 });
  textarea.select(4, 7);
  pass(200);
  assert.deepEqual(ben.document.cursors.get("ann"), { position: 6, selectionEnd: 4 }, "the cursor is where the selection moves");
  textarea.select(4, 7, "backward");
  pass(200);
  assert.deepEqual(ben.document.cursors.get("ann"), { position: 4, selectionEnd: 6 });
});

test("others' edits leave selection and scrolling where they are", () => {
  const { ben, textarea } = bound("one two three");
  textarea.select(4, 7, "backward");
  textarea.scrollTop = 33;
  ben.document.edit(["🦀", 5, "-", 8, "?"]);
  pass(100);
  assert.equal(textarea.value, "🦀one t-wo three?");
  assert.deepEqual([textarea.selectionStart, textarea.selectionEnd, textarea.selectionDirection, textarea.scrollTop], [6, 10, "backward", 33]);
  textarea.select(2);
  ben.document.insert(1, ">> ");
  pass(100);
  assert.deepEqual([textarea.value.slice(0, 8), textarea.selectionStart], ["🦀>> one", 2]);
});

test("while an input method composes nothing is put into the element, nor read from it", () => {
  const { relay, ben, textarea } = bound("ab");
  textarea.select(1);
  textarea.dispatchEvent(new Event("compositionstart"));
  textarea.type("に");
  ben.document.insert(0, "12");
  ben.document.delete(3, 1);
  pass(100);
  assert.deepEqual([textarea.value, relay.text], ["aにb", "12a"]);
  textarea.setSelectionRange(1, 2);
  textarea.type("日本");
  textarea.dispatchEvent(new Event("compositionend"));
  assert.deepEqual([textarea.value, textarea.selectionStart], ["12a日本", 5]);
  pass(100);
  assert.deepEqual([relay.text, ben.text], ["12a日本", "12a日本"]);
  textarea.dispatchEvent(new Event("input"));
  pass(100);
  assert.equal(relay.text, "12a日本", "some browsers tell of it once more");
});

test("undo and redo are the document's, by keys and by menu", () => {
  const { ben, textarea } = bound("ab");
  textarea.select(1);
  textarea.type("X");
  ben.document.insert(0, "> ");
  pass(1000);
  textarea.select(0);
  assert(textarea.press("z"));
  assert.deepEqual([textarea.value, textarea.selectionStart], ["> ab", 3]);
  assert(textarea.press("Z", { shiftKey: true }));
  assert.deepEqual([textarea.value, textarea.selectionStart], ["> aXb", 4]);
  textarea.press("z", { ctrlKey: false, metaKey: true });
  textarea.press("y");
  assert.equal(textarea.value, "> aXb");
  for (const [inputType, text] of [["historyUndo", "> ab"], ["historyRedo", "> aXb"]]) {
    const event = Object.assign(new Event("beforeinput", { cancelable: true }), { inputType });
    assert.equal(textarea.dispatchEvent(event), false);
    assert.equal(textarea.value, text);
  }
  assert(!textarea.press("z", { ctrlKey: false }));
  assert(!textarea.press("z", { altKey: true }), "AltGr is no Ctrl");
  assert(!textarea.press("c"));
});

test("what the document does not take is taken from the element", () => {
  const { ann, textarea } = bound("a".repeat(262_140));
  textarea.select(3);
  textarea.type("xxxxx");
  assert.equal(textarea.value, ann.text);
  assert.deepEqual([textarea.value.length, textarea.selectionStart, ann.refusals.length], [262_140, 3, 1]);
  textarea.type("\ud83e");
  assert.deepEqual([textarea.value.slice(3, 4), textarea.selectionStart, ann.text === textarea.value], ["\ufffd", 4, true]);
});

test("carriage returns of others do not shift what is typed", () => {
  const { relay, ann, textarea } = bound("a\r\nb\rc");
  textarea.select(6);
  textarea.type("!");
  pass(100);
  assert.equal(relay.text, "a\r\nb\rc!");
  relay.write([7, "\r?"]);
  pass(100);
  assert.equal(textarea.value.length, ann.text.length);
});

test("an edit by the program moves the caret behind it", () => {
  const { ann, textarea } = bound("ab");
  textarea.select(1);
  ann.document.insert(1, "🦀");
  assert.deepEqual([textarea.value, textarea.selectionStart], ["a🦀b", 3]);
});

test("when it is over the element can only be read, and unbound it is as before", () => {
  const { ann, ben, textarea, unbind } = bound("ab");
  textarea.select(1);
  pass(100);
  assert.equal(ben.document.cursors.size, 1);
  ann.document.leave();
  assert(textarea.readOnly);
  textarea.type("X");
  assert.equal(textarea.value, "ab", "a browser that types all the same");
  unbind();
  assert.equal(textarea.readOnly, false);
  textarea.type("Y");
  assert.equal(ann.text, "ab");
});

test("unbound, an element is not changed, and its cursor is nowhere", () => {
  const { ben, textarea, unbind } = bound("ab");
  textarea.select(1);
  pass(100);
  unbind();
  ben.document.insert(0, "x");
  pass(100);
  assert.deepEqual([textarea.value, ben.document.cursors.size], ["ab", 0]);
});

test("whatever both do, element and document are equal", () => {
  for (let seed = 1; seed <= 100; seed++) {
    startTime();
    const random = new Random(seed);
    const { relay, ann, ben, textarea } = bound(random.text(20));
    let isComposing = false;
    for (let step = 0; step < 40; step++) {
      const ends = [random.upTo(textarea.value.length), random.upTo(textarea.value.length)].sort((one, other) => one - other);
      // A selection never cuts a character.
      if (random.chance(0.3) && ends.every((end) => (textarea.value.charCodeAt(end) & 0xfc00) !== 0xdc00)) textarea.select(...ends);
      if (random.chance(0.4)) textarea.type(random.text(3));
      if (random.chance(0.4)) ben.document.edit(random.operation(ben.text));
      if (random.chance(0.1) && !isComposing) textarea.press("z", { shiftKey: random.chance(0.3) });
      if (random.chance(0.2)) {
        isComposing = !isComposing;
        textarea.dispatchEvent(new Event(isComposing ? "compositionstart" : "compositionend"));
      }
      pass(random.upTo(20));
      if (!isComposing) assert.equal(textarea.value, ann.text, `seed ${seed}`);
    }
    textarea.dispatchEvent(new Event("compositionend"));
    pass(1000);
    assert.deepEqual([textarea.value, ben.text], [relay.text, relay.text], `seed ${seed}`);
  }
});
