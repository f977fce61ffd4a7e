// The line below the map: how much of the game is known, what that costs, and how far the own player sees.

const element = (id) => document.getElementById(id);

export class Figures {
  /** `look(cells)` is called to see so many cells farther. */
  constructor(look) {
    element("view-less").addEventListener("click", () => look(-1));
    element("view-more").addEventListener("click", () => look(1));
  }

  hide() {
    element("figures").hidden = true;
  }

  /**
   * `known` of `players` have a place here; `bytesPerSecond` come in, as `positions` per frame. `layout` and `tickHz` say what they would cost
   * if everybody were told of everybody. With views, `level` is null where the relay does not tell it.
   */
  show({ known, players, bytesPerSecond, positions, layout, tickHz, sight }) {
    element("figures").hidden = false;
    const ofAll = `of ${numberText(players)} ${players === 1 ? "player" : "players"}`;
    element("figures-known").replaceChildren("Known ", strong(`${numberText(known)} ${ofAll}`));
    const bytes = [strong(bytesText(bytesPerSecond)), " in"];
    if (sight.isLimited) {
      const everything = players * positionBytes(layout) * tickHz;
      bytes.push(`; without views about ${bytesText(everything)} if all move (computed: ${numberText(players)} × ${positionBytes(layout)} bytes × ${tickHz} Hz)`);
    }
    element("figures-bytes").replaceChildren(...bytes);
    element("figures-positions").replaceChildren(strong(positions === null ? "–" : positions.toFixed(1)), " positions per frame");
    this.#showView(layout, sight);
  }

  #showView(layout, sight) {
    element("view").hidden = !sight.isLimited;
    if (!sight.isLimited) return;
    element("view-level").textContent = sight.level === null ? "" : `Crowd level ${sight.level}`;
    element("view-radius").value = `View ${sight.radius} of ${layout.radiusMax}`;
    element("view-less").disabled = sight.radius <= 1;
    element("view-more").disabled = sight.radius >= layout.radiusMax;
  }
}

/** How long a player's place is in a frame. */
function positionBytes({ number, axes, poseBytes }) {
  const width = number === "u16" ? 2 : 4; // of the id, and of each coordinate
  return width * (1 + axes) + poseBytes;
}

export function bytesText(bytesPerSecond) {
  const [value, unit] = inUnits(bytesPerSecond);
  return `${value} ${unit}`;
}

/** [value, unit] */
export function inUnits(bytesPerSecond) {
  if (bytesPerSecond >= 999_500) return [(bytesPerSecond / 1e6).toFixed(1), "MB/s"];
  return bytesPerSecond >= 1000 ? [(bytesPerSecond / 1000).toFixed(1), "kB/s"] : [bytesPerSecond.toFixed(0), "B/s"];
}

function numberText(value) {
  return value.toLocaleString("en");
}

function strong(text) {
  return Object.assign(document.createElement("b"), { textContent: text });
}
