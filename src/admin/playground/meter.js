// Counts what crosses a WebSocket, makes the network worse than it is, and turns counts into rates.

/** The network as the page wants it to seem. */
export class Network {
  /** Milliseconds that a message and its answer take longer together. */
  addedLatencyMs = 0;
  #cutUntil = 0;
  #sockets = new Set();

  /** Loses every connection, and lets none come about for so long. */
  cut(ms) {
    this.#cutUntil = performance.now() + ms;
    for (const lose of this.#sockets) lose();
    this.#sockets.clear();
  }

  get isCut() {
    return performance.now() < this.#cutUntil;
  }

  /** `lose` is called when the connection is lost; returns what to call when it has ended otherwise. */
  join(lose) {
    this.#sockets.add(lose);
    return () => this.#sockets.delete(lose);
  }
}

/** A class like WebSocket over `network`, whose instances count their payload bytes into `traffic`: {in, out}. */
export function meteredWebSocket(traffic, network) {
  return class MeteredWebSocket {
    onopen = null;
    onmessage = null;
    onclose = null;
    onerror = null;
    #socket = null;
    #isOver = false;
    #in = new Line(network);
    #out = new Line(network);

    constructor(url, protocols) {
      this.url = String(url);
      if (network.isCut) {
        setTimeout(() => this.#end({ code: 1006, reason: "" }, true), 0);
        return;
      }
      try {
        this.#socket = new WebSocket(url, protocols);
      } catch {
        // The browser does not even try, as with ws:// from a page that came by https.
        setTimeout(() => this.#end({ code: 1006, reason: "" }, true), 0);
        return;
      }
      // A page cannot end a connection without a goodbye: what is lost goes on unheard, until the relay has enough of it.
      const left = network.join(() => this.#end({ code: 1006, reason: "" }, true));
      this.#socket.onopen = (event) => this.#in.pass(() => this.#isOver || this.onopen?.(event));
      this.#socket.onmessage = (event) =>
        this.#in.pass(() => {
          if (this.#isOver) return;
          traffic.in += bytesOf(event.data);
          this.onmessage?.(event);
        });
      this.#socket.onerror = (event) => this.#isOver || this.onerror?.(event);
      this.#socket.onclose = ({ code, reason }) => {
        left();
        this.#in.pass(() => this.#end({ code, reason }, false));
      };
    }

    get readyState() {
      return this.#isOver ? WebSocket.CLOSED : (this.#socket?.readyState ?? WebSocket.CONNECTING);
    }

    get protocol() {
      return this.#socket?.protocol ?? "";
    }

    get bufferedAmount() {
      return this.#socket?.bufferedAmount ?? 0;
    }

    get binaryType() {
      return this.#socket?.binaryType ?? "blob";
    }

    set binaryType(type) {
      if (this.#socket) this.#socket.binaryType = type;
    }

    send(data) {
      traffic.out += bytesOf(data);
      this.#out.pass(() => this.readyState === WebSocket.OPEN && this.#socket.send(data));
    }

    close(code, reason) {
      this.#out.pass(() => this.#isOver || this.#socket?.close(code, reason));
    }

    #end(close, isError) {
      if (this.#isOver) return;
      this.#isOver = true;
      if (isError) this.onerror?.(new Event("error"));
      this.onclose?.({ ...close, wasClean: !isError });
    }
  };
}

/** One direction of a connection: what passes takes its time, and overtakes nothing. */
class Line {
  #network;
  #waiting = [];

  constructor(network) {
    this.#network = network;
  }

  pass(arrive) {
    const delayMs = this.#network.addedLatencyMs / 2;
    if (delayMs === 0 && this.#waiting.length === 0) return arrive();
    this.#waiting.push(arrive);
    setTimeout(() => this.#waiting.shift()(), delayMs);
  }
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
