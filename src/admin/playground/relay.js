// What the page's own server knows about its relay: where it listens, and why it refuses.

const ANSWER_MS = 5000;

/** {relay: "127.0.0.1:4000", version} or null when nobody answers. */
export async function aboutRelay() {
  try {
    return await (await fetch("/playground.json", { cache: "no-store" })).json();
  } catch {
    return null;
  }
}

/** Where a page at `location` reaches a relay that listens on `listen`. */
export function relayUrl(listen, location) {
  const colon = listen.lastIndexOf(":");
  const [host, port] = [listen.slice(0, colon), listen.slice(colon + 1)];
  const reachedAsThePage = ["0.0.0.0", "[::]", "127.0.0.1", "[::1]"].includes(host);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return `${scheme}://${reachedAsThePage ? location.hostname : host}:${port}`;
}

/** Map of reason → upgrades refused so far; empty when the counters cannot be read. */
export async function refusals() {
  const counts = new Map();
  try {
    const text = await (await fetch("/metrics", { cache: "no-store" })).text();
    for (const [, reason, count] of text.matchAll(/^corelay_refusals_total\{.*reason="(\w+)".*\} (\d+)$/gm))
      counts.set(reason, (counts.get(reason) ?? 0) + Number(count));
  } catch {
    // The caller learns it from /readyz.
  }
  return counts;
}

/** Whether two relay addresses are the same one: this machine has several names. */
export function isSameRelay(one, other) {
  const [a, b] = [new URL(one), new URL(other)];
  const isLoopback = ({ hostname }) => hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127.");
  return a.port === b.port && (a.hostname === b.hostname || (isLoopback(a) && isLoopback(b)));
}

/** Browsers do not say why a WebSocket failed. The relay's own pages do: a refusal counter that rose, or its phase. */
export async function whyRefused(before, relay) {
  let readiness;
  try {
    readiness = await fetch("/readyz", { cache: "no-store" });
  } catch {
    return { kind: "gone" };
  }
  if (!readiness.ok) return { kind: "starting", phase: (await readiness.text()).trim() };
  const after = await refusals();
  const reason = [...after.keys()].find((word) => after.get(word) > (before.get(word) ?? 0));
  return reason ? { kind: "refused", reason } : whoAnswers(relay);
}

/** Of a relay whose pages this is not: a page may not read what it answers, but learns whether it answers. */
export async function whoAnswers(relay) {
  try {
    await fetch(relay.replace(/^ws/, "http"), { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
    return { kind: "answers" };
  } catch {
    return { kind: "unreachable" };
  }
}
