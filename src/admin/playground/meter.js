// Counts what crosses a WebSocket, and turns counts into rates.

/** A WebSocket class whose instances count their payload bytes into `traffic`: {in, out}. */
export function meteredWebSocket(traffic) {
  return class MeteredWebSocket extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols);
      this.addEventListener("message", ({ data }) => (traffic.in += bytesOf(data)));
    }

    send(data) {
      traffic.out += bytesOf(data);
      super.send(data);
    }
  };
}

function bytesOf(data) {
  return typeof data === "string" ? new TextEncoder().encode(data).length : data.byteLength;
}

/** The rate of a growing count, over the last second or so. */
export class Rate {
  #count = 0;
  #at = performance.now();

  reset(count = 0) {
    this.#count = count;
    this.#at = performance.now();
  }

  /** Per second since the last call. */
  take(count) {
    const now = performance.now();
    const rate = ((count - this.#count) * 1000) / Math.max(1, now - this.#at);
    this.#count = count;
    this.#at = now;
    return rate;
  }
}

/** A minute of samples as the path of a `.spark` (60 × 20 units). */
export class Sparkline {
  #path;
  #samples = [];

  constructor(svg) {
    this.#path = svg.querySelector("path");
  }

  push(value) {
    this.#samples.push(value);
    if (this.#samples.length > 60) this.#samples.shift();
    const most = Math.max(...this.#samples, 1e-9);
    const first = 60 - this.#samples.length;
    const point = (sample, index) => `${first + index} ${(19 - (17 * sample) / most).toFixed(2)}`;
    this.#path.setAttribute("d", `M${this.#samples.map(point).join("L")}`);
  }

  clear() {
    this.#samples = [];
    this.#path.removeAttribute("d");
  }
}
