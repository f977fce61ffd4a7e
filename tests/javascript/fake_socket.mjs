// A WebSocket that the test plays: what the client sends is kept, and what the relay and the network do is called.

let sockets = [];

/** The sockets that are opened from now on, in order. */
export function openedSockets() {
  sockets = [];
  return sockets;
}

export class FakeSocket {
  readyState = 0;
  sent = [];
  closed = false;

  constructor(url) {
    this.url = new URL(url);
    sockets.push(this);
  }

  send(buffer) {
    this.sent.push(new DataView(buffer));
  }

  close() {
    this.closed = true;
  }

  // What the relay and the network do.

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  tell(record) {
    this.onmessage?.({ data: record });
  }

  lose(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}
