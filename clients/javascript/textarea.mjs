// A text area that shows a SharedDocument of documents.mjs, and edits it:
//
//   const unbind = bindTextarea(shared, document.querySelector("textarea"));
//
// The user's selection and scrolling stay where they are when others edit. Undo and redo are the document's: they take back what
// this user did. The element can only be read until the text has come, and when the document is over.

import {
  apply,
  compose,
  diff,
  invert,
  isInsert,
  scalarLength,
  scalarToUtf16,
  transform,
  transformCursor,
  utf16ToScalar,
  wellFormed,
} from "./operations.mjs";

/** Returns a function that unbinds; the element then keeps the text. */
export function bindTextarea(shared, textarea) {
  const binding = new Binding(shared, textarea);
  return () => binding.end();
}

class Binding {
  #shared;
  #textarea;
  /** What the element showed when the document was last told of it. */
  #shown;
  /** What has become of the document since, while an input method composes: it would lose its text if the element changed. */
  #unshown = [];
  #isComposing = false;
  /** The document's change comes from the element. */
  #isTyping = false;
  /** The document's change is an undo or a redo. */
  #isStepping = false;
  #wasReadOnly;
  #ends = new AbortController();

  constructor(shared, textarea) {
    this.#shared = shared;
    this.#textarea = textarea;
    this.#wasReadOnly = textarea.readOnly;
    this.#shown = visible(shared.text);
    textarea.value = this.#shown;
    this.#showState();
    const forget = shared.listen({ changed: (change) => this.#changed(change), state: () => this.#showState() });
    this.#ends.signal.addEventListener("abort", forget);
    this.#on(textarea, "input", () => this.#typed());
    this.#on(textarea, "compositionstart", () => (this.#isComposing = true));
    this.#on(textarea, "compositionend", () => {
      this.#isComposing = false;
      this.#typed();
    });
    this.#on(textarea, "keydown", (event) => this.#key(event));
    this.#on(textarea, "beforeinput", (event) => this.#menu(event));
    this.#on(textarea, "focus", () => this.#tellCursor());
    this.#on(textarea.ownerDocument, "selectionchange", () => this.#tellCursor());
  }

  end() {
    this.#ends.abort();
    this.#shared.setCursor(null);
    this.#textarea.readOnly = this.#wasReadOnly;
  }

  #on(target, event, handle) {
    target.addEventListener(event, handle, { signal: this.#ends.signal });
  }

  #showState() {
    this.#textarea.readOnly = this.#wasReadOnly || !this.#shared.isWritable;
  }

  // ---------------------------------------------------------------------------------------------- from the element

  #typed() {
    if (this.#isComposing) return;
    const { value, selectionEnd } = this.#textarea;
    const before = this.#shown;
    const edit = diff(before, value, selectionEnd);
    const [unshown, operation] = transform(this.#unshown, edit);
    const wasUnshown = this.#unshown;
    this.#unshown = [];
    this.#shown = wellFormed(value);
    if (this.#shown !== value) this.#put(this.#shown, this.#selection());
    if (this.#edit(operation)) {
      this.#show(unshown, false);
    } else {
      this.#show(invert(before, edit), false);
      this.#show(wasUnshown, false);
    }
    this.#tellCursor();
  }

  /** Returns false if the document does not take it. */
  #edit(operation) {
    if (!this.#shared.isWritable) return operation.length === 0;
    this.#isTyping = true;
    try {
      return this.#shared.edit(operation);
    } finally {
      this.#isTyping = false;
    }
  }

  #key(event) {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key === "z") this.#step(event, event.shiftKey);
    if (key === "y" && !event.shiftKey) this.#step(event, true);
  }

  /** Undo and redo of the browser's menus; the browser's own list knows nothing of what others did. */
  #menu(event) {
    if (event.inputType === "historyUndo") this.#step(event, false);
    if (event.inputType === "historyRedo") this.#step(event, true);
  }

  #step(event, isRedo) {
    event.preventDefault();
    if (this.#isComposing) return;
    this.#isStepping = true;
    if (isRedo) this.#shared.redo();
    else this.#shared.undo();
    this.#isStepping = false;
    this.#tellCursor();
  }

  #tellCursor() {
    if (this.#isComposing || this.#textarea.ownerDocument.activeElement !== this.#textarea) return;
    const { start, end, direction } = this.#selection();
    const ends = [start, end].map((index) => utf16ToScalar(this.#shown, index));
    // The caret is at the end that the user moves.
    if (direction !== "backward") ends.reverse();
    this.#shared.setCursor(...ends);
  }

  // ----------------------------------------------------------------------------------------------- to the element

  #changed({ operation, isOwn }) {
    if (this.#isTyping) return;
    const change = operation.map((component) => (isInsert(component) ? visible(component) : component));
    if (this.#isComposing) this.#unshown = compose(this.#unshown, change);
    else this.#show(change, isOwn);
  }

  #show(operation, isOwn) {
    if (operation.length === 0) return;
    const before = this.#shown;
    this.#shown = apply(before, operation);
    const moved = (index) => {
      const position = this.#isStepping ? endOf(operation) : transformCursor(utf16ToScalar(before, index), operation, isOwn);
      return scalarToUtf16(this.#shown, position);
    };
    const { start, end, direction } = this.#selection();
    this.#put(this.#shown, { start: moved(start), end: moved(end), direction });
  }

  #selection() {
    const { selectionStart: start, selectionEnd: end, selectionDirection: direction } = this.#textarea;
    return { start, end, direction };
  }

  #put(text, { start, end, direction }) {
    const { scrollTop, scrollLeft } = this.#textarea;
    this.#textarea.value = text;
    this.#textarea.setSelectionRange(start, end, direction);
    this.#textarea.scrollTop = scrollTop;
    this.#textarea.scrollLeft = scrollLeft;
  }
}

/** A text area makes line feeds of carriage returns, and positions would not be the document's. */
function visible(text) {
  return text.replaceAll("\r", "\u240d");
}

/** Where the last change ends in the text behind it. */
function endOf(operation) {
  return operation.reduce((end, component) => end + (isInsert(component) ? scalarLength(component) : Math.max(component, 0)), 0);
}
