// Pacing against a relay that ticks and a way to it that the test makes up; times are numbers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Pacing } from "../../clients/javascript/pacing.mjs";
import { Random } from "./random.mjs";

/** Plays `seconds`: { sends: times of sending, slacks: of the Acks, in order, ahead: of the last second }. */
function play({ seconds = 20, tickHz = 20, firstTickMs = 17, wayMs = () => 30, backMs = 30, timerMs = () => 0, acks = () => true, drift = 0, hidden = () => false }) {
  const pacing = new Pacing();
  const tickMs = (1000 / tickHz) * (1 + drift);
  const [sends, slacks, answers] = [[], [], []];
  let [inputSeq, noticedAt] = [65_500, 0];
  pacing.start(tickHz, 0);
  for (let now = 0; now < seconds * 1000; now += 0.5) {
    while (answers[0]?.at <= now) pacing.ack(answers.shift());
    if (now < noticedAt || hidden(now)) continue;
    if (!pacing.isDue(now)) {
      noticedAt = now + pacing.waitMs(now) + timerMs();
      continue;
    }
    inputSeq = (inputSeq + 1) & 0xffff;
    pacing.sent(inputSeq, now);
    sends.push(now);
    const arrives = now + wayMs(now);
    const tick = firstTickMs + Math.ceil((arrives - firstTickMs) / tickMs) * tickMs;
    slacks.push({ at: now, slackMs: tick - arrives });
    if (acks(now)) answers.push({ at: tick + backMs, inputSeq, slackMs: Math.round((tick - arrives) * 10) / 10 });
    answers.sort((one, other) => one.at - other.at);
  }
  const after = (ms) => slacks.filter(({ at }) => at > ms).map(({ slackMs }) => slackMs);
  return { sends, after, pacing, gaps: sends.slice(1).map((at, index) => at - sends[index]) };
}

const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;

test("from any phase, slack comes to 3 ms on an even way, within 2 s", () => {
  for (let firstTickMs = 0; firstTickMs < 50; firstTickMs += 3) {
    const { after } = play({ firstTickMs, seconds: 10 });
    assert(after(2_000).every((slackMs) => slackMs > 2 && slackMs < 4.1), `phase ${firstTickMs}: ${Math.min(...after(2_000))} to ${Math.max(...after(2_000))}`);
  }
});

test("with jitter, slack is twice of it and 3 ms, and few inputs miss their tick", () => {
  for (let seed = 1; seed <= 10; seed++) {
    const random = new Random(seed);
    // Mean absolute deviation of a uniform 8 ms is 2 ms, so the middle of the slacks is to be at 7.
    const { after, pacing } = play({ wayMs: () => 30 + 8 * random.next(), firstTickMs: 5 * seed });
    const slacks = after(5_000);
    assert(Math.abs(mean(slacks) - 7) < 2, `seed ${seed}: ${mean(slacks)}`);
    assert(slacks.every((slackMs) => slackMs < 20), `seed ${seed}`);
    assert(Math.abs(pacing.at(20_000).jitterMs - 2) < 0.6, `seed ${seed}: ${pacing.at(20_000).jitterMs}`);
  }
});

test("what timers are late belongs to the way", () => {
  const random = new Random(5);
  const { after } = play({ timerMs: () => 4 * random.next() });
  const slacks = after(5_000);
  assert(slacks.every((slackMs) => slackMs < 12), `${Math.max(...slacks)}`);
  assert(mean(slacks) > 3 && mean(slacks) < 7, `${mean(slacks)}`);
});

test("the time between two sendings changes by 2 ms at most", () => {
  const { gaps } = play({ firstTickMs: 40 });
  assert(gaps.every((ms) => ms >= 47.5 && ms <= 52.5), `${Math.min(...gaps)} to ${Math.max(...gaps)}`);
});

test("without Acks sending is even", () => {
  const { gaps, pacing } = play({ acks: () => false });
  assert(gaps.every((ms) => ms === 50));
  assert.equal(pacing.at(20_000), null);
});

test("Acks that end leave the last phase, then an even spacing", () => {
  const random = new Random(1);
  const { gaps, pacing } = play({ seconds: 40, wayMs: () => 30 + 10 * random.next(), acks: (now) => now < 10_000 });
  assert(gaps.slice(100, 190).some((ms) => ms !== 50));
  assert(gaps.slice(-300).every((ms) => ms === 50 || Math.abs(ms - 50) === 0.5), `${gaps.slice(-300)}`);
  assert.equal(pacing.at(40_000), null);
});

test("it follows clocks that drift, and a way that gets longer", () => {
  const drifting = play({ seconds: 120, drift: 2e-4 }).after(5_000);
  assert(drifting.every((slackMs) => slackMs > 1 && slackMs < 6), `${Math.min(...drifting)} to ${Math.max(...drifting)}`);
  const longer = play({ seconds: 60, wayMs: (now) => (now < 20_000 ? 30 : 48) }).after(30_000);
  assert(longer.every((slackMs) => slackMs > 2 && slackMs < 5), `${Math.min(...longer)} to ${Math.max(...longer)}`);
});

test("a timer that was held back brings one sending, and the phase is kept", () => {
  const { gaps, after } = play({ hidden: (now) => now > 5_000 && now < 8_300 });
  assert.equal(gaps.filter((ms) => ms < 40).length <= 1, true);
  assert(gaps.some((ms) => ms > 3_000));
  assert(after(9_000).every((slackMs) => slackMs > 2 && slackMs < 4.5));
});

test("Acks of inputs that it does not know, and sendings that were none, are passed over", () => {
  const pacing = new Pacing();
  pacing.start(20, 0);
  pacing.sent(null, 0);
  for (let inputSeq = 0; inputSeq < 100; inputSeq++) pacing.ack({ inputSeq, slackMs: 10 });
  assert.equal(pacing.at(0), null);
});
