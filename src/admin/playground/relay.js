// What the page's own server knows about its relay: where it listens, and why it refuses.

const ANSWER_MS = 5000;
/** Beside the reasons of refusals: connections that ended because of what their client sent in TLS. */
const TLS = "tls";

/** {relay: "127.0.0.1:4000", relay_tls: the same or null, tls_names, development, version} or null when nobody answers. */
export async function aboutRelay() {
  try {
    return await (await fetch("/playground.json", { cache: "no-store" })).json();
  } catch {
    return null;
  }
}

/**
 * Where a page at `location` most likely reaches the relay that `about` tells of. By TLS: where nothing else is allowed, where the
 * other port is not reached from here, and where the relay is for players, who come by TLS.
 */
export function relayUrl(about, location) {
  const plain = listenerUrl("ws", about.relay, location.hostname);
  const isHttps = location.protocol === "https:";
  if (about.relay_tls === null) return isHttps ? `wss://${location.host}` : plain; // A proxy has TLS, and it passes on more than this page.
  const isOutOfReach = isLoopback(hostOf(about.relay)) && !isLoopback(location.hostname);
  if (!isHttps && about.development && !isOutOfReach) return plain;
  return secureUrl(about, location);
}

/** The relay's `listen_tls`, under a name that its certificates are for, if they tell. */
function secureUrl({ relay_tls: listen, tls_names: names }, { hostname }) {
  const isFor = (name) => name === hostname || (name.startsWith("*.") && hostname.slice(hostname.indexOf(".")) === name.slice(1));
  const isOfMachine = (name) => !name.includes(".") || name.endsWith(".localhost");
  const elsewhere = names.some(isFor) ? undefined : names.find((name) => !name.startsWith("*.") && !isOfMachine(name));
  return elsewhere ? `wss://${elsewhere}:${portOf(listen)}` : listenerUrl("wss", listen, hostname);
}

/** `listen` is "host:port", as a relay says it. */
function listenerUrl(scheme, listen, pageHost) {
  const reachedAsThePage = ["0.0.0.0", "[::]"].includes(hostOf(listen)) || isLoopback(hostOf(listen));
  return `${scheme}://${reachedAsThePage ? pageHost : hostOf(listen)}:${portOf(listen)}`;
}

const hostOf = (listen) => listen.slice(0, listen.lastIndexOf(":"));
const portOf = (listen) => listen.slice(listen.lastIndexOf(":") + 1);
const isLoopback = (host) => host === "localhost" || host === "[::1]" || /^127(\.\d+){3}$/.test(host);

/** Which of its own relay's ports an address is, for a page at `location`: "plain", "secure", "proxy"; null: none. */
export function ownListener(address, about, location) {
  if (about === null || !URL.canParse(address)) return null;
  const secure = about.relay_tls === null ? [] : [secureUrl(about, location), listenerUrl("wss", about.relay_tls, location.hostname)];
  if (secure.some((url) => isSamePlace(address, url))) return "secure";
  if (isSamePlace(address, listenerUrl("ws", about.relay, location.hostname))) return "plain";
  return isSamePlace(address, relayUrl(about, location)) ? "proxy" : null;
}

/** Whether two addresses are the same host and port: this machine has several names. */
function isSamePlace(one, other) {
  const [a, b] = [new URL(one), new URL(other)];
  const port = (url) => url.port || (url.protocol === "wss:" ? "443" : "80");
  return port(a) === port(b) && (a.hostname === b.hostname || (isLoopback(a.hostname) && isLoopback(b.hostname)));
}

/** Map of reason → upgrades refused so far; empty when the counters cannot be read. */
export async function refusals() {
  const counts = new Map();
  try {
    const text = await (await fetch("/metrics", { cache: "no-store" })).text();
    const add = (reason, count) => counts.set(reason, (counts.get(reason) ?? 0) + Number(count));
    for (const [, reason, count] of text.matchAll(/^corelay_refusals_total\{.*reason="(\w+)".*\} (\d+)$/gm)) add(reason, count);
    for (const [, count] of text.matchAll(/^corelay_tls_failures_total\S* (\d+)$/gm)) add(TLS, count);
  } catch {
    // The caller learns it from /readyz.
  }
  return counts;
}

/**
 * Why a connection to `relay` did not come about: {kind, …}, as `troubleOf` takes it. Browsers do not say why a WebSocket failed. The
 * relay's own pages do: a counter that rose since `before`, or its phase.
 */
export async function causeOf(relay, before, about, location) {
  const isSecure = relay.startsWith("wss:");
  if (location.protocol === "https:" && !isSecure && !(URL.canParse(relay) && isLoopback(new URL(relay).hostname))) {
    return { kind: "mixed", right: about?.relay_tls ? relayUrl(about, location) : null };
  }
  const own = ownListener(relay, about, location);
  if (own === "secure" && !isSecure) return { kind: "speaks_tls", right: relay.replace(/^ws:/, "wss:") };
  if (own === "plain" && isSecure) return { kind: "speaks_no_tls", right: relay.replace(/^wss:/, "ws:") };
  return own === null ? whoAnswers(relay, location) : whyRefused(before, relay, location);
}

async function whyRefused(before, relay, location) {
  let readiness;
  try {
    readiness = await fetch("/readyz", { cache: "no-store" });
  } catch {
    return { kind: "gone" };
  }
  if (!readiness.ok) return { kind: "starting", phase: (await readiness.text()).trim() };
  const after = await refusals();
  const reason = [...after.keys()].find((word) => after.get(word) > (before.get(word) ?? 0));
  if (reason === TLS) return { kind: "untrusted" };
  return reason ? { kind: "refused", reason } : whoAnswers(relay, location);
}

/** Of a relay whose pages this is not: a page may not read what it answers, but learns whether it answers. */
async function whoAnswers(relay, location) {
  const answers = async (url) => {
    try {
      await fetch(url, { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
      return true;
    } catch {
      return false;
    }
  };
  if (await answers(relay.replace(/^ws/, "http"))) return { kind: "answers" };
  // A port with TLS answers those, too, who come without: what is wrong is then its certificate.
  const isUntrusted = location.protocol === "http:" && relay.startsWith("wss:") && (await answers(relay.replace(/^wss:/, "http:")));
  return { kind: isUntrusted ? "untrusted" : "unreachable" };
}
