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
  const start = (run, ms, again) => {
    const timer = { run, ms, again, at: now + ms };
    timers.add(timer);
    return timer;
  };
  // Node's own mock of timers (in 20) goes on with an interval that is cleared while it runs.
  mock.method(globalThis, "setTimeout", (run, ms = 0) => start(run, ms, false));
  mock.method(globalThis, "setInterval", (run, ms) => start(run, ms, true));
  for (const clear of ["clearTimeout", "clearInterval"]) mock.method(globalThis, clear, (timer) => timers.delete(timer));
}

/** Lets `ms` pass, with everything that is due in it; what is due at one time happens in the order in which it was begun. */
export function pass(ms) {
  const end = now + ms;
  for (;;) {
    let next = null;
    for (const timer of timers) if (timer.at <= end && (next === null || timer.at < next.at)) next = timer;
    if (next === null) break;
    now = Math.max(now, next.at);
    if (next.again) next.at += next.ms;
    else timers.delete(next);
    next.run();
  }
  now = end;
}
