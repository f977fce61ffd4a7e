// Texts that could not be saved, beside those that count instead. Each stays until somebody has dismissed it.

const COPIED_MS = 2000;

const element = (id) => document.getElementById(`text-${id}`);

export class Kept {
  #texts = [];
  #changed;

  constructor(changed) {
    this.#changed = changed;
    element("copy").addEventListener("click", () => this.#copy());
    element("dismiss").addEventListener("click", () => this.#dismiss());
  }

  get isEmpty() {
    return this.#texts.length === 0;
  }

  /** `theirs` is null when there is no other text; `why` is a sentence. */
  add({ mine, theirs, why }) {
    this.#texts.push({ mine, theirs, why });
    this.#show();
  }

  #dismiss() {
    this.#texts.pop();
    this.#show();
  }

  /** The newest; behind it are those before. */
  #show() {
    const text = this.#texts.at(-1);
    element("kept").hidden = text === undefined;
    this.#changed();
    if (!text) return;
    const { mine, theirs, why } = text;
    const more = this.#texts.length - 1;
    element("kept-why").textContent = more > 0 ? `${why} (${more} more behind this one.)` : why;
    element("mine").value = mine;
    element("theirs").value = theirs ?? "";
    element("theirs-field").hidden = theirs === null;
  }

  async #copy() {
    const button = element("copy");
    try {
      // Only pages of this machine, and those over HTTPS, may.
      await navigator.clipboard.writeText(element("mine").value);
      button.textContent = "Copied";
    } catch {
      element("mine").select();
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => (button.textContent = "Copy mine"), COPIED_MS);
  }
}
