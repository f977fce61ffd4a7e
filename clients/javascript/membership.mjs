// One membership of a topic: what is pushed and what is waited for in it ends with it.

export class Membership {
  #channel;
  #socket;
  #timers = new Set();
  #isOver = false;

  constructor(channel, socket) {
    this.#channel = channel;
    this.#socket = socket;
  }

  /** `answered` gets "ok", "error" or "timeout", and the response; nothing when the membership is over. */
  push(event, payload, answered) {
    // phoenix would keep it for the next membership.
    if (this.#isOver || this.#channel.state !== "joined" || !this.#socket.isConnected()) return;
    const push = this.#channel.push(event, payload);
    for (const status of ["ok", "error", "timeout"]) push.receive(status, (response) => this.#isOver || answered(status, response));
  }

  later(ms, run) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      run();
    }, ms);
    this.#timers.add(timer);
  }

  end() {
    this.#isOver = true;
    for (const timer of this.#timers) clearTimeout(timer);
  }
}
