// What codes and refusals mean, for people.

const CLOSE_WORDS = {
  bye: "closed as asked",
  idle: "nothing was heard from this page for too long",
  kicked: "an operator removed you",
  replaced: "another connection took your seat",
  protocol: "this client broke the WebSocket protocol",
  malformed: "too many malformed records",
  utf8: "a text message was not UTF-8",
  too_big: "a message was over the limit",
  unauthorized: "no token came with it, and it joined nothing in time",
  expired: "the token has expired: get a new one",
  abuse: "far over a rate limit",
  drain: "the relay shuts down or restarts",
  slow: "this page did not read fast enough",
  failed: "the relay has failed, and ends",
  overload: "the relay has no room for you",
};
const CLOSE_CODES = {
  1000: "closed as asked",
  1001: "going away",
  1002: "protocol error",
  1003: "data that the relay does not take",
  1005: "closed without a code",
  1006: "the connection broke, without a close",
  1007: "text that is not UTF-8",
  1008: "against the relay's policy",
  1009: "message too big",
  1011: "the relay failed",
  1012: "the relay restarts",
  1013: "try again later",
};

/** "1012 drain: the relay shuts down or restarts" */
export function closeText({ code, reason }) {
  const meaning = CLOSE_WORDS[reason] ?? CLOSE_CODES[code] ?? "a code of its own";
  return `${code}${reason ? ` ${reason}` : ""}: ${meaning}`;
}

/** Refusals before the WebSocket, by the reason word of /metrics. */
const REFUSALS = {
  bad_request: ["The relay could not read the request", "Something between this page and the relay changes it. Connect to the relay directly."],
  origin: ["The relay refuses this page's origin", "Add it to the relay's configuration: allowed_origins = [\"{origin}\"]"],
  token: ["The relay wants a token", "Mint one with `corelay token --sub you --topics 'game:*' --jwt-key-file …` and paste it under “Relay and token”."],
  not_found: ["The relay does not know this path", "This relay does not serve this dialect, or the game's name is not one: try the other dialect."],
  address_limit: ["Too many connections from this address", "Close other tabs, or raise connections_per_address."],
  full: ["The relay or the game is full", "Wait until somebody leaves, or raise connections_max or players_max."],
  draining: ["The relay is shutting down", "Wait until it is up again, then join."],
};

/** What kept a page from joining, in three sentences: what happened, what is known, what to do. */
export function troubleOf(finding, { relay, origin }) {
  switch (finding.kind) {
    case "address":
      return [`“${relay}” is no relay address`, "It begins with ws:// or wss://, then a host and a port.", "For a relay on this machine: ws://127.0.0.1:4000"];
    case "denied":
      return ["The relay denied the join", `Its answer: ${finding.reason}.`, deniedRemedy(finding.reason)];
    case "closed":
      return ["The relay closed the connection", `${closeText(finding)}.`, "Change what is wrong, or simply join again."];
    case "refused": {
      const [title, remedy] = REFUSALS[finding.reason] ?? [`The relay refused the connection: ${finding.reason}`, "See the relay's log."];
      return [title, `It counted a refusal with the reason “${finding.reason}”.`, remedy.replace("{origin}", origin)];
    }
    case "starting":
      return [`The relay is ${finding.phase}`, `Its /readyz answers “${finding.phase}”.`, "Wait a moment, then join."];
    case "answers":
      return [
        "The relay lets this page not in",
        `Something answers at ${relay}, but refuses the connection; a browser does not say why.`,
        `Most likely this page's origin is not allowed there (allowed_origins must name ${origin}), or it wants a token: ` +
          "paste one under “Relay and token”. The relay's log and its /metrics say which.",
      ];
    case "gone":
      return ["The relay does not run any more", "Not even this page's own server answers.", "Start corelay again, then join."];
    case "mixed":
      return [
        "A page that came by https may not use ws://",
        `The browser lets this page connect by wss:// only, and ${relay} is ws://.`,
        finding.right
          ? `Write ${finding.right} under “Relay and token”.`
          : "Give the relay listen_tls and a [[certificate]], or have the proxy pass /play/ and /socket/ on to it, and write its wss:// address under “Relay and token”.",
      ];
    case "speaks_tls":
      return ["That port speaks TLS", `${relay} is the relay's listen_tls.`, `Write ${finding.right} under “Relay and token”.`];
    case "speaks_no_tls":
      return ["That port speaks no TLS", `${relay} is the relay's listen.`, `Write ${finding.right} under “Relay and token”.`];
    case "untrusted":
      return [
        "This browser does not trust the relay's certificate",
        `Something answers at ${relay}, but its certificate is self-signed, expired or for another name; a page is not told which.`,
        `If it is yours, open ${trustUrl(relay)} once in this browser, accept the warning, and join again.`,
      ];
    default:
      return [
        "Nothing answers there",
        `No connection to ${relay}${finding.own?.length ? `; this page's relay listens on ${finding.own.join(" and ")}` : ""}.`,
        "Check the address and port, whether the relay runs, and whether a firewall is between." +
          (pageToTrust(finding, relay) ? ` Or this browser does not trust its certificate: then open ${trustUrl(relay)} once and accept the warning.` : ""),
      ];
  }
}

/** What to open to accept the certificate of a relay that may have one of its own; null: that is not what is wrong. */
export function pageToTrust({ kind }, relay) {
  return ["untrusted", "unreachable"].includes(kind) && relay.startsWith("wss:") && URL.canParse(relay) ? trustUrl(relay) : null;
}

/** Without a user's name: what stands before an @ looks like a host to whoever reads it. */
function trustUrl(relay) {
  return `https://${new URL(relay).host}/`;
}

function deniedRemedy(reason) {
  if (/unauthori|token|expired/.test(reason)) return REFUSALS.token[1];
  if (/unmatched/.test(reason)) return "This relay does not know game topics: try the native dialect.";
  if (/rate/.test(reason)) return "Wait a moment, then join.";
  return "Change what is wrong, then join again.";
}
