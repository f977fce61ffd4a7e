// What a room's refusals mean, and what is shown of texts that anybody may have written.

const REFUSALS = {
  forbidden: "only the author of a message may do this, or a moderator",
  muted: "a moderator has muted you",
  banned: "a moderator has banned you from this room",
  too_late: "the time for edits of this message is over",
  not_found: "the message is not there any more",
  rate_limited: "too much within a short time",
  overload: "too much waits in this room",
  storage_full: "the relay's disk is full",
  unavailable: "the relay's disk fails",
  unauthorized:
    "no token grants it. Mint one with `corelay token --sub you --topics 'game:*,room:*' --jwt-key-file …` and paste it under “Relay and token”",
  "unmatched topic": "a room's name has 1 to 64 of the characters A–Z a–z 0–9 _ - and dot",
  "too many channels joined": "this connection has joined too many topics",
  offline: "there is no connection to the room",
  timeout: "no answer came",
};
const FIELDS = { body: "the message", id: "the id", seq: "the number", user_id: "the user", seconds: "the time", client_id: "the message's mark" };
/** What may be tried again by itself, after the time that the relay names. */
const PASSING = new Set(["rate_limited", "overload", "storage_full", "unavailable"]);

/** Whether a refusal ends by itself. */
export function isPassing({ reason }) {
  return PASSING.has(reason);
}

/** One clause: "a moderator has muted you, for 58 s more". */
export function refusalText({ reason, errors, retry_after: retryAfterMs }) {
  if (errors) return Object.entries(errors).map(([field, faults]) => `${FIELDS[field] ?? field} ${[faults].flat().join(", ")}`).join("; ");
  const text = REFUSALS[reason] ?? String(reason ?? "the relay gave no reason");
  // What passes is counted down where it is shown.
  return retryAfterMs !== undefined && !isPassing({ reason }) ? `${text}, for ${durationText(retryAfterMs)} more` : text;
}

/** "58 s", "10 min", "3 h", "12 days" */
export function durationText(ms) {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.ceil(seconds / 3600)} h`;
  return `${Math.ceil(seconds / 86_400)} days`;
}

/** A text with its control characters as pictures of them: they would be nothing to see, or break lines of their own. */
export function visibleText(text) {
  const picture = (char) => (char === "\u007f" ? "\u2421" : char < " " ? String.fromCharCode(0x2400 + char.charCodeAt(0)) : "\ufffd");
  return String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029]/g, picture);
}

/** "14:03" of today, "29 Nov 14:03" of another day. */
export function timeText(unixMs) {
  const at = new Date(unixMs);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  if (at.toDateString() === new Date().toDateString()) return time;
  return `${at.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}

/** "Ann is typing", "Ann and Ben are typing", "4 are typing" */
export function typingText(names) {
  if (names.length === 0) return "";
  if (names.length > 3) return `${names.length} are typing`;
  const last = names.at(-1);
  return names.length === 1 ? `${last} is typing` : `${names.slice(0, -1).join(", ")} and ${last} are typing`;
}
