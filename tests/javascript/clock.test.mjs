// RelayClock against a relay and a network that the test makes up; times are numbers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { RelayClock } from "../../clients/javascript/clock.mjs";
import { Random } from "./random.mjs";

const RELAY_AHEAD_MS = 1_798_761_600_000;

/** A relay whose clock runs `drift` faster, behind ways of `thereMs()` and `backMs()`. */
class Network {
  now = 1000;
  aheadMs = RELAY_AHEAD_MS;
  drift = 0;
  clock = new RelayClock();
  #onTheWay = [];

  constructor({ thereMs, backMs }) {
    Object.assign(this, { thereMs, backMs });
  }

  relayMs(at = this.now) {
    return this.aheadMs + at * (1 + this.drift);
  }

  get errorMs() {
    return this.clock.usAt(this.now) / 1000 - this.relayMs();
  }

  welcome() {
    this.clock.welcome(this.relayMs(this.now - this.backMs()) * 1000, this.now);
  }

  /** Lets `ms` pass; `each` is called every 10 ms. */
  pass(ms, each = () => {}) {
    for (const end = this.now + ms; this.now < end; this.now += 10) {
      if (this.clock.isPingDue(this.now)) {
        const arrives = this.now + this.thereMs();
        this.#onTheWay.push({ sentAtMs: this.now, receivedAtMs: arrives + this.backMs(), serverTimeUs: this.relayMs(arrives) * 1000 });
      }
      for (const pong of this.#onTheWay.filter(({ receivedAtMs }) => receivedAtMs <= this.now)) this.clock.pong(pong);
      this.#onTheWay = this.#onTheWay.filter(({ receivedAtMs }) => receivedAtMs > this.now);
      each();
    }
  }
}

test("it is right within half a round trip, and asks 8 times in 10 s", () => {
  const network = new Network({ thereMs: () => 10, backMs: () => 40 });
  assert(!network.clock.isSet);
  network.welcome();
  assert(Math.abs(network.errorMs + 40) < 1, "a Welcome is as old as the way back is long");
  network.pass(3_000);
  assert(Math.abs(network.errorMs) <= 26, `${network.errorMs} ms`);
  assert(network.clock.errorMsAt(network.now) >= Math.abs(network.errorMs));
  let pings = 0;
  for (const end = network.now + 10_000; network.now < end; network.now += 10) pings += network.clock.isPingDue(network.now) ? 1 : 0;
  assert.equal(pings, 8);
});

test("jitter, also where most of it is on one way, does it no harm", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = new Random(seed);
    const network = new Network({ thereMs: () => 20, backMs: () => 20 + (random.chance(0.7) ? 300 * random.next() : 2 * random.next()) });
    network.welcome();
    network.pass(20_000);
    let worst = 0;
    network.pass(60_000, () => (worst = Math.max(worst, Math.abs(network.errorMs))));
    assert(worst < 40, `seed ${seed}: ${worst} ms`);
  }
});

test("what all Pongs prove together is better than what the quickest says alone", () => {
  const clock = new RelayClock();
  // Both ways of 40 ms are all one way: one there, one back. The truth is 1,000,000.
  clock.pong({ sentAtMs: 0, receivedAtMs: 40, serverTimeUs: (1_000_000 + 40) * 1000 });
  clock.pong({ sentAtMs: 1000, receivedAtMs: 1041, serverTimeUs: (1_000_000 + 1000) * 1000 });
  clock.pong({ sentAtMs: 2000, receivedAtMs: 2042, serverTimeUs: (1_000_000 + 2000) * 1000 });
  const later = 10_000;
  assert(Math.abs(clock.usAt(later) / 1000 - later - 1_000_000) <= 2.5, `${clock.usAt(later) / 1000 - later}`);
  assert(clock.errorMsAt(2050) < 25);
});

test("it follows a clock that drifts, without jumps, at 96 to 104 % of the speed, and never backwards", () => {
  for (const drift of [150e-6, -150e-6]) {
    const random = new Random(3);
    const network = new Network({ thereMs: () => 15 + 30 * random.next(), backMs: () => 15 + 30 * random.next() });
    network.drift = drift;
    network.welcome();
    network.pass(5_000);
    const { jumps } = network.clock;
    let [last, worst] = [network.clock.usAt(network.now - 10), 0];
    network.pass(300_000, () => {
      const us = network.clock.usAt(network.now);
      const speed = (us - last) / 10_000;
      assert(speed > 0.9599 && speed < 1.0401, `${speed}`);
      last = us;
      worst = Math.max(worst, Math.abs(network.errorMs));
    });
    assert.equal(network.clock.jumps, jumps);
    assert(worst < 32, `${worst} ms`);
  }
});

test("after a suspension, which the local clock did not count, it jumps once", () => {
  const network = new Network({ thereMs: () => 20, backMs: () => 20 });
  network.welcome();
  network.pass(15_000);
  const { jumps } = network.clock;
  network.aheadMs += 3_600_000;
  network.pass(1_500);
  assert.equal(network.clock.jumps, jumps + 1);
  assert(Math.abs(network.errorMs) < 2, `${network.errorMs} ms`);
  network.pass(30_000);
  assert.equal(network.clock.jumps, jumps + 1);
});

test("another relay's Welcome makes it begin anew, the same one's does not", () => {
  const network = new Network({ thereMs: () => 20, backMs: () => 20 });
  network.welcome();
  network.pass(5_000);
  const { jumps } = network.clock;
  network.welcome();
  assert.equal(network.clock.jumps, jumps);
  network.aheadMs -= 5_000;
  network.welcome();
  assert.equal(network.clock.jumps, jumps + 1);
  network.pass(1_000);
  assert(Math.abs(network.errorMs) < 2, `${network.errorMs} ms`);
});

test("a Pong from before its Ping is passed over", () => {
  const clock = new RelayClock();
  clock.pong({ sentAtMs: 10, receivedAtMs: 5, serverTimeUs: 1 });
  clock.pong({ sentAtMs: 10, receivedAtMs: NaN, serverTimeUs: 1 });
  assert(!clock.isSet);
  assert.equal(clock.errorMsAt(0), Infinity);
});

test("tick n is at tick0 and n ticks", () => {
  const clock = new RelayClock();
  clock.pong({ sentAtMs: 0, receivedAtMs: 0, serverTimeUs: 5_000_000 });
  assert.equal(clock.tickAt(100, { tick0Us: 4_000_000 }, 20), 22);
});
