// What can be done with a message or a member: a menu beside the button that opens it.

const MARGIN = 6;

export class Menu {
  #box = document.getElementById("chat-menu");
  #opener = null;

  constructor() {
    this.#box.addEventListener("toggle", ({ newState }) => {
      if (newState === "open") return;
      this.#opener?.setAttribute("aria-expanded", "false");
      this.#opener = null;
    });
    this.#box.addEventListener("keydown", (event) => this.#walk(event));
    addEventListener("resize", () => this.close());
  }

  /** `items`: [{text, act, isGrave}], `label`: what they are about. */
  open(opener, label, items) {
    this.#opener = opener;
    opener.setAttribute("aria-expanded", "true");
    this.#box.setAttribute("aria-label", label);
    this.#box.replaceChildren(...items.map((item) => this.#item(item)));
    this.#box.showPopover();
    this.#place(opener.getBoundingClientRect());
    this.#box.firstElementChild?.focus();
  }

  close() {
    this.#box.hidePopover();
  }

  #item({ text, act, isGrave }) {
    const item = document.createElement("button");
    item.type = "button";
    item.role = "menuitem";
    item.textContent = text;
    item.classList.toggle("grave", Boolean(isGrave));
    item.addEventListener("click", () => {
      this.close();
      act();
    });
    return item;
  }

  /** Below the opener where there is space, else above; never beside the window. */
  #place({ top, bottom, right }) {
    const { offsetWidth: width, offsetHeight: height } = this.#box;
    const below = bottom + MARGIN + height <= innerHeight;
    this.#box.style.setProperty("top", `${Math.max(MARGIN, below ? bottom + 2 : top - height - 2)}px`);
    this.#box.style.setProperty("left", `${Math.max(MARGIN, right - width)}px`);
  }

  #walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const items = [...this.#box.children];
    items.at((items.indexOf(document.activeElement) + step) % items.length)?.focus();
  }
}
