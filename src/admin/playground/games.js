// The games that run, below the form: asked for while somebody sees them.

const INTERVAL_MS = 3000;

export class Games {
  #section = document.getElementById("games");
  #list = document.getElementById("games-list");
  #more = document.getElementById("games-more");
  #rows = new Map();
  #isSeen;
  #choose;

  /** `isSeen()`: whether the list is on the screen; `choose(name)` is called with the game that is clicked. */
  constructor(isSeen, choose) {
    this.#isSeen = () => document.visibilityState === "visible" && isSeen();
    this.#choose = choose;
    setInterval(() => this.refresh(), INTERVAL_MS);
    document.addEventListener("visibilitychange", () => this.refresh());
  }

  async refresh() {
    if (!this.#isSeen()) return;
    let answer = null;
    try {
      const response = await fetch("/games.json", { cache: "no-store" });
      if (response.ok) answer = await response.json();
    } catch {
      // Nobody answers: there is nothing to show.
    }
    this.#show(answer?.games ?? [], answer?.cut ?? false);
  }

  hide() {
    this.#show([], false);
  }

  #show(games, isCut) {
    const focused = document.activeElement;
    const rows = games.map(({ name, players }) => {
      const row = this.#rows.get(name) ?? this.#row(name);
      row.players.textContent = `${players} ${players === 1 ? "player" : "players"}`;
      return [name, row];
    });
    this.#rows = new Map(rows);
    const items = rows.map(([, { item }]) => item);
    // Who is about to click or has the focus here loses nothing while the order stays.
    if (items.length !== this.#list.childElementCount || items.some((item, index) => item !== this.#list.children[index])) {
      this.#list.replaceChildren(...items);
      if (this.#list.contains(focused)) focused.focus({ preventScroll: true });
    }
    this.#section.hidden = games.length === 0;
    this.#more.hidden = !isCut;
  }

  #row(name) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    const [label, players] = ["name", "count"].map((className) => Object.assign(document.createElement("span"), { className }));
    label.textContent = name;
    button.append(label, " ", players);
    button.addEventListener("click", () => this.#choose(name));
    item.append(button);
    return { item, players };
  }
}
