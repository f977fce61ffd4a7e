// A time that the test moves: timers and performance.now.
import { mock } from "node:test";

let now = 0;
let timers = new Set();

/** To be called before each test. */
export function startTime() {
  mock.reset();
  now = 0;
  timers = new Set();
  mock.method(performance, "now", () => now);
  mock.method(globalThis, "setTimeout", (run, ms = 0) => {
    const timer = { run, at: now + ms };
    timers.add(timer);
    return timer;
  });
  mock.method(globalThis, "clearTimeout", (timer) => timers.delete(timer));
}

/** Lets `ms` pass, with everything that is due in it; what is due at one time happens in the order in which it was begun. */
export function pass(ms) {
  const end = now + ms;
  for (;;) {
    let next = null;
    for (const timer of timers) if (timer.at <= end && (next === null || timer.at < next.at)) next = timer;
    if (next === null) break;
    now = Math.max(now, next.at);
    timers.delete(next);
    next.run();
  }
  now = end;
}
