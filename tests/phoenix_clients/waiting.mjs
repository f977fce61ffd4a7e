// Waiting with a limit, and with a message that says for what.

/** How long a case waits for one thing. Nothing takes so long when all is well, on a busy machine neither. */
export const PATIENCE_MS = 5000;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What has come and nobody has taken yet, in order. */
export class Inbox {
  #items = [];
  #waiters = [];

  put(item) {
    const waiter = this.#waiters.find(({ matches }) => matches(item));
    if (waiter) {
      this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
      waiter.resolve(item);
    } else if (this.#waiters.length > 0) {
      for (const { passed } of this.#waiters) passed.push(item);
    } else {
      this.#items.push(item);
    }
  }

  /** The first item that matches, now or within `ms`. What comes in front of it is dropped. */
  take(what, matches = () => true, ms = PATIENCE_MS) {
    const at = this.#items.findIndex(matches);
    const passed = this.#items.splice(0, at < 0 ? this.#items.length : at + 1);
    if (at >= 0) return Promise.resolve(passed.at(-1));
    return new Promise((resolve, reject) => {
      const waiter = { matches, passed };
      const timer = setTimeout(() => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        const instead = passed.map((item) => JSON.stringify(item)?.slice(0, 300)).join(", ");
        reject(new Error(`awaited ${what} for ${ms} ms${instead && `; came instead: ${instead}`}`));
      }, ms);
      waiter.resolve = (item) => {
        clearTimeout(timer);
        resolve(item);
      };
      this.#waiters.push(waiter);
    });
  }
}

/** Until `condition()` is true. */
export async function until(what, condition, ms = PATIENCE_MS) {
  for (const end = Date.now() + ms; !condition(); await sleep(5)) {
    if (Date.now() > end) throw new Error(`awaited ${what} for ${ms} ms`);
  }
}
